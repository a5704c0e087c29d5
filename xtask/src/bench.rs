//! `cargo xtask bench`: measurements, in release mode.

use std::time::Duration;

use clap::Subcommand;

use crate::domains;
use crate::packages::{self, Need, is_root};
use crate::report::{self, Outcome, Report};
use crate::workspace::cargo;

const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// What to measure.
#[derive(Subcommand)]
pub enum What {
    /// The parts alone: rings, pool, packet views, driver calls (criterion).
    Parts {
        /// Passed on to criterion, for example a benchmark's name.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Ticks a packet beside DPDK's own driver on the same software device; writes
    /// target/bench/peers.json and an SVG. Installs DPDK's Debian packages if they are missing.
    Peers {
        /// Passed on to the benchmark; `cargo xtask bench peers -- --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// What a call into a domain costs, beside a plain one, a system call and another process; writes
    /// target/bench/calls.json and an SVG.
    Calls {
        /// Passed on to the benchmark; `cargo xtask bench calls -- --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Packets through a port that does nothing, without a boundary, over one and through a shadow; writes
    /// target/bench/nullnet.json and an SVG.
    Nullnet {
        /// Passed on to the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// What `l2fwd --interrupt` takes of a core while nothing comes, beside one that polls; writes
    /// target/bench/idle.json and an SVG.
    Idle {
        /// Passed on to the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Packets that l2fwd forwards, with the 82599 driver linked in, in a domain and behind shadows; writes
    /// target/bench/forward.json and an SVG.
    Forward {
        /// Passed on to the benchmark; `cargo xtask bench forward -- --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// How long a driver that crashes under traffic takes to serve again, beside starting the whole program;
    /// writes target/bench/restart.json.
    Restart {
        /// Passed on to the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Runs a benchmark; true if it ended well.
pub fn run(what: &What) -> bool {
    let mut report = Report::new(1);
    match what {
        What::Parts { arguments } => {
            report.step("parts", "the parts alone", || parts(arguments));
        }
        What::Peers { arguments } => {
            report.step("peers", "DPDK's driver and ours, interleaved", || {
                peers(arguments)
            });
        }
        What::Calls { arguments } => {
            report.step("calls", "what a call costs", || {
                isolation("calls", arguments)
            });
        }
        What::Nullnet { arguments } => {
            report.step("nullnet", "what a boundary costs packets", || {
                isolation("nullnet", arguments)
            });
        }
        What::Idle { arguments } => {
            report.step("idle", "what a program takes that sleeps", || {
                let programs = ["build", "--release", "-p", "l2fwd", "-p", "sumac"];
                let built = report::command(&mut cargo(programs), LIMIT);
                built.and(isolation("idle", arguments))
            });
        }
        What::Forward { arguments } => {
            report.step("forward", "what a boundary costs the 82599 driver", || {
                isolation("forward", arguments)
            });
        }
        What::Restart { arguments } => {
            report.step("restart", "what restarts of a driver take", || {
                let mut l2fwd = cargo(["build", "--release", "-p", "l2fwd"]);
                let built = report::command(&mut l2fwd, LIMIT);
                built.and(isolation("restart", arguments))
            });
        }
    }
    report.finish()
}

/// The domains first: what is measured are their files.
fn isolation(what: &str, arguments: &[String]) -> Outcome {
    if !domains::run(&domains::Options::all()) {
        return Outcome::single(Err("the domains were not built".to_owned()));
    }
    let mut bench = cargo([
        "run",
        "--release",
        "-p",
        "sumac-bench",
        "--bin",
        "isolation",
        "--",
    ]);
    report::command(bench.arg(what).args(arguments), LIMIT)
}

fn parts(arguments: &[String]) -> Outcome {
    let mut bench = cargo(["bench", "-p", "sumac-bench", "--"]);
    report::command(bench.args(arguments), LIMIT)
}

/// What the comparison builds DPDK's side with, and runs.
const DPDK: &[Need] = &[
    need("gcc", "gcc"),
    need("cc", "gcc"),
    need("pkg-config", "pkg-config"),
    need("/usr/include/dpdk/rte_ethdev.h", "libdpdk-dev"),
    need("dpdk-devbind.py", "dpdk"),
    need("dpdk-testpmd", "dpdk-dev"),
];

const fn need(file: &'static str, package: &'static str) -> Need {
    Need { file, package }
}

/// Huge pages, a mount namespace and physical addresses take root.
fn peers(arguments: &[String]) -> Outcome {
    if !is_root() {
        let remedy = "needs root: run `sudo env PATH=\"$PATH\" cargo xtask bench peers`";
        return Outcome::single(Err(remedy.to_owned()));
    }
    if let Err(reason) = packages::ensure(DPDK) {
        return Outcome::single(Err(reason));
    }
    let mut bench = cargo([
        "run",
        "--release",
        "-p",
        "sumac-bench",
        "--bin",
        "peers",
        "--",
    ]);
    report::command(bench.args(arguments), LIMIT)
}
