//! The ladder over the 82599 driver: l2fwd's own loop between two software ports, with the driver linked in, in
//! a domain, and in one with shadows before it.
//!
//! A streaming row may be the device's pace. What a boundary costs is in the phases and in the stepped rows, where a
//! driver never waits.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use clap::Parser;
use l2fwd::cli::Options;
use l2fwd::domains::{DomainHost, Drivers};
use l2fwd::forward::{Lane, Shared, Worker};
use l2fwd_forward::Rewrite;
use sumac_device::{Bar, DeviceBacking, DeviceControl, DmaSpace, PciId, RegisterIo};
use sumac_devices::ixgbe::Violations;
use sumac_devices::ixgbe::registers::{CTRL, CTRL_RESET};
use sumac_devices::memory::SimDma;
use sumac_devices::shared_bar::{BarMemory, SharedPorts};
use sumac_interface::net::Net;
use sumac_ixgbe::{Port, PortConfig};
use sumac_linux::open::OpenPort;
use sumac_linux::spec::{DeviceSpec, SimSpec};
use sumac_linux::time::{LinuxClock, TickCounter};
use sumac_rref::{PacketPool, SharedHeap};

use super::{IsolationError, machine};
use crate::compare::line;
use crate::constant_wire::ConstantWire;
use crate::control::{Control, ControlPage, Kind, Mode, Order};
use crate::device_thread::{DeviceThread, Group, Ports};
use crate::report::{Report, Row};
use crate::session::DEVICE_ID;
use crate::statistics::{Rules, Sample};
use crate::third_party::{UNSEEN, unexpected};
use crate::timing;

/// Frames a port's round moves at most.
pub const BATCHES: [u32; 7] = super::nullnet::BATCHES;
/// Ways of timing, what their rows' names begin with, and windows at a time: the first does not count.
const KINDS: [(Kind, &str, u32); 3] = [
    (Kind::Stream, "", 5),
    (Kind::Phase, "phase/", 25),
    (Kind::Stepped, "stepped/", 3),
];
/// The steps of the ladder; the first is what the others are held against, and is measured twice: what its
/// second self differs by, any step may.
const STEPS: [&str; 4] = ["driver", "driver-again", "domain", "shadow"];
/// As l2fwd has by default for two ports.
const POOL: u32 = 4096;
/// How long a link, and a reset, may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Two ports that both receive.
struct BothWays(SharedPorts<ConstantWire>);

impl Ports for BothWays {
    fn poll_control(&mut self) {
        self.0.poll_control();
    }

    fn step(&mut self) -> usize {
        self.0.poll()
    }

    fn set_source(&mut self, on: bool) {
        self.0.wires().for_each(|wire| wire.source = on);
    }

    fn violations(&self) -> Vec<Violations> {
        Ports::violations(&self.0)
    }
}

/// Stops a device that looks at its registers.
struct Registers(Arc<BarMemory>);

impl DeviceControl for Registers {
    fn stop(&self) -> bool {
        self.0.write32(CTRL, CTRL_RESET);
        let asked = Instant::now();
        loop {
            if self.0.read32(CTRL) & CTRL_RESET == 0 {
                return true;
            }
            if asked.elapsed() >= TIMEOUT {
                return false;
            }
            std::thread::yield_now();
        }
    }

    fn start(&self) {}

    fn is_there(&self) -> bool {
        self.0.read32(CTRL) != u32::MAX
    }
}

/// A step's devices, before anybody drives them.
struct Devices {
    bars: [Arc<BarMemory>; 2],
    dma: Arc<dyn DmaSpace>,
}

impl Devices {
    fn new() -> Result<(Self, BothWays), IsolationError> {
        let dma = SimDma::new().map_err(failed)?;
        let bar = || BarMemory::new().map(Arc::new).map_err(failed);
        let bars = [bar()?, bar()?];
        let ports = (bars.iter()).map(|bar| (bar.clone(), DEVICE_ID, ConstantWire::new()));
        let ports = SharedPorts::in_process(ports, dma.window().clone());
        let dma: Arc<dyn DmaSpace> = Arc::new(dma);
        Ok((Self { bars, dma }, BothWays(ports)))
    }

