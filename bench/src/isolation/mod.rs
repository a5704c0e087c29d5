//! What isolation costs: calls between domains, and packets through a port that does nothing.
//!
//! Domains come from their signed files, as a host has them. Every row is measured in short windows, in turn
//! with all others; a turn during which the thread lost its core is dropped.

use std::hint::black_box;
use std::path::Path;

use sumac_interface::Interface;
use sumac_linux::domains::{self, StartError, Started, start};
use sumac_linux::time::{TickCounter, ticks};
use sumac_rref::SharedHeap;
use sumac_runtime::Quota;
use sumac_runtime::load::{LoadError, TrustedKeys, inspect};

use crate::processor::{self, involuntary_switches};
use crate::report::{self, Machine, Report, Row};

pub mod calls;
pub mod forward;
pub mod idle;
pub mod nullnet;
pub mod process;
pub mod restart;

/// Why a benchmark of isolation did not run.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// A domain file is not there.
    #[error("{file}: {source}; build it: cargo xtask domains")]
    File {
        /// The file.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A file that is no domain file.
    #[error("{file}: {source}; build it again: cargo xtask domains")]
    NoDomain {
        /// The file.
        file: String,
        /// Why not.
        source: LoadError,
    },
    /// A domain that does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Linux gives something not that hosting domains, or the comparison, takes.
    #[error("{what}: {source}")]
    Linux {
        /// What for.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// What was to be measured failed.
    #[error("{0}")]
    Failed(String),
}

/// The heap that all domains of a benchmark share.
pub fn heap() -> Result<&'static SharedHeap, IsolationError> {
    let linux = |source| IsolationError::Linux {
        what: "hosting domains",
        source,
    };
    domains::install().map_err(linux)?;
    domains::attach().map_err(linux)?;
    Ok(SharedHeap::create_for(domains::hooks()))
}

/// Starts a domain from its file in `folder`. Whoever signed the file is trusted: it was built here.
pub fn domain<I: Interface + ?Sized>(
    folder: &Path,
    name: &str,
    heap: &'static SharedHeap,
) -> Result<Started<I>, IsolationError> {
    let path = folder.join(format!("{name}.domain"));
    let shown = path.display().to_string();
    let file = std::fs::read(&path).map_err(|source| IsolationError::File {
        file: shown.clone(),
        source,
    })?;
    let signer = inspect(&file)
        .map_err(|source| IsolationError::NoDomain {
            file: shown,
            source,
        })?
        .signer;
    let trust = TrustedKeys::from_iter([signer]);
    Ok(start(name, &file, &trust, Quota::default(), heap)?)
}

/// Something to be measured.
pub struct Candidate<'a> {
    /// The row's name.
    pub name: String,
    /// Units (calls, packets) that a run of `work` does.
    pub units: u64,
    /// Does the work so many times.
    pub work: Box<dyn FnMut(u64) + 'a>,
    /// Runs in a window.
    pub runs: u64,
}

/// What becomes of a turn in which the thread lost its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbed {
    /// It is dropped whole.
    Drop,
    /// It counts: losing the core is part of what is measured.
    Keep,
}

/// Ticks a unit of each candidate, turn by turn.
pub fn measure(
    candidates: &mut [Candidate<'_>],
    windows: usize,
    disturbed: Disturbed,
) -> Vec<Vec<f64>> {
    let mut figures: Vec<Vec<f64>> = candidates.iter().map(|_| Vec::new()).collect();
    for candidate in &mut *candidates {
        (candidate.work)(candidate.runs);
    }
    for _ in 0..windows {
        let switches = involuntary_switches();
        let turn = candidates.iter_mut().map(|candidate| {
            let start = ticks();
            (candidate.work)(black_box(candidate.runs));
            (ticks() - start) as f64 / (candidate.runs * candidate.units) as f64
        });
        let turn: Vec<f64> = turn.collect();
        if disturbed == Disturbed::Keep || involuntary_switches() == switches {
            figures
                .iter_mut()
                .zip(turn)
                .for_each(|(all, one)| all.push(one));
        }
    }
    figures
}

/// The value that a share of the figures lies below.
pub fn quantile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// A row: the median of `ours`, beside that of the peer measured in the same turns; the ratio is the median of
/// the turns' ratios, so that what slows a whole turn down leaves it alone.
pub fn row(
    name: &str,
    unit: &'static str,
    ours: &[f64],
    peer: Option<(&str, &[f64])>,
    paper: Option<f64>,
) -> Row {
    let median = quantile(ours, 0.5);
    let ratios: Option<Vec<f64>> =
        peer.map(|(_, peer)| ours.iter().zip(peer).map(|(o, p)| o / p).collect());
    let peer_median = peer.map(|(_, figures)| quantile(figures, 0.5));
    Row {
        name: name.to_owned(),
        unit,
        ours: median,
        peer: peer_median,
        peer_name: peer.map(|(name, _)| name.to_owned()),
        ratio: ratios.as_deref().map(|ratios| quantile(ratios, 0.5)),
        spread: ratios.map(|ratios| [quantile(&ratios, 0.25), quantile(&ratios, 0.75)]),
        windows: ours.len(),
        class: "same core",
        limited_by: "driver",
        device_idle: None,
        paper,
    }
}

/// The machine, for the report, its tick rate counted since `counter` began.
pub fn machine(counter: &TickCounter) -> Machine {
    Machine {
        processor: processor::name(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        ticks_per_second: counter.rate().map_or(1e9, |rate| rate.hz),
    }
}

/// The rows for people.
pub fn table(report: &Report) -> String {
    report::lines(
        report.rows.first().map_or("", |row| row.unit),
        &report.rows,
        &[
            ("median", |row| report::number(Some(row.ours))),
            ("peer", |row| report::number(row.peer)),
            ("ratio", |row| report::number(row.ratio)),
            ("spread", report::spread),
            ("windows", |row| row.windows.to_string()),
            ("paper", |row| report::number(row.paper)),
            ("beside", report::peer_name),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let ours = [6.0, 2.0, 4.0, 10.0, 8.0];
        let row = row("a", "ticks/call", &ours, Some(("b", &[8.0; 5])), None);
        assert_eq!((row.ours, row.ratio, row.windows), (6.0, Some(0.75), 5));
        assert_eq!(row.spread, Some([0.5, 1.0]));
    }

    #[test]
    fn candidates_take_turns() {
        let order = std::cell::RefCell::new(Vec::new());
        let mut candidates: Vec<Candidate<'_>> = (0..2)
            .map(|i| {
                let order = &order;
                Candidate {
                    name: i.to_string(),
                    units: 1,
                    work: Box::new(move |_| order.borrow_mut().push(i)),
                    runs: 1,
                }
            })
            .collect();
        let figures = measure(&mut candidates, 2, Disturbed::Keep);
        assert!(figures.iter().all(|figures| figures.len() == 2));
        drop(candidates);
        assert_eq!(*order.borrow(), [0, 1, 0, 1, 0, 1]);
    }
}
