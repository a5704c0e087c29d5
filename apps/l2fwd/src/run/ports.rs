//! Ports, and the workers over their queue pairs.

use std::sync::Arc;
use std::thread::JoinHandle;

use sumac_interface::net::Net;
use sumac_ixgbe::PortConfig;
use sumac_ixgbe::interrupts::link_vector;
use sumac_linux::cores;
use sumac_linux::open::{self, OpenPorts, SoftwareDevice};
use sumac_linux::{Bell, Interrupts};
use sumac_rref::PacketPool;

use crate::cli::Options;
use crate::dump::Dump;
use crate::forward::{Lane, LaneFigures, Outcome, Shared, Worker};
use crate::rewrite::Rewrite;

use super::{Cores, RunError, device, input};

/// A port, what it was opened as, and where its frames go.
pub struct OpenPort<N> {
    pub name: String,
    pub port: N,
    pub software: Option<SoftwareDevice>,
    interrupts: Option<Arc<dyn Interrupts>>,
    /// The device is gone: it was pulled out, or whoever served it ended.
    pub lost: bool,
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

pub fn open_ports<N: Net>(
    opened: &mut OpenPorts,
    mut make: impl FnMut(&mut open::OpenPort) -> Result<N, RunError>,
) -> Result<Vec<OpenPort<N>>, RunError> {
    let mut ports = Vec::new();
    for mut opened in opened.ports.drain(..) {
        let port = make(&mut opened)?;
        ports.push(OpenPort {
            name: opened.spec.to_string(),
            port,
            software: opened.software,
            interrupts: opened.interrupts,
            lost: false,
        });
    }
    for open in &mut ports {
        open.port.start().map_err(input)?;
    }
    Ok(ports)
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
    pub lanes: Vec<(usize, Arc<LaneFigures>)>,
    pub outcome: Option<Outcome<Q>>,
    /// What it sleeps on, if it sleeps.
    pub bell: Option<Arc<Bell>>,
}

/// What a run sleeps on.
pub struct Bells {
    /// Of each worker, rung by the vectors of its queues; none where nobody sleeps.
    workers: Vec<Option<Arc<Bell>>>,
    /// Rung by the vectors of the links.
    pub links: Option<Arc<Bell>>,
}

/// Connects the ports' vectors with bells, if there are to be interrupts.
pub fn connect<N>(
    options: &Options,
    ports: &[OpenPort<N>],
    cores: &Cores,
) -> Result<Bells, RunError> {
    let workers = cores.workers.len();
    if !options.interrupt {
        return Ok(Bells {
            workers: vec![None; workers],
            links: None,
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
    for open in ports {
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
            .connect(&of_vectors)
            .map_err(|error| failed(&error))?;
    }
    Ok(Bells {
        workers: bells.into_iter().map(Some).collect(),
        links,
    })
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
    let rewrites: Vec<Option<Rewrite>> = (0..count)
        .map(|from| {
            let to = partner(from, count);
            let mac = ports[to].port.mac();
            (!options.no_mac_updating).then(|| Rewrite::new(to as u8, mac))
        })
        .collect();
    let mut lanes: Vec<Vec<Lane<N::Queue>>> = cores.workers.iter().map(|_| Vec::new()).collect();
    let workers = lanes.len();
    let mut queues: Vec<_> = ports
        .iter_mut()
        .map(|open| open.port.take_queues().into_iter())
        .collect();
    for pair in 0..usize::from(options.queues) {
        let lanes = &mut lanes[pair % workers];
        let first = lanes.len();
        for (from, queues) in queues.iter_mut().enumerate() {
            let Some(queue) = queues.next() else { continue };
            let batch = pool.batch().map_err(input)?;
            let to = first + partner(from, count);
            lanes.push(Lane {
                from,
                to,
                rewrite: rewrites[from],
                queue,
                batch,
            });
        }
    }
    let start = |(index, lanes): (usize, Vec<Lane<N::Queue>>)| {
        let froms: Vec<usize> = lanes.iter().map(|lane| lane.from).collect();
        let worker = Worker::new(
            lanes,
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
            lanes: figures,
            outcome: None,
            bell: bells.workers[index].clone(),
        })
    };
    lanes.into_iter().enumerate().map(start).collect()
}