    fn pool(&self, heap: &'static SharedHeap) -> Result<&'static PacketPool, IsolationError> {
        PacketPool::create(heap, &*self.dma, POOL).map_err(failed)
    }

    fn backings(&self) -> impl Iterator<Item = (DeviceBacking, Arc<BarMemory>)> {
        let id = PciId {
            vendor: 0x8086,
            device: DEVICE_ID,
        };
        self.bars.iter().enumerate().map(move |(index, bar)| {
            let backing = DeviceBacking {
                name: format!("sim{index}"),
                id,
                bar: Bar::new(bar.clone()),
                dma: self.dma.clone(),
                clock: Arc::new(LinuxClock),
            };
            (backing, bar.clone())
        })
    }

    /// What l2fwd has drivers in domains take.
    fn opened(&self) -> Vec<OpenPort> {
        let opened = self.backings().map(|(backing, bar)| OpenPort {
            spec: DeviceSpec::Sim(SimSpec::default()),
            backing,
            control: Arc::new(Registers(bar)),
            interrupts: None,
            software: None,
        });
        opened.collect()
    }
}

fn failed(error: impl std::fmt::Display) -> IsolationError {
    IsolationError::Failed(error.to_string())
}

/// An application over two ports, and what it keeps up. Its fields go in this order: queues, ports, domains.
struct Forwarder<N: Net> {
    worker: Worker<N::Queue>,
    ports: Vec<N>,
    _drivers: Option<Drivers>,
}

impl<N: Net> Forwarder<N> {
    /// Starts the ports, as l2fwd does.
    fn start(
        mut ports: Vec<N>,
        pool: &'static PacketPool,
        drivers: Option<Drivers>,
    ) -> Result<Self, IsolationError> {
        for port in &mut ports {
            port.start().map_err(failed)?;
            let started = Instant::now();
            while !port.link().up {
                if started.elapsed() > TIMEOUT {
                    return Err(failed(format!("{}: no link", port.name())));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let macs: Vec<_> = ports.iter().map(N::mac).collect();
        let mut lanes = Vec::new();
        for (from, port) in ports.iter_mut().enumerate() {
            let to = from ^ 1;
            let queue = port.take_queues().pop();
            lanes.push(Lane {
                from,
                to,
                rewrite: macs.get(to).map(|mac| Rewrite::new(to as u8, *mac)),
                queue: Some(queue.ok_or_else(|| failed("a port without queues"))?),
                batch: pool.batch().map_err(failed)?,
            });
        }
        // Nobody asks for queues back.
        let (_, changes) = mpsc::channel();
        let worker = Worker::new(lanes, changes, 1, Shared::new(None), None, None);
        Ok(Self {
            worker,
            ports,
            _drivers: drivers,
        })
    }
}

impl<N: Net> Drop for Forwarder<N> {
    fn drop(&mut self) {
        for port in &mut self.ports {
            // Whoever owns the device resets it if it does not answer.
            let _ = port.stop();
        }
    }
}

/// Carries an order out.
type Run<'a> = Box<dyn FnMut(&Control, Order) + 'a>;

/// The loop over an application's rounds, compiled for its queues.
fn run<'a, N: Net + 'a>(mut forwarder: Forwarder<N>, broken: &'a Cell<bool>) -> Run<'a>
where
    N::Queue: 'a,
{
    Box::new(move |page, order| {
        let worker = &mut forwarder.worker;
        worker.set_batch(order.batch as usize);
        timing::run(page, order, |_| worker.round().sent);
        broken.set(broken.get() || worker.has_failed());
    })
}

/// Brings a step's drivers up on its devices.
fn bring_up<'a>(
    step: &str,
    devices: &Devices,
    options: &Options,
    broken: &'a Cell<bool>,
) -> Result<Run<'a>, IsolationError> {
    if !matches!(step, "domain" | "shadow") {
        let pool = devices.pool(SharedHeap::create())?;
        let config = PortConfig {
            promiscuous: true,
            ..PortConfig::default()
        };
        let ports = devices.backings();
        let ports = ports.map(|(backing, _)| Port::open(backing, pool, &config).map_err(failed));
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        return Ok(run(Forwarder::start(ports, pool, None)?, broken));
    }
    let host = DomainHost::new(options).map_err(failed)?;
    let pool = devices.pool(host.heap())?;
    let drivers = host.drivers(pool);
    let drivers = drivers.ok_or_else(|| failed("the driver is not to be in a domain"))?;
    let opened = devices.opened();
    if step == "domain" {
        let ports = (opened.iter().enumerate())
            .map(|(index, port)| drivers.start(index, port, options).map_err(failed));
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        return Ok(run(Forwarder::start(ports, pool, Some(drivers))?, broken));
    }
    let ports = (opened.iter().enumerate())
        .map(|(index, port)| drivers.supervise(index, port, options).map_err(failed));
    let ports = ports.collect::<Result<Vec<_>, _>>()?;
    Ok(run(Forwarder::start(ports, pool, Some(drivers))?, broken))
}

/// All steps, up, and their device. Dropped in this order: applications need their device to stop.
struct Ladder<'a> {
    runs: Vec<Run<'a>>,
    pages: Vec<Arc<ControlPage>>,
    device: DeviceThread,
}

impl<'a> Ladder<'a> {
    fn start(
        options: &Options,
        device_core: usize,
        driver_core: usize,
        broken: &'a Cell<bool>,
    ) -> Result<Self, IsolationError> {
        let (mut devices, mut groups, mut pages) = (Vec::new(), Vec::new(), Vec::new());
        for _ in STEPS {
            let (of_step, ports) = Devices::new()?;
            let page = Arc::new(ControlPage::new().map_err(failed)?);
            devices.push(of_step);
            pages.push(page.clone());
            groups.push(Group {
                ports: Box::new(ports),
                page,
            });
        }
        let mut ladder = Self {
            runs: Vec::new(),
            pages,
            device: DeviceThread::start(groups, device_core, driver_core),
        };
        for (index, (step, devices)) in STEPS.into_iter().zip(&devices).enumerate() {
            ladder.device.serve(index, false, false, true);
            let run = bring_up(step, devices, options, broken)?;
            ladder.runs.push(run);
        }
        Ok(ladder)
    }

