//! One run from open to summary: everything but the fast path.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sumac_interface::net::{Net, QueueStats};
use sumac_ixgbe::{Port, PortConfig};
use sumac_linux::cores::{self, CoreList};
use sumac_linux::open::{self, OpenPorts, SoftwareDevice};
use sumac_linux::signals::Stop;
use sumac_rref::{PacketPool, SharedHeap};

use crate::cli::{Isolation, Options};
use crate::domains::DomainHost;
use crate::dump::Dump;
use crate::forward::{Lane, LaneFigures, Order, Outcome, Shared, Worker};
use crate::report::{PoolReport, PortReport, Report, WireReport};
use crate::rewrite::Rewrite;
use crate::table::{Line, Table};

/// How often the main thread looks around.
const WATCH: Duration = Duration::from_millis(20);
/// How often it looks after the devices.
const CHECK: Duration = Duration::from_millis(500);
/// Buffers for caches and batches of one queue pair, besides its rings.
const SPARE_BUFFERS: u32 = 1024;

/// Why a run did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something given cannot be: nothing was forwarded.
    #[error("{0}")]
    Input(String),
    /// A device or a file failed on the way.
    #[error("{0}")]
    Device(String),
}

fn input(error: impl std::fmt::Display) -> RunError {
    RunError::Input(error.to_string())
}

fn device(error: impl std::fmt::Display) -> RunError {
    RunError::Device(error.to_string())
}

/// Forwards as the options say, until the time, the frames or the input are over or a signal comes.
///
/// # Errors
/// [`RunError`].
pub fn run(options: &Options) -> Result<Report, RunError> {
    let stop = Stop::install().map_err(device)?;
    let cores = Cores::choose(options)?;
    let mut opened = open::open(&options.devices, cores.device).map_err(input)?;
    match options.isolation {
        Isolation::Driver => {
            let pool = packet_pool(options, &opened, SharedHeap::create())?;
            let config = port_config(options);
            let make = |port: &mut open::OpenPort| {
                Port::open(port.backing.clone(), pool, &config).map_err(input)
            };
            forward(options, stop, &cores, &mut opened, pool, make)
        }
        Isolation::Domain => {
            let host = DomainHost::new(options).map_err(input)?;
            let pool = packet_pool(options, &opened, host.heap())?;
            let mut drivers = host.drivers(pool);
            let make = |port: &mut open::OpenPort| drivers.start(port, options).map_err(input);
            forward(options, stop, &cores, &mut opened, pool, make)
        }
    }
}

fn packet_pool(
    options: &Options,
    opened: &OpenPorts,
    heap: &'static SharedHeap,
) -> Result<&'static PacketPool, RunError> {
    PacketPool::create(heap, &*opened.dma, pool_size(options)).map_err(input)
}

/// A run over ports that `make` opens.
fn forward<N: Net<Queue: 'static>>(
    options: &Options,
    stop: Stop,
    cores: &Cores,
    opened: &mut OpenPorts,
    pool: &'static PacketPool,
    make: impl FnMut(&mut open::OpenPort) -> Result<N, RunError>,
) -> Result<Report, RunError> {
    let mut ports = open_ports(opened, make)?;
    let dump = match &options.pcap_dump {
        Some(path) => {
            let dump = Dump::create(path, options.pcap_dump_size << 20).map_err(input)?;
            Some(Arc::new(dump))
        }
        None => None,
    };
    let frames = Shared::new(options.frames);
    let mut workers = start_workers(options, &mut ports, pool, cores, &frames, dump.clone())?;

    let start = Instant::now();
    let failure = watch(options, &mut ports, &workers, opened, &frames, stop);
    let seconds = start.elapsed().as_secs_f64();

    let stopped = stop_all(&mut ports, &mut workers, &frames);
    let mut report = sum_up(&ports, &workers, seconds);
    let ended = close(ports, workers, opened, &mut report);
    report.pool = PoolReport::new(pool.account(), pool.exhausted(), pool.huge_pages());
    if let Some(dump) = dump {
        dump.finish().map_err(device)?;
    }
    failure.and(stopped).and(ended)?;
    let failure = report.failures().next();
    match failure {
        Some(failure) => Err(device(failure)),
        None => Ok(report),
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

/// A port, what it was opened as, and where its frames go.
struct OpenPort<N> {
    name: String,
    port: N,
    software: Option<SoftwareDevice>,
}

fn port_config(options: &Options) -> PortConfig {
    PortConfig {
        queues: options.queues,
        rx_descriptors: options.descriptors,
        tx_descriptors: options.descriptors,
        mtu: options.mtu,
        promiscuous: options.is_promiscuous(),
        all_multicast: options.is_promiscuous(),
        ..PortConfig::default()
    }
}

fn open_ports<N: Net>(
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
        });
    }
    for open in &mut ports {
        open.port.start().map_err(input)?;
    }
    Ok(ports)
}

