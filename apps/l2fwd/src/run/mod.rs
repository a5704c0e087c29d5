//! One run from open to summary: everything but the fast path.
//!
//! - `ports`: opens ports and starts workers over their queue pairs;
//! - `watch`: waits for the end, looking after devices;
//! - `absence`: devices that go away meanwhile, and come back;
//! - `links`: the ports' links, as they were seen last;
//! - `supervision`: what domains add to a run: crashes on request, restarts, what they cost;
//! - `finish`: stops, sums up, gives everything back.

mod absence;
mod finish;
mod links;
mod ports;
mod supervision;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use sumac_interface::net::Net;
use sumac_ixgbe::Port;
use sumac_linux::cores::CoreList;
use sumac_linux::open::{self, OpenPorts, Protection};
use sumac_linux::signals::Stop;
use sumac_rref::{PacketPool, SharedHeap};

use crate::application::{self, ApplicationProgram, ApplicationService};
use crate::cli::{ApplicationIn, Isolation, Options};
use crate::domains::DomainHost;
use crate::dump::Dump;
use crate::forward::Shared;
use crate::loan::Terms;
use crate::report::{PoolReport, Report};

use finish::{close, stop_all, sum_up};
pub use ports::partner;
use ports::{Make, Ports, RunningWorker, plan_workers, port_config, start_hosted, start_workers};
use supervision::Supervision;
use watch::watch;

/// Buffers for caches and batches of one queue pair, besides its rings.
const SPARE_BUFFERS: u32 = 1024;

/// What --unsafe-noiommu gives up, said whenever it does.
const UNPROTECTED: &str = "no IOMMU: the devices can read and overwrite all memory of this machine, and so can a mistake in a driver or a descriptor; no domain and no process is safe from them";

/// Why a run did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something given cannot be: nothing was forwarded.
    #[error("{0}")]
    Input(String),
    /// A device or a file failed on the way.
    #[error("{0}")]
    Device(String),
    /// A device was gone at the end. The others went on.
    #[error("{what}")]
    Gone {
        /// Which, and what to do.
        what: String,
        /// What the run came to all the same.
        report: Box<Report>,
    },
}

fn input(error: impl std::fmt::Display) -> RunError {
    RunError::Input(error.to_string())
}

fn device(error: impl std::fmt::Display) -> RunError {
    RunError::Device(error.to_string())
}

/// Forwards as the options say, until the time, the frames or the input are over or a signal comes. The
/// program began at `began`.
///
/// # Errors
/// [`RunError`].
pub fn run(options: &Options, began: Instant) -> Result<Report, RunError> {
    if options.crash_every.is_some() && !options.drivers_crash() && !options.application_crashes() {
        return Err(input(
            "--crash-every: nobody starts again what crashed; add --isolation shadow or --application shadow",
        ));
    }
    let stop = Stop::install().map_err(device)?;
    let cores = Cores::choose(options)?;
    // The domains' files first: a mistake there leaves no output file behind.
    let host = DomainHost::new(options).map_err(input)?;
    let protection = match options.unsafe_noiommu {
        true => Protection::Waived,
        false => Protection::Iommu,
    };
    let opened = open::open_with(&options.devices, cores.device, protection);
    let mut opened = opened.map_err(input)?;
    if opened.is_unprotected() {
        eprintln!("l2fwd: {UNPROTECTED}");
    }
    let pool = packet_pool(options, &opened, host.heap())?;
    let drivers = host.drivers(pool);
    let run = Run {
        options,
        began,
        stop,
        cores,
        host,
    };
    let Some(drivers) = drivers else {
        let config = port_config(options);
        let make: Make<'_, _> =
            Box::new(|_, port| Port::open(port.backing.clone(), pool, &config).map_err(input));
        let ports = Ports::start(&mut opened, make)?;
        return run.forward(ports, pool, Supervision::of(None, options));
    };
    if options.isolation == Isolation::Domain {
        let make: Make<'_, _> =
            Box::new(|index, port| drivers.start(index, port, options).map_err(input));
        let ports = Ports::start(&mut opened, make)?;
        return run.forward(ports, pool, Supervision::of(Some(&drivers), options));
    }
    let make: Make<'_, _> =
        Box::new(|index, port| drivers.supervise(index, port, options).map_err(input));
    let ports = Ports::start(&mut opened, make)?;
    run.forward(ports, pool, Supervision::of(Some(&drivers), options))
}

fn packet_pool(
    options: &Options,
    opened: &OpenPorts,
    heap: &'static SharedHeap,
) -> Result<&'static PacketPool, RunError> {
    PacketPool::create(heap, &*opened.dma, pool_size(options)).map_err(input)
}

/// What a run goes by.
struct Run<'a> {
    options: &'a Options,
    began: Instant,
    stop: Stop,
    cores: Cores,
    host: DomainHost,
}

