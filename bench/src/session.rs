//! One session: DPDK's driver and ours, both up, each on ports of its own, taking turns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sumac_devices::shared_bar::{PortIdentity, SharedBar, Watch};
use sumac_linux::cores::pin_current_thread;

use crate::control::{Control, ControlPage, Kind, Mode, Order, Window};
use crate::device_thread::{DeviceThread, Group, Ports};
use crate::dpdk::{CodePath, Dpdk, DpdkError};
use crate::plan::Row;
use crate::statistics::Sample;
use crate::third_party::{KNOWN_OF_DPDK, UNSEEN_ORDER};

/// What both drivers find: an 82599 on a KX4 backplane, which needs no module.
pub const DEVICE_ID: u16 = 0x10f7;

/// Which group of ports is whose.
const DPDK: usize = 0;
const OURS: usize = 1;
const PEERS: [&str; 2] = ["DPDK's driver", "our driver"];
/// Windows of a streaming order; the first [`WARM_UP`] do not count.
const WINDOWS: u32 = 24;
const WARM_UP: usize = 2;
/// How long an order may take before its peer is given up.
const ORDER_TIMEOUT: Duration = Duration::from_secs(20);

/// What ends a session early.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// DPDK's side.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
    /// The device's side.
    #[error(transparent)]
    Device(#[from] sumac_devices::shared_bar::SharedBarError),
    /// Our driver did not come up.
    #[error("our driver: {0}")]
    Ours(String),
    /// No shared memory.
    #[error("the control page: {0}")]
    Page(#[from] nix::errno::Errno),
    /// A peer does not finish.
    #[error("{peer} did not finish {row} in time")]
    Stuck {
        /// Who.
        peer: &'static str,
        /// What it was to do.
        row: String,
    },
    /// A driver broke the device's rules, so that its figures mean nothing.
    #[error("{peer} broke the device's rules: {violations}")]
    Violations {
        /// Who.
        peer: &'static str,
        /// Which, by name.
        violations: String,
    },
}

/// Where things run.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// The device's core.
    pub device_core: usize,
    /// The drivers' core.
    pub driver_core: usize,
    /// Ticks a streaming window lasts.
    pub window_ticks: u64,
}

/// What a session needs from outside: how to make ports, and how to bring our driver up on them.
pub trait Rig {
    /// Ports for a driver in another process.
    fn shared_ports(&self, bar: &SharedBar) -> Result<Box<dyn Ports>, SessionError>;
    /// Ports for our driver, and what brings it up, called on the thread it then runs on.
    fn own_ports(&self) -> Result<(Box<dyn Ports>, BringUp), SessionError>;
}

/// Brings our driver up, or says why not.
pub type BringUp = Box<dyn FnOnce() -> Result<Serve, String> + Send>;

/// Serves orders until told to end, with a driver that is up ([`crate::timing::serve`]). A closure, so
/// that the loops are compiled for the driver they time.
pub type Serve = Box<dyn FnOnce(&Control)>;

/// Both drivers, up.
pub struct Session {
    device: DeviceThread,
    dpdk: Dpdk,
    ours: Option<JoinHandle<()>>,
    pages: [Arc<ControlPage>; 2],
    placement: Placement,
    _watch: Watch,
    _bar: SharedBar,
}

impl Session {
    /// Brings both drivers up.
    ///
    /// # Errors
    /// [`SessionError`] saying which side failed and why.
    pub fn start(
        rig: &dyn Rig,
        program: &Path,
        path: CodePath,
        placement: Placement,
        log: PathBuf,
    ) -> Result<Self, SessionError> {
        let identity = PortIdentity::new(DEVICE_ID);
        let bar = SharedBar::new(&[identity, identity])?;
        let pages = [Arc::new(ControlPage::new()?), Arc::new(ControlPage::new()?)];
        let (own_ports, bring_up) = rig.own_ports()?;
        let groups = [rig.shared_ports(&bar)?, own_ports]
            .into_iter()
            .zip(&pages)
            .map(|(ports, page)| Group {
                ports,
                page: page.clone(),
            });
        let device = DeviceThread::start(
            groups.collect(),
            placement.device_core,
            placement.driver_core,
        );
        let watch = bar.watch();
        device.serve(DPDK, false, false, true);
        let (core, page) = (placement.driver_core, pages[DPDK].clone());
        let dpdk = Dpdk::start(program, &bar, page, core, path, log)?;
        device.serve(OURS, false, false, true);
        let ours = start_ours(pages[OURS].clone(), core, bring_up)?;
        Ok(Self {
            device,
            dpdk,
            ours: Some(ours),
            pages,
            placement,
            _watch: watch,
            _bar: bar,
        })
    }

