//! Ports, and the workers over their queue pairs.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use l2fwd_forward::Rewrite;
use sumac_device::DeviceControl;
use sumac_interface::net::{Net, NetError, NetQueue};
use sumac_ixgbe::PortConfig;
use sumac_ixgbe::interrupts::link_vector;
use sumac_linux::cores;
use sumac_linux::open::{self, OpenPorts, SoftwareDevice};
use sumac_linux::{Bell, Interrupts};
use sumac_packet::MacAddress;
use sumac_rref::PacketPool;

use crate::application::{HostedWorker, LanePlan, Share};
use crate::cli::Options;
use crate::dump::Dump;
use crate::forward::{Change, Lane, LaneFigures, Outcome, Shared, Worker};
use crate::loan::{Home, Meter, Terms};

use super::absence::{Absence, Gone};
use super::links::Links;
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
    pub bells: Bells,
    pub links: Links,
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
        Ok(Self {
            links: Links::new(list.len(), None),
            bells: Bells::default(),
            list,
            opened,
            make,
        })
    }

    /// Connects the ports' vectors with bells of so many workers, if there are to be interrupts.
    pub fn connect(&mut self, options: &Options, workers: usize) -> Result<(), RunError> {
        self.bells = Bells::new(options, workers)?;
        self.links = Links::new(self.list.len(), self.bells.links.clone());
        let connect = |open: &OpenPort<N>| self.bells.connect(open);
        self.list.iter().try_for_each(connect)
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

    /// That the device's host wants it back, once it does.
    pub fn taken_back(&self) -> Option<Gone> {
        let bell = self.wanted_back.as_ref()?;
        bell.wait(Duration::ZERO).then(|| Gone::TakenBack {
            device: self.name.clone(),
        })
    }

    /// Whether the device answers, and was there all the time.
    pub fn is_there(&self) -> bool {
        self.control
            .as_ref()
            .is_some_and(|control| control.is_there())
    }
}

