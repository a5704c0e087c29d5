//! Ports, and the workers over their queue pairs.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use sumac_device::DeviceControl;
use sumac_interface::net::Net;
use sumac_ixgbe::PortConfig;
use sumac_linux::cores;
use sumac_linux::open::{self, OpenPorts, SoftwareDevice};
use sumac_linux::{Bell, Interrupts};
use sumac_packet::MacAddress;
use sumac_rref::PacketPool;

use crate::cli::Options;
use crate::dump::Dump;
use crate::forward::{Change, Lane, LaneFigures, Outcome, Shared, Worker};
use crate::rewrite::Rewrite;

use super::absence::Absence;
use super::{Cores, RunError, device, input};

/// A port, what it was opened as, and where its frames go.
pub struct OpenPort<N> {
    pub name: String,
    /// None while its device is gone.
    pub port: Option<N>,
    /// Its own address, or that it had last.
    pub mac: MacAddress,
    pub software: Option<SoftwareDevice>,
    /// What is left of the opened device beside its driver; nothing while it is gone.
    pub control: Option<Arc<dyn DeviceControl>>,
    pub interrupts: Option<Arc<dyn Interrupts>>,
    /// Rung when the device's host wants it back.
    pub wanted_back: Option<Bell>,
    pub absence: Absence,
}

/// A port's driver made: linked in, or in a domain of its own.
pub type Make<'a, N> = Box<dyn FnMut(usize, &open::OpenPort) -> Result<N, RunError> + 'a>;

/// The ports of a run, and how they are opened.
pub struct Ports<'a, N> {
    pub list: Vec<OpenPort<N>>,
    pub opened: &'a mut OpenPorts,
    pub make: Make<'a, N>,
}

impl<'a, N: Net> Ports<'a, N> {
    /// Makes drivers of all that was opened, and starts their ports.
    pub fn start(opened: &'a mut OpenPorts, mut make: Make<'a, N>) -> Result<Self, RunError> {
        let mut list = Vec::new();
        for (index, opened) in opened.ports.drain(..).enumerate() {
            let port = make(index, &opened)?;
            list.push(OpenPort::new(opened, port));
        }
        for port in list.iter_mut().filter_map(|open| open.port.as_mut()) {
            port.start().map_err(input)?;
        }
        Ok(Self { list, opened, make })
    }
}

impl<N: Net> OpenPort<N> {
    fn new(opened: open::OpenPort, port: N) -> Self {
        Self {
            name: opened.spec.to_string(),
            mac: port.mac(),
            port: Some(port),
            wanted_back: wanted_back(opened.interrupts.as_deref()),
            control: Some(opened.control),
            interrupts: opened.interrupts,
            software: opened.software,
            absence: Absence::default(),
        }
    }
}

impl<N> OpenPort<N> {
    /// Lets go of the device.
    pub fn let_go(&mut self) {
        self.port = None;
        self.control = None;
        self.interrupts = None;
        self.wanted_back = None;
    }

    /// Whether the device answers.
    pub fn is_there(&self) -> bool {
        self.control
            .as_ref()
            .is_some_and(|control| control.is_there())
    }
}

/// A bell for when the device's host wants it back, if it says so.
pub fn wanted_back(device: Option<&dyn Interrupts>) -> Option<Bell> {
    let (device, bell) = (device?, Bell::new().ok()?);
    device.on_removal(&bell).ok().map(|()| bell)
}

pub fn port_config(options: &Options) -> PortConfig {
    PortConfig {
        queues: options.queues,
        rx_descriptors: options.descriptors,
        tx_descriptors: options.descriptors,
        mtu: options.mtu,
        promiscuous: options.is_promiscuous(),
        all_multicast: options.is_promiscuous(),
        interrupts: options.interrupt,
        ..PortConfig::default()
    }
}

/// Where port `index` of `count` sends what it receives: 0 and 1 to each other, 2 and 3; an odd last
/// one to itself.
pub fn partner(index: usize, count: usize) -> usize {
    let other = index ^ 1;
    if other < count { other } else { index }
}

