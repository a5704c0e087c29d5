//! The whole comparison: a session for each of DPDK's code paths, then the rows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sumac_devices::shared_bar::Reservation;
use sumac_linux::signals::Stop;
use sumac_linux::time::TickCounter;

use crate::control::{Kind, Mode};
use crate::device_alone;
use crate::dpdk::{self, CodePath};
use crate::plan::{self, Row, VECTOR_BATCH};
use crate::processor;
use crate::report::{self, Machine, Report};
use crate::rig::SoftwareRig;
use crate::session::{Placement, Session, SessionError};
use crate::statistics::{Class, Rules, Sample, spread};
use crate::turns::{self, Measured};

/// What to compare, and where.
#[derive(Debug)]
pub struct Comparison {
    /// DPDK's version, for the peer's name.
    pub dpdk_version: String,
    /// How it is timed.
    pub kinds: Vec<Kind>,
    /// What a turn does.
    pub modes: Vec<Mode>,
    /// Packets a turn.
    pub batches: Vec<u32>,
    /// How long to measure.
    pub budget: Duration,
    /// The device's core.
    pub device_core: usize,
    /// The drivers' core.
    pub driver_core: usize,
    /// Where DPDK's program and its log go.
    pub directory: PathBuf,
    /// The wish to end early.
    pub stop: Stop,
}

/// 2 MiB pages for DPDK and for our driver's pool of 8,192 buffers and its rings.
const HUGE_PAGES: u64 = dpdk::MEGABYTES / 2 + 16;
/// Fewer windows of a class say nothing.
const ENOUGH: usize = 8;