/// Where port `index` of `count` sends what it receives: 0 and 1 to each other, 2 and 3; an odd last
/// one to itself.
fn partner(index: usize, count: usize) -> usize {
    let other = index ^ 1;
    if other < count { other } else { index }
}

/// A worker's thread and its figures, lane by lane: the port each lane receives from.
struct RunningWorker<Q> {
    thread: Option<JoinHandle<Outcome<Q>>>,
    lanes: Vec<(usize, Arc<LaneFigures>)>,
    outcome: Option<Outcome<Q>>,
}

fn start_workers<N: Net<Queue: 'static>>(
    options: &Options,
    ports: &mut [OpenPort<N>],
    pool: &'static PacketPool,
    cores: &Cores,
    shared: &Arc<Shared>,
    dump: Option<Arc<Dump>>,
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
        );
        let figures = froms.into_iter().zip(worker.figures()).collect();
        let core = cores.workers[index];
        let thread = cores::spawn(&format!("l2fwd-{index}"), core, move || worker.run());
        Ok(RunningWorker {
            thread: Some(thread.map_err(device)?),
            lanes: figures,
            outcome: None,
        })
    };
    lanes.into_iter().enumerate().map(start).collect()
}

/// Waits for the end, looking after devices and showing figures meanwhile.
fn watch<N: Net>(
    options: &Options,
    ports: &mut [OpenPort<N>],
    workers: &[RunningWorker<N::Queue>],
    opened: &OpenPorts,
    shared: &Shared,
    stop: Stop,
) -> Result<(), RunError> {
    let mut table = Table::new();
    let usual = if table.is_terminal() && !options.json {
        Duration::from_secs(1)
    } else {
        Duration::ZERO
    };
    let interval = options.stats_interval.unwrap_or(usual);
    let start = Instant::now();
    let (mut drawn, mut checked) = (start, start);
    loop {
        let left = options
            .duration
            .map_or(WATCH, |all| all.saturating_sub(start.elapsed()));
        let over = options.duration.is_some_and(|all| start.elapsed() >= all);
        if stop.wait(left.min(WATCH)) || over || shared.exhausted() || inputs_over(ports) {
            return Ok(());
        }
        if workers
            .iter()
            .any(|w| w.thread.as_ref().is_none_or(JoinHandle::is_finished))
        {
            return Ok(()); // Its outcome says why.
        }
        if !opened.is_alive() {
            return Err(device(
                "the software device's thread ended; this is a defect, report it",
            ));
        }
        if checked.elapsed() >= CHECK {
            checked = Instant::now();
            for open in ports.iter_mut() {
                open.port.check().map_err(device)?;
            }
        }
        if !interval.is_zero() && drawn.elapsed() >= interval {
            let lines = ports
                .iter_mut()
                .enumerate()
                .map(|(i, open)| line(i, open, workers));
            let lines = lines.collect();
            table.draw(lines, drawn.elapsed());
            drawn = Instant::now();
        }
    }
}

/// Whether every input that ends has ended, and there is one.
fn inputs_over<N>(ports: &[OpenPort<N>]) -> bool {
    let mut finite = ports
        .iter()
        .filter_map(|open| Some(open.software.as_ref()?.wire()))
        .filter(|wire| wire.has_input && (wire.finished || wire.ends))
        .peekable();
    finite.peek().is_some() && finite.all(|wire| wire.finished)
}

fn live_stats<Q>(port: usize, workers: &[RunningWorker<Q>]) -> (QueueStats, u64, u64) {
    let mut stats = QueueStats::default();
    let (mut waiting, mut busy) = (0, 0);
    for (_, figures) in workers
        .iter()
        .flat_map(|w| &w.lanes)
        .filter(|(from, _)| *from == port)
    {
        stats += figures.stats();
        waiting += figures.waiting();
        busy += figures.busy_ticks();
    }
    (stats, waiting, busy)
}

