//! Ports, and the workers over their queue pairs.

use std::sync::Arc;
use std::thread::JoinHandle;

use l2fwd_forward::Rewrite;
use sumac_interface::net::Net;
use sumac_ixgbe::PortConfig;
use sumac_linux::cores;
use sumac_linux::open::{self, OpenPorts, SoftwareDevice};
use sumac_linux::{Bell, Interrupts};

use crate::application::{Application, LanePlan};
use crate::cli::Options;
use crate::forward::{Outcome, Shared, Worker};
use crate::loan::{Home, Meter, Terms};

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

/// A worker's thread, and its lanes: the port each receives from, and its queue pair's home.
pub struct RunningWorker<Q> {
    pub thread: Option<JoinHandle<Outcome>>,
    pub lanes: Vec<(usize, Arc<Home<Q>>)>,
    pub outcome: Option<Outcome>,
    /// What it sleeps on, if it sleeps.
    pub bell: Option<Arc<Bell>>,
}

/// A worker to be: its lanes, and what measures them.
pub struct WorkerPlan<Q> {
    pub lanes: Vec<LanePlan<Q>>,
    pub meter: Arc<Meter>,
}

/// A bell for each worker, rung by the vectors of its queues.
fn connect<N>(
    options: &Options,
    ports: &[OpenPort<N>],
    workers: usize,
) -> Result<Vec<Option<Arc<Bell>>>, RunError> {
    if !options.interrupt {
        return Ok(vec![None; workers]);
    }
    let bells = (0..workers).map(|_| Bell::new().map(Arc::new));
    let bells = bells.collect::<Result<Vec<_>, _>>().map_err(device)?;
    let of_queues: Vec<_> = (bells.iter().cycle())
        .take(usize::from(options.queues))
        .cloned()
        .collect();
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
            .connect(&of_queues)
            .map_err(|error| failed(&error))?;
    }
    Ok(bells.into_iter().map(Some).collect())
}

/// Deals the ports' queue pairs out to the workers.
pub fn plan_workers<N: Net<Queue: 'static>>(
    options: &Options,
    ports: &mut [OpenPort<N>],
    cores: &Cores,
    terms: &Terms,
) -> Vec<WorkerPlan<N::Queue>> {
    let count = ports.len();
    let rewrites: Vec<Option<Rewrite>> = (0..count)
        .map(|from| {
            let to = partner(from, count);
            let mac = ports[to].port.mac();
            (!options.no_mac_updating).then(|| Rewrite::new(to as u8, mac))
        })
        .collect();
    let workers = cores.workers.len();
    let pairs = usize::from(options.queues);
    let plan = |worker: usize| WorkerPlan {
        lanes: Vec::new(),
        meter: Meter::new(pairs.div_ceil(workers) * count * usize::from(worker < pairs)),
    };
    let mut plans: Vec<_> = (0..workers).map(plan).collect();
    let mut queues: Vec<_> = ports
        .iter_mut()
        .map(|open| open.port.take_queues().into_iter())
        .collect();
    for pair in 0..pairs {
        let WorkerPlan { lanes, meter } = &mut plans[pair % workers];
        let first = lanes.len();
        for (from, queues) in queues.iter_mut().enumerate() {
            let Some(queue) = queues.next() else { continue };
            let home = Home::new(queue, meter.clone(), lanes.len(), terms.clone());
            lanes.push(LanePlan {
                from,
                to: first + partner(from, count),
                rewrite: rewrites[from],
                home,
            });
        }
    }
    plans
}

/// Starts a worker for each application, over the lanes that it got.
pub fn start_workers<N: Net<Queue: 'static>>(
    options: &Options,
    ports: &[OpenPort<N>],
    cores: &Cores,
    shared: &Arc<Shared>,
    plans: Vec<WorkerPlan<N::Queue>>,
    applications: Vec<Box<dyn Application>>,
) -> Result<Vec<RunningWorker<N::Queue>>, RunError> {
    let bells = connect(options, ports, cores.workers.len())?;
    let mut running = Vec::new();
    let all = plans.into_iter().zip(applications).zip(bells);
    for (index, ((plan, application), bell)) in all.enumerate() {
        let lanes: Vec<_> = plan
            .lanes
            .into_iter()
            .map(|lane| (lane.from, lane.home))
            .collect();
        let (lane_count, rung) = (lanes.len(), bell.clone());
        let worker = Worker::new(application, lane_count, plan.meter, shared.clone(), rung);
        let core = cores.workers[index];
        let thread = cores::spawn(&format!("l2fwd-{index}"), core, move || worker.run());
        running.push(RunningWorker {
            thread: Some(thread.map_err(device)?),
            lanes,
            outcome: None,
            bell,
        });
    }
    Ok(running)
}
