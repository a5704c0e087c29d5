//! Waits for the end of a run, looking after devices and showing figures meanwhile.

use std::ops::AddAssign;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sumac_devices::ixgbe::Totals;
use sumac_interface::net::{Net, QueueStats};

use crate::cli::Options;
use crate::forward::Shared;
use crate::table::{Line, LinkState, Table};

use super::links::Links;
use super::ports::{OpenPort, Ports, RunningWorker};
use super::supervision::Supervision;
use super::{Run, RunError, device};

/// How often the main thread looks around.
const WATCH: Duration = Duration::from_millis(20);
/// How often it does for so long at first, to see when the first frame left.
const FIRST: Duration = Duration::from_micros(100);
const BEGINNING: Duration = Duration::from_secs(1);
/// How often it looks after the devices.
const CHECK: Duration = Duration::from_millis(100);

/// Waits for the end. Returns when the first frame left, since the program began, if one did.
///
/// # Errors
/// [`RunError`] when a device fails. One that is gone is no failure: its port tells.
pub fn watch<N: Net>(
    run: &Run<'_>,
    ports: &mut Ports<'_, N>,
    workers: &[RunningWorker<N::Queue>],
    shared: &Shared,
    supervision: &Supervision<'_>,
) -> Result<Option<Duration>, RunError> {
    let options = run.options;
    let mut table = Table::new();
    let usual = if table.is_terminal() && !options.json {
        Duration::from_secs(1)
    } else {
        Duration::ZERO
    };
    let interval = options.stats_interval.unwrap_or(usual);
    let start = Instant::now();
    let (mut drawn, mut checked) = (start, start);
    let mut first = None;
    // What sleeps is not to be kept awake by being watched.
    let pause = if options.interrupt { CHECK } else { WATCH };
    loop {
        let left = options
            .duration
            .map_or(pause, |all| all.saturating_sub(start.elapsed()));
        let over = options.duration.is_some_and(|all| start.elapsed() >= all);
        if first.is_none() && has_begun(workers) {
            first = Some(run.began.elapsed());
        }
        let stopped = if first.is_none() && start.elapsed() < BEGINNING {
            std::thread::sleep(FIRST);
            run.stop.requested()
        } else {
            run.stop.wait(left.min(pause))
        };
        if stopped || over || shared.exhausted() || inputs_over(&ports.list) {
            return Ok(first);
        }
        if workers
            .iter()
            .any(|w| w.thread.as_ref().is_none_or(JoinHandle::is_finished))
        {
            return Ok(first); // Its outcome says why.
        }
        if !ports.opened.is_alive() {
            return Err(device(
                "the software device's thread ended; this is a defect, report it",
            ));
        }
        let due = checked.elapsed() >= CHECK;
        if due {
            checked = Instant::now();
        }
        if look_after(ports, due, options, workers, supervision)? == Devices::End {
            return Ok(first);
        }
        if ports.links.rung() || due && !ports.links.have_interrupts() {
            ports.look_at_links();
        }
        if !interval.is_zero() && drawn.elapsed() >= interval {
            let lines = lines(ports, workers, supervision);
            let besides = supervision.shown(lines.len());
            table.draw(lines, drawn.elapsed(), besides.as_deref());
            drawn = Instant::now();
        }
    }
}

/// What the devices allow.
#[derive(PartialEq, Eq)]
enum Devices {
    GoOn,
    /// No frame can pass any more, or a driver has failed.
    End,
}

/// Looks after the devices: those that are wanted back or whose queue pairs failed, and when it is `due` all of
/// them. Those that are gone lose their ports, and get them back if they are waited for.
fn look_after<N: Net>(
    ports: &mut Ports<'_, N>,
    due: bool,
    options: &Options,
    workers: &[RunningWorker<N::Queue>],
    supervision: &Supervision<'_>,
) -> Result<Devices, RunError> {
    for index in 0..ports.list.len() {
        let open = &mut ports.list[index];
        if open.port.is_none() {
            if due
                && options.wait_for_device
                && ports.bring_back(index, options, workers, supervision)
            {
                eprintln!("l2fwd: {}: back", ports.list[index].name);
            }
            continue;
        }
        let failed = has_failed(index, workers);
        let why = match open.taken_back() {
            Some(why) => why,
            None if due || failed => match open.lost() {
                Ok(Some(why)) => why,
                _ if failed => return Ok(Devices::End), // Its worker's outcome says why.
                Ok(None) => continue,
                Err(error) => return Err(device(error)),
            },
            None => continue,
        };
        if options.wait_for_device {
            eprintln!("l2fwd: {}: gone, waiting for its return", open.name);
        }
        ports.take_out(index, why, workers, supervision)?;
        if !options.wait_for_device && !ports.any_goes_on() {
            return Ok(Devices::End);
        }
    }
    Ok(Devices::GoOn)
}

