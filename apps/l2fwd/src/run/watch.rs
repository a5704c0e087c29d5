//! Waits for the end of a run, looking after devices and showing figures meanwhile.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sumac_devices::ixgbe::Totals;
use sumac_interface::net::{Net, NetError, QueueStats};
use sumac_linux::open::OpenPorts;

use crate::forward::Shared;
use crate::table::{Line, Table};

use super::links::Links;
use super::ports::{OpenPort, RunningWorker, partner};
use super::supervision::Supervision;
use super::{Run, RunError, device};

/// How often the main thread looks around.
const WATCH: Duration = Duration::from_millis(20);
/// How often it does for so long at first, to see when the first frame left.
const FIRST: Duration = Duration::from_micros(100);
const BEGINNING: Duration = Duration::from_secs(1);
/// How often it looks after the devices.
const CHECK: Duration = Duration::from_millis(500);

/// Waits for the end. Returns when the first frame left, since the program began, if one did.
///
/// # Errors
/// [`RunError`] when a device fails.
pub fn watch<N: Net>(
    run: &Run<'_>,
    ports: &mut [OpenPort<N>],
    workers: &[RunningWorker<N::Queue>],
    links: &mut Links,
    opened: &OpenPorts,
    shared: &Shared,
    supervision: &Supervision<'_>,
) -> Result<Option<Duration>, RunError> {
    let mut lost = None;
    let first = watch_until(
        run,
        ports,
        workers,
        links,
        opened,
        shared,
        supervision,
        &mut lost,
    );
    match lost {
        Some(error) => Err(error),
        None => first,
    }
}

/// Looks after the devices. One that is gone ends the run, unless others can go on; the first is in `lost`.
fn check<N: Net>(ports: &mut [OpenPort<N>], lost: &mut Option<RunError>) -> Result<(), RunError> {
    for index in 0..ports.len() {
        let Some(open) = ports.get_mut(index).filter(|open| !open.lost) else {
            continue;
        };
        match open.port.check() {
            Ok(()) => continue,
            Err(error @ NetError::Gone { .. }) => {
                open.lost = true;
                lost.get_or_insert(device(error));
            }
            Err(error) => return Err(device(error)),
        }
        let goes_on = |index: usize| !ports[index].lost && !ports[partner(index, ports.len())].lost;
        if !(0..ports.len()).any(goes_on) {
            return Err(device("no ports are left"));
        }
    }
    Ok(())
}

/// Looks at the links of the ports that are there. One that does not answer is found by [`check`].
fn look_at<N: Net>(ports: &mut [OpenPort<N>], links: &mut Links) {
    for (index, open) in ports.iter_mut().enumerate().filter(|(_, open)| !open.lost) {
        let _ = links.look(index, &mut open.port);
    }
}

#[expect(clippy::too_many_arguments, reason = "what a run consists of")]
fn watch_until<N: Net>(
    run: &Run<'_>,
    ports: &mut [OpenPort<N>],
    workers: &[RunningWorker<N::Queue>],
    links: &mut Links,
    opened: &OpenPorts,
    shared: &Shared,
    supervision: &Supervision<'_>,
    lost: &mut Option<RunError>,
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
    loop {
        let left = options
            .duration
            .map_or(WATCH, |all| all.saturating_sub(start.elapsed()));
        let over = options.duration.is_some_and(|all| start.elapsed() >= all);
        if first.is_none() && has_begun(workers) {
            first = Some(run.began.elapsed());
        }
        let stopped = if first.is_none() && start.elapsed() < BEGINNING {
            std::thread::sleep(FIRST);
            run.stop.requested()
        } else {
            run.stop.wait(left.min(WATCH))
        };
        if stopped || over || shared.exhausted() || inputs_over(ports) {
            return Ok(first);
        }
        if workers
            .iter()
            .any(|w| w.thread.as_ref().is_none_or(JoinHandle::is_finished))
        {
            return Ok(first); // Its outcome says why.
        }
        if !opened.is_alive() {
            return Err(device(
                "the software device's thread ended; this is a defect, report it",
            ));
        }
        let mut look = links.rung();
        if checked.elapsed() >= CHECK {
            checked = Instant::now();
            check(ports, lost)?;
            look |= !links.have_interrupts();
        }
        if look {
            look_at(ports, links);
        }
        if !interval.is_zero() && drawn.elapsed() >= interval {
            let lines = ports
                .iter_mut()
                .enumerate()
                .map(|(i, open)| line(i, open, workers, links, supervision));
            let lines: Vec<_> = lines.collect();
            let besides = supervision.shown(lines.len());
            table.draw(lines, drawn.elapsed(), besides.as_deref());
            drawn = Instant::now();
        }
    }
}

fn has_begun<Q>(workers: &[RunningWorker<Q>]) -> bool {
    let mut lanes = workers.iter().flat_map(|worker| &worker.lanes);
    lanes.any(|(_, figures)| figures.stats().tx_packets > 0)
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

pub fn live_stats<Q>(port: usize, workers: &[RunningWorker<Q>]) -> (QueueStats, u64, u64) {
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

fn line<N: Net>(
    index: usize,
    open: &mut OpenPort<N>,
    workers: &[RunningWorker<N::Queue>],
    links: &Links,
    supervision: &Supervision<'_>,
) -> Line {
    let (stats, waiting, busy_ticks) = live_stats(index, workers);
    let totals = supervision.totals(index, open.software.as_ref());
    let hardware = Hardware::read(&mut open.port, totals.as_ref());
    let link = links.of(index).link;
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
pub struct Hardware {
    pub dropped: u64,
    pub errors: u64,
}

impl Hardware {
    /// From the device from behind where that is known, else as its driver read it.
    pub fn read(port: &mut impl Net, totals: Option<&Totals>) -> Self {
        let counters = port.counters();
        let of = |name: &str| {
            counters
                .iter()
                .filter(|(n, _)| n == name)
                .map(|(_, v)| v)
                .sum()
        };
        Self {
            dropped: totals.map_or_else(|| of("rx_missed_errors"), Totals::missed),
            errors: of("rx_errors"),
        }
    }
}