    /// Lets both take turns over all rows, again and again, until `budget` is over; three rounds at
    /// least. Returns for each row our sample and DPDK's.
    ///
    /// # Errors
    /// [`SessionError::Stuck`].
    pub fn measure(
        &mut self,
        rows: &[Row],
        budget: Duration,
    ) -> Result<BTreeMap<Row, [Sample; 2]>, SessionError> {
        let mut samples: BTreeMap<Row, [Sample; 2]> = BTreeMap::new();
        let start = Instant::now();
        let mut round = 0;
        while round < 3 || start.elapsed() < budget {
            for &row in rows {
                // Who is first changes from round to round.
                let order = if round % 2 == 0 {
                    [DPDK, OURS]
                } else {
                    [OURS, DPDK]
                };
                for peer in order {
                    let windows = self.run(peer, row)?;
                    samples.entry(row).or_default()[peer].add(windows);
                }
            }
            round += 1;
        }
        Ok(samples)
    }

    /// One order for one peer.
    fn run(&mut self, peer: usize, row: Row) -> Result<Vec<Window>, SessionError> {
        let stepped = row.kind == Kind::Stepped;
        let windows = if stepped { 4 } else { WINDOWS };
        let source = row.mode != Mode::Transmit;
        self.device.serve(peer, source, stepped, false);
        let page: &Control = &self.pages[peer];
        let number = page.give(Order {
            mode: row.mode,
            kind: row.kind,
            batch: row.batch,
            windows,
            window_ticks: self.placement.window_ticks,
        });
        let start = Instant::now();
        // Looking seldom: every look may take a core away from what is measured.
        while !page.finished(number) {
            std::thread::sleep(Duration::from_millis(5));
            let alive = match peer {
                DPDK => self.dpdk.runs(),
                _ => self.ours.as_ref().is_some_and(|ours| !ours.is_finished()),
            };
            if !alive || start.elapsed() > ORDER_TIMEOUT {
                return Err(SessionError::Stuck {
                    peer: PEERS[peer],
                    row: row.name(),
                });
            }
        }
        self.device.serve(peer, source, false, false);
        let warm_up = if stepped { 1 } else { WARM_UP };
        Ok(page.windows(windows as usize).split_off(warm_up))
    }

    /// Ends both drivers in good order.
    ///
    /// # Errors
    /// [`SessionError::Violations`] when a driver broke the device's rules.
    pub fn finish(mut self) -> Result<(), SessionError> {
        self.device.serve(OURS, false, false, true);
        self.pages[OURS].give(Order {
            mode: Mode::Receive,
            kind: Kind::Quit,
            batch: 1,
            windows: 0,
            window_ticks: 0,
        });
        if let Some(ours) = self.ours.take() {
            let _ = ours.join();
        }
        self.device.serve(DPDK, false, false, true);
        self.dpdk.quit();
        let groups = self.device.stop().unwrap_or_default();
        let known = [KNOWN_OF_DPDK, UNSEEN_ORDER];
        for ((group, peer), known) in groups.iter().zip(PEERS).zip(known) {
            if let Some(violations) = group.ports.violations(known) {
                return Err(SessionError::Violations { peer, violations });
            }
        }
        Ok(())
    }
}

/// Starts the thread our driver runs on; returns once its ports are up.
fn start_ours(
    page: Arc<ControlPage>,
    core: usize,
    bring_up: BringUp,
) -> Result<JoinHandle<()>, SessionError> {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let up = pin_current_thread(core)
            .map_err(|error| error.to_string())
            .and_then(|()| bring_up());
        match up {
            Ok(serve) => {
                let _ = tell.send(Ok(()));
                serve(&page);
            }
            Err(reason) => {
                let _ = tell.send(Err(reason));
            }
        }
    });
    match told.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(reason)) => Err(SessionError::Ours(reason)),
        Err(_) => Err(SessionError::Ours("it panicked while coming up".to_owned())),
    }
}