/// Whether a worker has put a queue pair of the port aside.
fn has_failed<Q>(port: usize, workers: &[RunningWorker<Q>]) -> bool {
    let mut lanes = workers.iter().flat_map(|worker| &worker.lanes);
    lanes.any(|(from, figures)| *from == port && figures.has_failed())
}

fn has_begun<Q>(workers: &[RunningWorker<Q>]) -> bool {
    let mut lanes = workers.iter().flat_map(|worker| &worker.lanes);
    lanes.any(|(_, figures)| figures.stats().tx_packets > 0)
}

/// Whether every input that ends has ended, and there is one. One of a device that is gone will not.
fn inputs_over<N>(ports: &[OpenPort<N>]) -> bool {
    let mut finite = ports
        .iter()
        .filter(|open| open.port.is_some())
        .filter_map(|open| Some(open.software.as_ref()?.wire()))
        .filter(|wire| wire.has_input && (wire.finished || wire.ends))
        .peekable();
    finite.peek().is_some() && finite.all(|wire| wire.finished)
}

/// What workers counted of a port.
#[derive(Default)]
pub struct Live {
    pub stats: QueueStats,
    /// Frames that wait in its rings.
    pub waiting: u64,
    /// Frames that were to leave by it, dropped while it was gone.
    pub gone: u64,
    pub busy_ticks: u64,
}

impl Live {
    pub fn of<Q>(port: usize, workers: &[RunningWorker<Q>]) -> Self {
        let mut live = Self::default();
        let lanes = workers.iter().flat_map(|worker| &worker.lanes);
        for (_, figures) in lanes.filter(|(from, _)| *from == port) {
            live.stats += figures.stats();
            live.waiting += figures.waiting();
            live.gone += figures.gone();
            live.busy_ticks += figures.busy_ticks();
        }
        live
    }
}

/// What the table shows of the ports.
fn lines<N: Net>(
    ports: &mut Ports<'_, N>,
    workers: &[RunningWorker<N::Queue>],
    supervision: &Supervision<'_>,
) -> Vec<Line> {
    let Ports { list, links, .. } = ports;
    let ports = list.iter_mut().enumerate();
    ports
        .map(|(index, open)| line(index, open, workers, links, supervision))
        .collect()
}

fn line<N: Net>(
    index: usize,
    open: &mut OpenPort<N>,
    workers: &[RunningWorker<N::Queue>],
    links: &Links,
    supervision: &Supervision<'_>,
) -> Line {
    let Live {
        stats,
        waiting,
        gone,
        busy_ticks,
    } = Live::of(index, workers);
    let totals = supervision.totals(index, open);
    let hardware = Hardware::read(open, totals.as_ref());
    let state = open.port.is_some().then(|| links.of(index).link);
    Line {
        device: open.name.clone(),
        link: match state {
            None => LinkState::Gone,
            Some(link) if link.up => LinkState::Up { mbps: link.mbps },
            Some(_) => LinkState::Down,
        },
        rx: (stats.rx_packets, stats.rx_bytes),
        tx: (stats.tx_packets, stats.tx_bytes),
        drops: [
            hardware.dropped + stats.rx_starved,
            hardware.errors + stats.rx_errors,
            stats.tx_errors + gone,
        ],
        waiting,
        busy_ticks,
    }
}

/// What the device itself counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hardware {
    pub dropped: u64,
    pub errors: u64,
    /// Frames for somebody else, which the port's filters kept out: exact once it does not receive any more.
    pub filtered: u64,
}

impl Hardware {
    /// Of all devices that the port has had: from the device from behind where that is known, else as drivers
    /// read it.
    pub fn read<N: Net>(open: &mut OpenPort<N>, totals: Option<&Totals>) -> Self {
        let mut sum = open.absence.past;
        if let Some(port) = &mut open.port {
            sum += Self::of(port);
        }
        if let Some(totals) = totals {
            sum.dropped = totals.missed();
            sum.filtered = totals.filtered();
        }
        sum
    }

    /// As a driver read it.
    pub fn of(port: &mut impl Net) -> Self {
        let counters = port.counters();
        let of = |name: &str| {
            counters
                .iter()
                .filter(|(n, _)| n == name)
                .map(|(_, v)| v)
                .sum()
        };
        let errors = of("rx_errors");
        let let_in = of("rx_mac_good_packets");
        Self {
            dropped: of("rx_missed_errors"),
            errors,
            filtered: of("rx_total_packets").saturating_sub(let_in + errors),
        }
    }
}

impl AddAssign for Hardware {
    fn add_assign(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.errors += other.errors;
        self.filtered += other.filtered;
    }
}