fn line<N: Net>(index: usize, open: &mut OpenPort<N>, workers: &[RunningWorker<N::Queue>]) -> Line {
    let (stats, waiting, busy_ticks) = live_stats(index, workers);
    let hardware = Hardware::read(&mut open.port);
    let link = open.port.link();
    Line {
        device: open.name.clone(),
        link_mbps: if link.up { link.mbps } else { 0 },
        rx: (stats.rx_packets, stats.rx_bytes),
        tx: (stats.tx_packets, stats.tx_bytes),
        drops: [
            hardware.dropped + stats.rx_starved,
            hardware.errors + stats.rx_errors,
            stats.tx_errors,
        ],
        waiting,
        busy_ticks,
    }
}

/// What the device itself counted.
struct Hardware {
    dropped: u64,
    errors: u64,
}

impl Hardware {
    fn read(port: &mut impl Net) -> Self {
        let counters = port.counters();
        let of = |name: &str| {
            counters
                .iter()
                .filter(|(n, _)| n == name)
                .map(|(_, v)| v)
                .sum()
        };
        Self {
            dropped: of("rx_missed_errors"),
            errors: of("rx_errors"),
        }
    }
}

/// Stops receiving, lets workers send what they have, and takes their queues home.
fn stop_all<N: Net>(
    ports: &mut [OpenPort<N>],
    workers: &mut [RunningWorker<N::Queue>],
    shared: &Shared,
) -> Result<(), RunError> {
    let mut result = Ok(());
    for open in ports.iter_mut() {
        result = result.and(open.port.stop_receiving().map_err(device));
    }
    shared.order(Order::Drain);
    for worker in workers.iter_mut() {
        match worker.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => {
                if let Some(error) = &outcome.error {
                    result = result.and(Err(device(error)));
                }
                worker.outcome = Some(outcome);
            }
            Some(Err(_)) | None => {
                result = result.and(Err(device(
                    "a worker ended badly; this is a defect, report it",
                )));
            }
        }
    }
    result
}

fn sum_up<N: Net>(
    ports: &[OpenPort<N>],
    workers: &[RunningWorker<N::Queue>],
    seconds: f64,
) -> Report {
    let mut report = Report {
        seconds,
        ..Report::default()
    };
    let mut busy_ticks = 0;
    for (index, open) in ports.iter().enumerate() {
        let (stats, _, busy) = live_stats(index, workers);
        busy_ticks += busy;
        report.ports.push(PortReport {
            device: open.name.clone(),
            mac: open.port.mac().to_string(),
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            tx_dropped: stats.tx_errors,
            rx_dropped: stats.rx_starved,
            rx_errors: stats.rx_errors,
            rx_no_buffer: stats.rx_no_buffer,
            tx_full: stats.tx_full,
            ..PortReport::default()
        });
    }
    for worker in workers {
        let Some(outcome) = &worker.outcome else {
            continue;
        };
        for ((from, _), undelivered) in worker.lanes.iter().zip(&outcome.undelivered) {
            let to = partner(*from, ports.len());
            if let Some(port) = report.ports.get_mut(to) {
                port.tx_dropped += undelivered;
            }
        }
    }
    report.sum_up(busy_ticks)
}

/// Stops the devices, gives every buffer back, and adds what devices and wires counted.
fn close<N: Net>(
    mut ports: Vec<OpenPort<N>>,
    workers: Vec<RunningWorker<N::Queue>>,
    opened: &mut OpenPorts,
    report: &mut Report,
) -> Result<(), RunError> {
    let mut result = Ok(());
    for (open, report) in ports.iter_mut().zip(&mut report.ports) {
        let hardware = Hardware::read(&mut open.port);
        report.rx_dropped += hardware.dropped;
        report.rx_errors += hardware.errors;
        result = result.and(open.port.stop().map_err(device));
    }
    for worker in workers {
        let Some(outcome) = worker.outcome else {
            continue;
        };
        for ((from, _), queue) in worker.lanes.iter().zip(outcome.queues) {
            if let Some(open) = ports.get_mut(*from) {
                open.port.return_queues(vec![queue]);
            }
        }
    }
    opened.finish();
    for (open, report) in ports.iter().zip(&mut report.ports) {
        let Some(software) = &open.software else {
            continue;
        };
        let wire = software.wire();
        report.wire = Some(WireReport {
            sent: wire.to_device_frames,
            received: wire.from_device_frames,
            missing: wire.errors.gaps,
            errors: wire.errors.total() - wire.errors.gaps - wire.errors.refused,
            refused: wire.errors.refused,
            failure: wire.failure,
        });
        let violations = software.violations();
        report.violations = violations.iter().map(|(_, count)| count).sum();
        report.violated = violations
            .iter()
            .map(|(rule, n)| format!("{rule}: {n}"))
            .collect();
    }
    result
}
