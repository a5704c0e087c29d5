//! What it takes to go on when a driver died: restarts of its domain under traffic, beside starting the whole
//! program. Both are `l2fwd` as users run it, by turns; it says itself how long either took.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use sumac_linux::time::TickCounter;

use super::{IsolationError, machine, quantile, row};
use crate::report::{Report, Row};

/// Programs started in a round, and the time for which drivers crash in one.
const STARTS: usize = 4;
const CRASHING: &str = "3s";
/// What restarts are compared with.
const PEER: &str = "process start to first frame";

/// What a run of l2fwd says of itself.
#[derive(Deserialize)]
struct Run {
    first_frame_us: Option<f64>,
    restarts: u64,
    restart_latency_us: Option<Times>,
    device_reset_us: Option<Times>,
    restart_less_reset_us: Option<Times>,
    restart_own_us: Option<Times>,
}

#[derive(Clone, Copy, Deserialize)]
struct Times {
    p50: f64,
    p99: f64,
}

/// Measures `rounds` rounds; domain files are in `folder`, and l2fwd beside this program.
///
/// # Errors
/// [`IsolationError`].
pub fn run(folder: &Path, rounds: usize) -> Result<Report, IsolationError> {
    let counter = TickCounter::start();
    let (mut starts, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut round = Vec::new();
        for _ in 0..STARTS {
            let run = l2fwd(folder, &["--isolation", "driver", "--duration", "100ms"])?;
            round.extend(run.first_frame_us);
        }
        starts.push(quantile(&round, 0.5));
        let crashing = ["--crash-every", "10ms", "--duration", CRASHING];
        runs.push(l2fwd(
            folder,
            &[&["--isolation", "shadow"], &crashing[..]].concat(),
        )?);
    }
    let restarts: u64 = runs.iter().map(|run| run.restarts).sum();
    println!("{restarts} restarts in {rounds} rounds");
    let figure = |name: &str, of: fn(&Run) -> Option<Times>, share: fn(Times) -> f64| -> Row {
        let ours: Vec<f64> = runs.iter().filter_map(of).map(share).collect();
        row(name, "us", &ours, Some((PEER, &starts)), None)
    };
    Ok(Report {
        machine: machine(&counter),
        rows: vec![
            figure(
                "restart/less-reset/p99",
                |run| run.restart_less_reset_us,
                |t| t.p99,
            ),
            figure(
                "restart/less-reset/p50",
                |run| run.restart_less_reset_us,
                |t| t.p50,
            ),
            figure("restart/own/p99", |run| run.restart_own_us, |t| t.p99),
            figure("restart/own/p50", |run| run.restart_own_us, |t| t.p50),
            figure("restart/whole/p99", |run| run.restart_latency_us, |t| t.p99),
            figure("restart/reset/p50", |run| run.device_reset_us, |t| t.p50),
        ],
        tolerated: Vec::new(),
    })
}

fn l2fwd(folder: &Path, arguments: &[&str]) -> Result<Run, IsolationError> {
    let failed = |what: String| IsolationError::Failed(format!("l2fwd: {what}"));
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = Command::new(program.with_file_name("l2fwd"))
        .args(["--json", "--domains"])
        .arg(folder)
        .args(arguments)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}
