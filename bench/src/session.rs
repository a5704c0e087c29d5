//! One session: DPDK's driver and ours, both up, each on ports of its own, taking turns.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sumac_devices::ixgbe::Violations;
use sumac_devices::shared_bar::{PortIdentity, SharedBar, Watch};
use sumac_linux::cores::pin_current_thread;
use sumac_linux::signals::Stop;

use crate::control::{Control, ControlPage, Kind, Mode, Order, Window};
use crate::device_thread::{DeviceThread, Group, Ports};
use crate::dpdk::{CodePath, Dpdk, DpdkError};
use crate::plan::Row;
use crate::turns::Pair;

/// What both drivers find: an 82599 on a KX4 backplane, which needs no module.
pub const DEVICE_ID: u16 = 0x10f7;

/// Which group of ports is whose.
pub const DPDK: usize = 0;
/// Our driver's group.
pub const OURS: usize = 1;
/// Their names.
pub const PEERS: [&str; 2] = ["DPDK's driver", "our driver"];
/// Windows of a streaming order; the first [`WARM_UP`] do not count.
const WINDOWS: u32 = 24;
const WARM_UP: usize = 2;
/// How long an order may take: a hundred times what it takes on a quiet machine.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long our driver may take to stop its ports.
const END_TIMEOUT: Duration = Duration::from_secs(3);

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
        /// Whether it finished later, so that it may be asked again.
        usable: bool,
    },
    /// A driver broke the device's rules, so that its figures mean nothing.
    #[error("{peer} broke the device's rules: {violations}")]
    Violations {
        /// Who.
        peer: &'static str,
        /// Which, by name.
        violations: String,
    },
    /// No start went well.
    #[error(
        "{starts} starts failed, the last one: {last}. A driver gives a reset microseconds, so the device must keep its core: stop other work on this machine, or name two idle cores by --device-core and --driver-core"
    )]
    Busy {
        /// How many.
        starts: usize,
        /// What the last one said.
        last: String,
    },
    /// Every row was disturbed.
    #[error(
        "no row has enough undisturbed windows: stop other work on this machine, or give it more --seconds"
    )]
    Nothing,
    /// A signal asked for an end.
    #[error("interrupted")]
    Interrupted,
}

impl SessionError {
    /// Whether a fresh start may help: the device or a driver was off its core for too long.
    pub fn is_late(&self) -> bool {
        matches!(
            self,
            Self::Dpdk(DpdkError::NotReady { .. }) | Self::Ours(_) | Self::Stuck { .. }
        )
    }
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
    /// The wish to end early.
    pub stop: Stop,
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

/// Both drivers, up. When dropped, both are ended before their device is.
pub struct Session {
    ours: Option<OurThread>,
    dpdk: Option<Dpdk>,
    device: Option<DeviceThread>,
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
        let ours = OurThread::start(pages[OURS].clone(), core, bring_up)?;
        Ok(Self {
            ours: Some(ours),
            dpdk: Some(dpdk),
            device: Some(device),
            pages,
            placement,
            _watch: watch,
            _bar: bar,
        })
    }

    fn serve(&self, peer: usize, source: bool, stepped: bool, attentive: bool) {
        if let Some(device) = &self.device {
            device.serve(peer, source, stepped, attentive);
        }
    }

    /// Waits until an order is done; false if that takes too long or the peer is gone.
    fn wait(&mut self, peer: usize, number: u32) -> Result<bool, SessionError> {
        let start = Instant::now();
        // Looking seldom: every look may take a core away from what is measured.
        while !self.pages[peer].finished(number) {
            std::thread::sleep(Duration::from_millis(5));
            if self.placement.stop.requested() {
                return Err(SessionError::Interrupted);
            }
            let alive = match peer {
                DPDK => self.dpdk.as_mut().is_some_and(Dpdk::runs),
                _ => self.ours.as_ref().is_some_and(OurThread::runs),
            };
            if !alive || start.elapsed() > ORDER_TIMEOUT {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn end_drivers(&mut self) {
        self.serve(OURS, false, false, true);
        drop(self.ours.take());
        self.serve(DPDK, false, false, true);
        if let Some(dpdk) = self.dpdk.take() {
            dpdk.quit();
        }
    }
}

impl Pair for Session {
    fn run(&mut self, peer: usize, row: Row) -> Result<Vec<Window>, SessionError> {
        let stepped = row.kind == Kind::Stepped;
        let windows = if stepped { 4 } else { WINDOWS };
        let source = row.mode != Mode::Transmit;
        self.serve(peer, source, stepped, false);
        let number = self.pages[peer].give(Order {
            mode: row.mode,
            kind: row.kind,
            batch: row.batch,
            windows,
            window_ticks: self.placement.window_ticks,
        });
        if !self.wait(peer, number)? {
            // What comes late was disturbed; the peer is of use again if it comes at all.
            let usable = self.wait(peer, number)?;
            return Err(SessionError::Stuck {
                peer: PEERS[peer],
                row: row.name(),
                usable,
            });
        }
        self.serve(peer, source, false, false);
        let warm_up = if stepped { 1 } else { WARM_UP };
        let page: &Control = &self.pages[peer];
        Ok(page.windows(windows as usize).split_off(warm_up))
    }

    fn finish(mut self) -> Vec<[Violations; 2]> {
        self.end_drivers();
        let groups = self.device.take().and_then(DeviceThread::stop);
        let groups = groups.unwrap_or_default();
        let [dpdk, ours] = &groups[..] else {
            return Vec::new();
        };
        let by_port = dpdk.ports.violations().into_iter();
        by_port
            .zip(ours.ports.violations())
            .map(Into::into)
            .collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end_drivers();
    }
}

/// The thread our driver runs on; ends when dropped, if it listens.
struct OurThread {
    thread: Option<JoinHandle<()>>,
    page: Arc<ControlPage>,
}

impl OurThread {
    /// Returns once the driver's ports are up.
    fn start(page: Arc<ControlPage>, core: usize, bring_up: BringUp) -> Result<Self, SessionError> {
        let thread = start_ours(page.clone(), core, bring_up)?;
        Ok(Self {
            thread: Some(thread),
            page,
        })
    }

    fn runs(&self) -> bool {
        let thread = self.thread.as_ref();
        thread.is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for OurThread {
    fn drop(&mut self) {
        self.page.give(Order {
            mode: Mode::Receive,
            kind: Kind::Quit,
            batch: 1,
            windows: 0,
            window_ticks: 0,
        });
        let start = Instant::now();
        while self.runs() && start.elapsed() < END_TIMEOUT {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A thread that does not end cannot be made to: it goes with the process.
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
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