/// A worker's thread and its figures, lane by lane: the port each lane receives from.
pub struct RunningWorker<Q> {
    pub thread: Option<JoinHandle<Outcome<Q>>>,
    pub changes: Sender<Change<Q>>,
    pub lanes: Vec<(usize, Arc<LaneFigures>)>,
    pub outcome: Option<Outcome<Q>>,
    /// What it sleeps on, if it sleeps.
    pub bell: Option<Arc<Bell>>,
}

/// A bell for each worker, if they sleep.
fn bells(options: &Options, workers: usize) -> Result<Vec<Option<Arc<Bell>>>, RunError> {
    if !options.interrupt {
        return Ok(vec![None; workers]);
    }
    let bells = (0..workers).map(|_| Bell::new().map(|bell| Some(Arc::new(bell))));
    bells.collect::<Result<_, _>>().map_err(device)
}

/// Has the vectors of a port's queues ring the bells of the workers that have them, if those sleep.
pub fn connect<N>(
    options: &Options,
    open: &OpenPort<N>,
    bells: &[Option<Arc<Bell>>],
) -> Result<(), RunError> {
    if !options.interrupt {
        return Ok(());
    }
    let of_queues = bells.iter().flatten().cycle();
    let of_queues: Vec<_> = of_queues
        .take(usize::from(options.queues))
        .cloned()
        .collect();
    let failed = |error: &dyn std::fmt::Display| {
        let name = &open.name;
        input(format!(
            "{name}: no interrupts: {error}; leave --interrupt out"
        ))
    };
    let interrupts = open
        .interrupts
        .as_ref()
        .ok_or_else(|| failed(&"it has none"))?;
    interrupts
        .connect(&of_queues)
        .map_err(|error| failed(&error))
}

/// How frames that leave by port `to` are changed, whose own address is `mac`.
pub fn rewrite(options: &Options, to: usize, mac: MacAddress) -> Option<Rewrite> {
    (!options.no_mac_updating).then(|| Rewrite::new(to as u8, mac))
}

pub fn start_workers<N: Net<Queue: 'static>>(
    options: &Options,
    ports: &mut [OpenPort<N>],
    pool: &'static PacketPool,
    cores: &Cores,
    shared: &Arc<Shared>,
    dump: Option<Arc<Dump>>,
) -> Result<Vec<RunningWorker<N::Queue>>, RunError> {
    let count = ports.len();
    let mut lanes: Vec<Vec<Lane<N::Queue>>> = cores.workers.iter().map(|_| Vec::new()).collect();
    let workers = lanes.len();
    let take = |open: &mut OpenPort<N>| open.port.as_mut().map(Net::take_queues);
    let mut queues: Vec<_> = ports
        .iter_mut()
        .map(|open| take(open).unwrap_or_default().into_iter())
        .collect();
    for pair in 0..usize::from(options.queues) {
        let lanes = &mut lanes[pair % workers];
        let first = lanes.len();
        for (from, queues) in queues.iter_mut().enumerate() {
            let Some(queue) = queues.next() else { continue };
            let batch = pool.batch().map_err(input)?;
            let to = partner(from, count);
            lanes.push(Lane {
                from,
                to: first + to,
                rewrite: rewrite(options, to, ports[to].mac),
                queue: Some(queue),
                batch,
            });
        }
    }
    let bells = bells(options, workers)?;
    for open in &*ports {
        connect(options, open, &bells)?;
    }
    let start = |(index, lanes): (usize, Vec<Lane<N::Queue>>)| {
        let froms: Vec<usize> = lanes.iter().map(|lane| lane.from).collect();
        let (changes, asked) = mpsc::channel();
        let worker = Worker::new(
            lanes,
            asked,
            usize::from(options.batch),
            shared.clone(),
            dump.clone(),
            bells[index].clone(),
        );
        let figures = froms.into_iter().zip(worker.figures()).collect();
        let core = cores.workers[index];
        let thread = cores::spawn(&format!("l2fwd-{index}"), core, move || worker.run());
        Ok(RunningWorker {
            thread: Some(thread.map_err(device)?),
            changes,
            lanes: figures,
            outcome: None,
            bell: bells[index].clone(),
        })
    };
    lanes.into_iter().enumerate().map(start).collect()
}
