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
/// What restarts are compared with: from the start of the program to its first frame, by where the driver is.
const PEERS: [(&str, &str); 2] = [
    ("domain", "l2fwd from its start to its first frame"),
    ("driver", "the same, the driver linked"),
];

/// What a run of l2fwd says of itself.
#[derive(Deserialize)]
struct Run {
    first_frame_us: Option<f64>,
    restarts: u64,
    restart_latency_us: Option<Times>,
    device_reset_us: Option<Times>,
    restart_less_reset_us: Option<Times>,
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
    let (mut starts, mut runs) = ([const { Vec::new() }; PEERS.len()], Vec::new());
    for _ in 0..rounds {
        for (starts, (isolation, _)) in starts.iter_mut().zip(PEERS) {
            let mut round = Vec::new();
            for _ in 0..STARTS {
                let run = l2fwd(folder, &["--isolation", isolation, "--duration", "100ms"])?;
                round.extend(run.first_frame_us);
            }
            starts.push(quantile(&round, 0.5));
        }
        let crashing = ["--crash-every", "10ms", "--duration", CRASHING];
        let shadow = [&["--isolation", "shadow"], &crashing[..]].concat();
        runs.push(l2fwd(folder, &shadow)?);
    }
    let restarts: u64 = runs.iter().map(|run| run.restarts).sum();
    println!("{restarts} restarts in {rounds} rounds");
    let [domain, driver] = &starts;
    let beside = |peer: usize| PEERS.get(peer).zip(starts.get(peer));
    let figure = |name: &str, of: fn(&Run) -> Option<f64>, peer: Option<usize>| -> Row {
        let ours: Vec<f64> = runs.iter().filter_map(of).collect();
        let peer = peer.and_then(beside);
        let peer = peer.map(|((_, name), starts)| (*name, &starts[..]));
        row(name, "us", &ours, peer, None)
    };
    let rest_p99 = |run: &Run| run.restart_less_reset_us.map(|times| times.p99);
    let rest_p50 = |run: &Run| run.restart_less_reset_us.map(|times| times.p50);
    let whole = |run: &Run| run.restart_latency_us.map(|times| times.p99);
    let reset = |run: &Run| run.device_reset_us.map(|times| times.p50);
    let rows = vec![
        figure("less-reset/p99", rest_p99, Some(0)),
        figure("less-reset/p50", rest_p50, Some(0)),
        figure("less-reset/p99, driver", rest_p99, Some(1)),
        figure("whole/p99", whole, Some(0)),
        figure("reset/p50", reset, None),
        row("start/domain", "us", domain, None, None),
        row("start/driver", "us", driver, None, None),
    ];
    for row in &rows {
        if let (Some(ratio), Some(peer)) = (row.ratio, &row.peer_name) {
            println!("{}: 1/{:.1} of {peer}", row.name, 1.0 / ratio);
        }
    }
    Ok(Report {
        machine: machine(&counter),
        rows,
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