/// Runs the comparison. Rows that cannot be measured are named on standard error and left out.
///
/// # Errors
/// [`SessionError`] when nothing can be compared; everything is given back then, too.
pub fn compare(comparison: &Comparison) -> Result<Report, SessionError> {
    let counter = TickCounter::start();
    let program = dpdk::build(&comparison.directory)?;
    let _pages = Reservation::new(HUGE_PAGES)?;
    std::thread::sleep(Duration::from_millis(500));
    let hz = counter.rate().map_or(1e9, |rate| rate.hz);
    let rules = Rules::at(hz);
    let placement = Placement {
        device_core: comparison.device_core,
        driver_core: comparison.driver_core,
        window_ticks: (hz / 1000.0) as u64,
        stop: comparison.stop,
    };
    let all = plan::rows(&comparison.kinds, &comparison.modes, &comparison.batches);
    let mut report = Report {
        machine: Machine {
            processor: processor::name(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            ticks_per_second: hz,
        },
        rows: Vec::new(),
        tolerated: Vec::new(),
    };
    let mut failure = None;
    for path in [CodePath::Vector, CodePath::Scalar] {
        let vector = path == CodePath::Vector;
        let rows = all.iter().copied();
        let rows: Vec<_> = rows
            .filter(|row| (row.batch >= VECTOR_BATCH) == vector)
            .collect();
        if rows.is_empty() || comparison.stop.requested() {
            continue;
        }
        let budget = comparison
            .budget
            .mul_f64(rows.len() as f64 / all.len() as f64);
        let measured = session(comparison, &program, path, placement, &rows, budget);
        let name = format!("DPDK {} {}", short(&comparison.dpdk_version), path.name());
        for row in &rows {
            match measured.samples.get(row) {
                Some(samples) => {
                    let samples = samples.each_ref();
                    let line = line(row.name(), row.kind, samples, &rules, &name);
                    report.rows.extend(line);
                }
                None => eprintln!("{}: left out: {}", row.name(), reason(&measured, row)),
            }
        }
        report.tolerate(&measured.tolerated);
        if let Some(error) = measured.failure {
            eprintln!("{name}: ended early: {error}");
            failure = failure.or(Some(error));
        }
    }
    if report.rows.is_empty() {
        return Err(failure.unwrap_or(SessionError::Nothing));
    }
    report.rows.sort_by_key(|row| position(&all, &row.name));
    if !comparison.stop.requested() {
        match device_alone::measure(&rules, comparison.device_core) {
            Ok(rows) => report.rows.extend(rows),
            Err(error) => eprintln!("device/*: left out: {error}"),
        }
    }
    Ok(report)
}

/// Why there is no sample of a row.
fn reason(measured: &Measured, row: &Row) -> String {
    let failure = || measured.failure.as_ref().map(ToString::to_string);
    let reason = measured.left_out.get(row).cloned().or_else(failure);
    reason.unwrap_or_else(|| "never its turn".to_owned())
}

fn position(rows: &[Row], name: &str) -> usize {
    let found = rows.iter().position(|row| row.name() == name);
    found.unwrap_or(usize::MAX)
}

/// `22.11` of `22.11.11`.
fn short(version: &str) -> &str {
    version
        .match_indices('.')
        .nth(1)
        .map_or(version, |(at, _)| &version[..at])
}

fn session(
    comparison: &Comparison,
    program: &Path,
    path: CodePath,
    placement: Placement,
    rows: &[Row],
    budget: Duration,
) -> Measured {
    let name = format!("dpdk-{}.log", path.name());
    let log = comparison.directory.join(name);
    let start = || {
        if placement.stop.requested() {
            return Err(SessionError::Interrupted);
        }
        Session::start(&SoftwareRig, program, path, placement, log.clone())
    };
    turns::measure(start, rows, budget)
}

/// The row in the nearest class that both have enough windows of; says so when there is none.
pub fn line(
    row: String,
    kind: Kind,
    [peer, ours]: [&Sample; 2],
    rules: &Rules,
    name: &str,
) -> Option<report::Row> {
    let classes: &[Class] = match kind {
        Kind::Stepped => &[Class::Same],
        _ => &[Class::Near, Class::Far],
    };
    for &class in classes {
        let figures = ours.figure(rules, class).zip(peer.figure(rules, class));
        if let Some((our, their)) = figures
            && our.windows.min(their.windows) >= ENOUGH
        {
            let spread = spread(ours, peer, rules, class);
            let name = name.to_owned();
            return Some(report::Row::compare(row, class, our, their, name, spread));
        }
    }
    let undisturbed = |sample: &Sample| {
        let counts = classes.iter().map(|&class| {
            let windows = sample
                .figure(rules, class)
                .map_or(0, |figure| figure.windows);
            format!("{windows} {}", class.name())
        });
        counts.collect::<Vec<_>>().join(", ")
    };
    eprintln!(
        "{row}: left out: no class in which both have {ENOUGH} undisturbed windows: ours {} of {}, {name} {} of {}",
        undisturbed(ours),
        ours.taken(),
        undisturbed(peer),
        peer.taken()
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Window;

    #[test]
    fn versions_are_shortened() {
        assert_eq!(short("22.11.11"), "22.11");
        assert_eq!(short("23.11"), "23.11");
    }

    #[test]
    fn near_is_preferred_where_both_have_it() {
        let rules = Rules::at(1e9);
        let sample = |ticks, round_trip, count| {
            let mut sample = Sample::default();
            let window = Window {
                ticks,
                packets: 100,
                round_trip,
                ..Window::default()
            };
            sample.add(vec![window; count]);
            sample
        };
        let line = |[peer, ours]: &[Sample; 2]| {
            line(
                "forward/32".to_owned(),
                Kind::Stream,
                [peer, ours],
                &rules,
                "DPDK",
            )
        };
        let near = [sample(2000, 100, 9), sample(1000, 100, 9)];
        let found = line(&near).unwrap();
        assert_eq!((found.class, found.ratio), ("near", Some(0.5)));
        let mixed = [sample(2000, 100, 9), sample(1000, 400, 9)];
        assert!(line(&mixed).is_none());
    }
}