impl Run<'_> {
    /// A run over ports that are started.
    fn forward<N: Net<Queue: 'static>>(
        &self,
        mut ports: Ports<'_, N>,
        pool: &'static PacketPool,
        mut supervision: Supervision<'_>,
    ) -> Result<Report, RunError> {
        let options = self.options;
        let dump = match &options.pcap_dump {
            Some(path) => {
                let dump = Dump::create(path, options.pcap_dump_size << 20).map_err(input)?;
                Some(Arc::new(dump))
            }
            None => None,
        };
        let frames = Shared::new(options.frames);
        ports.connect(options, self.cores.workers.len())?;
        let workers = match self.host.application() {
            None => start_workers(
                options,
                &mut ports.list,
                pool,
                &self.cores,
                &frames,
                dump.clone(),
                &ports.bells,
            ),
            Some(file) => {
                let (shared, dump) = (frames.clone(), dump.clone());
                let terms = Terms { shared, dump };
                self.start_hosted(file, pool, &mut ports, terms, &mut supervision)
            }
        };
        let mut workers = workers?;
        supervision.wake(&workers);

        let start = Instant::now();
        supervision.begin().map_err(device)?;
        let watched = watch(self, &mut ports, &workers, &frames, &supervision);
        let seconds = start.elapsed().as_secs_f64();
        supervision.end();

        let stopped = stop_all(&mut ports, &mut workers, &frames, &supervision);
        let stopped = stopped.and(supervision.end_application().map_err(device));
        let (mut report, busy_ticks) = sum_up(&ports.list, &workers, &ports.links, seconds);
        let ended = close(&mut ports, workers, &supervision, &mut report);
        let gone: Vec<_> = (ports.list.iter())
            .filter_map(|open| open.absence.error())
            .collect();
        drop(ports);
        report.sum_up(busy_ticks);
        report.pool = PoolReport::new(pool.account(), pool.exhausted(), pool.huge_pages());
        if let Some(dump) = dump {
            dump.finish().map_err(device)?;
        }
        let watched = watched.and_then(|first| stopped.and(ended).map(|()| first));
        report.first_frame_us = watched
            .map_err(|error| supervision.explain(error))?
            .map(|first| first.as_micros() as u64);
        if let Some(failure) = report.failures().next() {
            return Err(device(failure));
        }
        match gone.is_empty() {
            true => Ok(report),
            false => Err(RunError::Gone {
                what: gone.join("; "),
                report: Box::new(report),
            }),
        }
    }
}

impl Run<'_> {
    /// Starts the workers of the application in this domain; `supervision` looks after its domain.
    fn start_hosted<N: Net<Queue: 'static>>(
        &self,
        program: &ApplicationProgram,
        pool: &'static PacketPool,
        ports: &mut Ports<'_, N>,
        terms: Terms,
        supervision: &mut Supervision<'_>,
    ) -> Result<Vec<RunningWorker<N::Queue>>, RunError> {
        let options = self.options;
        let bells = &ports.bells;
        let ports = &mut *ports.list;
        let service = ApplicationService {
            program: program.clone(),
            shared: self.host.shared(pool),
            pool,
            batch: u32::from(options.batch),
            workers: plan_workers(options, ports, &self.cores, &terms),
            losses: supervision.losses(ports.len()),
            lost: Arc::new(ports.iter().map(|_| AtomicU64::new(0)).collect()),
        };
        let again = options.application == ApplicationIn::Shadow;
        let workers = application::workers(service, &terms.shared, again);
        let (workers, hosted) = workers.map_err(input)?;
        supervision.look_after(hosted);
        start_hosted(&self.cores, workers, bells)
    }
}

/// Which core does what.
struct Cores {
    /// Where software devices live; none leaves it to Linux.
    device: Option<usize>,
    /// Where workers forward.
    workers: Vec<Option<usize>>,
}

impl Cores {
    /// The cores asked for, or as many as there are queue pairs, leaving the first core to the
    /// software devices. With fewer than two cores nothing is pinned.
    fn choose(options: &Options) -> Result<Self, RunError> {
        let usable = CoreList::usable().map_err(input)?;
        let queues = usize::from(options.queues);
        if let Some(asked) = &options.cores {
            asked.check_usable().map_err(input)?;
            let asked = asked.as_slice();
            let device = usable
                .as_slice()
                .iter()
                .find(|core| !asked.contains(core))
                .copied();
            let workers = asked.iter().take(queues).copied().map(Some).collect();
            return Ok(Self { device, workers });
        }
        Ok(match usable.as_slice() {
            [first, rest @ ..] if !rest.is_empty() => Self {
                device: Some(*first),
                workers: rest.iter().take(queues).copied().map(Some).collect(),
            },
            _ => Self {
                device: None,
                workers: vec![None],
            },
        })
    }
}

/// Enough buffers for every ring to be full with a batch and a cache beside it.
fn pool_size(options: &Options) -> u32 {
    options.pool.unwrap_or_else(|| {
        let pairs = options.devices.len() as u32 * u32::from(options.queues);
        pairs * (2 * u32::from(options.descriptors) + SPARE_BUFFERS)
    })
}