impl<N: Net> OpenPort<N> {
    /// Why the port's device is not any more as its driver left it, if so; nothing of one that is gone already.
    ///
    /// # Errors
    /// What else is wrong with it.
    pub fn lost(&mut self) -> Result<Option<Gone>, NetError> {
        let Some(port) = &mut self.port else {
            return Ok(None);
        };
        let (checked, device) = (port.check(), port.name().to_owned());
        let there = self.is_there();
        match checked {
            Ok(()) if there => Ok(None),
            Ok(()) => Ok(Some(Gone::Vanished(NetError::Reset { device }))),
            Err(error @ (NetError::Gone { .. } | NetError::Reset { .. })) => {
                Ok(Some(Gone::Vanished(error)))
            }
            // A driver in a domain may have died of it.
            Err(_) if !there => Ok(Some(Gone::Vanished(NetError::Gone { device }))),
            Err(error) => Err(error),
        }
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

/// What a run sleeps on.
#[derive(Default)]
pub struct Bells {
    /// Of each worker, rung by the vectors of its queues; none where nobody sleeps.
    workers: Vec<Option<Arc<Bell>>>,
    /// What each vector of a port rings; nothing without interrupts.
    of_vectors: Vec<Arc<Bell>>,
    /// Rung by the vectors of the links.
    links: Option<Arc<Bell>>,
}

impl Bells {
    fn new(options: &Options, workers: usize) -> Result<Self, RunError> {
        if !options.interrupt {
            return Ok(Self {
                workers: vec![None; workers],
                ..Self::default()
            });
        }
        let bell = || Bell::new().map(Arc::new).map_err(device);
        let bells = (0..workers)
            .map(|_| bell())
            .collect::<Result<Vec<_>, _>>()?;
        let mut of_vectors: Vec<_> = (bells.iter().cycle())
            .take(usize::from(options.queues))
            .cloned()
            .collect();
        // With as many queues as there are vectors the link shares one with a queue, and is looked at now and then.
        let links = match link_vector(options.queues) == options.queues {
            true => Some(bell()?),
            false => None,
        };
        of_vectors.extend(links.clone());
        Ok(Self {
            workers: bells.into_iter().map(Some).collect(),
            of_vectors,
            links,
        })
    }

    /// Connects a port's vectors, if there are to be interrupts.
    pub fn connect<N>(&self, open: &OpenPort<N>) -> Result<(), RunError> {
        if self.of_vectors.is_empty() {
            return Ok(());
        }
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
            .connect(&self.of_vectors)
            .map_err(|error| failed(&error))
    }
}

/// How frames that leave by port `to` are changed, whose own address is `mac`.
pub fn rewrite(options: &Options, to: usize, mac: MacAddress) -> Option<Rewrite> {
    (!options.no_mac_updating).then(|| Rewrite::new(to as u8, mac))
}

/// The ports' queue pairs, those of each in order.
fn take_queues<N: Net>(ports: &mut [OpenPort<N>]) -> Vec<std::vec::IntoIter<N::Queue>> {
    let take = |open: &mut OpenPort<N>| open.port.as_mut().map(Net::take_queues);
    ports
        .iter_mut()
        .map(|open| take(open).unwrap_or_default().into_iter())
        .collect()
}

/// Deals the ports' queue pairs out to the workers of an application in a domain of its own.
pub fn plan_workers<N: Net>(
    options: &Options,
    ports: &mut [OpenPort<N>],
    cores: &Cores,
    terms: &Terms,
) -> Vec<Share<N::Queue>> {
    let count = ports.len();
    let workers = cores.workers.len();
    let pairs = usize::from(options.queues);
    let most = pairs.div_ceil(workers) * count;
    let share = |_| Share {
        lanes: Vec::new(),
        meter: Meter::new(most),
    };
    let mut shares: Vec<_> = (0..workers).map(share).collect();
    let mut queues = take_queues(ports);
    for pair in 0..pairs {
        let Share { lanes, meter } = &mut shares[pair % workers];
        let first = lanes.len();
        for (from, queues) in queues.iter_mut().enumerate() {
            let Some(queue) = queues.next() else { continue };
            let to = partner(from, count);
            let rewrite = rewrite(options, to, ports[to].mac);
            let (meter, lane) = (meter.clone(), lanes.len());
            lanes.push(LanePlan {
                from,
                to: first + to,
                home: Home::new(queue, rewrite, meter, lane, terms.clone()),
            });
        }
    }
    shares
}

/// Starts the workers of an application in a domain of its own.
pub fn start_hosted<Q: NetQueue + 'static>(
    cores: &Cores,
    workers: Vec<HostedWorker<Q>>,
    bells: &Bells,
) -> Result<Vec<RunningWorker<Q>>, RunError> {
    let start = |(index, worker): (usize, HostedWorker<Q>)| {
        let (lanes, core) = (worker.figures(), cores.workers[index]);
        let (changes, asked) = mpsc::channel();
        let bell = bells.workers[index].clone();
        let run = {
            let bell = bell.clone();
            move || worker.run(&asked, bell)
        };
        let thread = cores::spawn(&format!("l2fwd-{index}"), core, run);
        Ok(RunningWorker {
            thread: Some(thread.map_err(device)?),
            changes,
            lanes,
            outcome: None,
            bell,
        })
    };
    workers.into_iter().enumerate().map(start).collect()
}

pub fn start_workers<N: Net<Queue: 'static>>(
    options: &Options,
    ports: &mut [OpenPort<N>],
    pool: &'static PacketPool,
    cores: &Cores,
    shared: &Arc<Shared>,
    dump: Option<Arc<Dump>>,
    bells: &Bells,
) -> Result<Vec<RunningWorker<N::Queue>>, RunError> {
    let count = ports.len();
    let mut lanes: Vec<Vec<Lane<N::Queue>>> = cores.workers.iter().map(|_| Vec::new()).collect();
    let workers = lanes.len();
    let mut queues = take_queues(ports);
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
    let start = |(index, lanes): (usize, Vec<Lane<N::Queue>>)| {
        let froms: Vec<usize> = lanes.iter().map(|lane| lane.from).collect();
        let (changes, asked) = mpsc::channel();
        let worker = Worker::new(
            lanes,
            asked,
            usize::from(options.batch),
            shared.clone(),
            dump.clone(),
            bells.workers[index].clone(),
        );
        let figures = froms.into_iter().zip(worker.figures()).collect();
        let core = cores.workers[index];
        let thread = cores::spawn(&format!("l2fwd-{index}"), core, move || worker.run());
        Ok(RunningWorker {
            thread: Some(thread.map_err(device)?),
            changes,
            lanes: figures,
            outcome: None,
            bell: bells.workers[index].clone(),
        })
    };
    lanes.into_iter().enumerate().map(start).collect()
}