    /// A step's windows of a row, one after the other.
    fn windows(&mut self, step: usize, order: Order, sample: &mut Sample) {
        let (Some(run), Some(page)) = (self.runs.get_mut(step), self.pages.get(step)) else {
            return;
        };
        let stepped = order.kind == Kind::Stepped;
        self.device.serve(step, true, stepped, false);
        run(page, order);
        self.device.serve(step, true, false, false);
        sample.add(page.windows(order.windows as usize).split_off(1));
    }

    /// Ends all steps; what their drivers did against the device's rules.
    fn finish(mut self) -> Result<(), IsolationError> {
        for (index, run) in self.runs.drain(..).enumerate() {
            self.device.serve(index, false, false, true);
            drop(run);
        }
        let groups = self.device.stop();
        let groups = groups.ok_or_else(|| failed("the software device panicked"))?;
        for (step, group) in STEPS.iter().zip(&groups) {
            for violations in group.ports.violations() {
                if let Some(violations) = unexpected(&violations, UNSEEN) {
                    return Err(failed(format!(
                        "{step} broke the device's rules: {violations}"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Measures the ladder in `rounds` rounds, in each of which every step has its turn at every row. Domain files
/// are in `folder`.
///
/// # Errors
/// [`IsolationError`].
pub fn measure(
    folder: &Path,
    rounds: usize,
    device_core: usize,
    driver_core: usize,
) -> Result<Report, IsolationError> {
    let counter = TickCounter::start();
    let options = ["l2fwd".as_ref(), "--domains".as_ref(), folder.as_os_str()];
    let options = Options::try_parse_from(options).map_err(failed)?;
    let broken = Cell::new(false);
    let mut ladder = Ladder::start(&options, device_core, driver_core, &broken)?;
    let hz = machine(&counter).ticks_per_second;
    let mut rows = KINDS
        .iter()
        .flat_map(|kind| BATCHES.map(|batch| Rung::new(kind, batch)))
        .collect::<Vec<_>>();
    for round in 0..rounds {
        for rung in &mut rows {
            let order = Order {
                mode: Mode::Forward,
                kind: rung.kind,
                batch: rung.batch,
                windows: rung.windows,
                window_ticks: (hz / 1000.0) as u64,
            };
            // Who is first changes from round to round.
            for turn in 0..STEPS.len() {
                let step = (round + turn) % STEPS.len();
                ladder.windows(step, order, &mut rung.samples[step]);
            }
        }
    }
    ladder.finish()?;
    if broken.get() {
        return Err(failed("a driver died while it was measured"));
    }
    let rules = Rules::at(hz);
    Ok(Report {
        machine: machine(&counter),
        rows: rows.iter().flat_map(|rung| rung.rows(&rules)).collect(),
        tolerated: Vec::new(),
    })
}

/// All steps at one batch, timed in one way.
struct Rung {
    kind: Kind,
    prefix: &'static str,
    windows: u32,
    batch: u32,
    samples: [Sample; STEPS.len()],
}

impl Rung {
    fn new(&(kind, prefix, windows): &(Kind, &'static str, u32), batch: u32) -> Self {
        Self {
            kind,
            prefix,
            windows,
            batch,
            samples: Default::default(),
        }
    }

    /// Each step beside the first.
    fn rows(&self, rules: &Rules) -> Vec<Row> {
        let [driver, others @ ..] = &self.samples;
        let steps = STEPS.iter().skip(1).zip(others);
        let rows = steps.filter_map(|(step, sample)| {
            let name = format!("{}{step}/{}", self.prefix, self.batch);
            line(name, self.kind, [driver, sample], rules, STEPS[0])
        });
        rows.collect()
    }
}
