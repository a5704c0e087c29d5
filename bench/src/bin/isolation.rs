//! `cargo xtask bench calls` and `cargo xtask bench nullnet`: what isolation costs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use sumac_bench::figure;
use sumac_bench::isolation::{
    self, IsolationError, calls, forward, idle, nullnet, process, restart,
};
use sumac_bench::report::Report;
use sumac_linux::cores::pin_current_thread;

/// A round of restarts, of the drivers' ladder, and a second of idling take as long as this many windows.
const WINDOWS_A_ROUND: usize = 100;

/// Which benchmark.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Calls: plain, by pointer, into a domain, with an object moved or lent, through a shadow; a system call
    /// and another process for scale.
    Calls,
    /// Packets through a port that does nothing: without a boundary, over one, through a shadow.
    Nullnet,
    /// Packets through the 82599 driver and l2fwd's loop: the driver linked in, in a domain, and behind shadows.
    Forward,
    /// Restarts of a driver under traffic, beside starting the program; in microseconds.
    Restart,
    /// What a program takes of a core while nothing comes, which interrupts wake; in percent.
    Idle,
}

/// What isolation costs, in ticks of the time stamp counter. Domains are those that `cargo xtask domains`
/// built.
#[derive(Debug, Parser)]
#[command(name = "isolation")]
struct Options {
    /// Which benchmark.
    what: What,
    /// Windows of each row; a thousand make ten million calls.
    #[arg(long, default_value_t = 1000)]
    windows: usize,
    /// The core to run on.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The software devices' core, where there are any.
    #[arg(long, default_value_t = 0)]
    device_core: usize,
    /// Where the domain files are.
    #[arg(long, default_value = "target/domains")]
    domains: PathBuf,
    /// Where the JSON and the SVG file go.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = if arguments.next().as_deref() == Some(process::ECHO) {
        process::echo(&arguments.next().unwrap_or_default())
            .map_err(|error| IsolationError::Failed(error.to_string()))
    } else {
        run(&Options::parse())
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isolation: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), IsolationError> {
    if !matches!(options.what, What::Restart | What::Idle) {
        // A core that is not there: the kernel places the thread.
        let _ = pin_current_thread(options.core);
    }
    let (domains, windows) = (&options.domains, options.windows);
    let rounds = (windows / WINDOWS_A_ROUND).max(1);
    let (name, sheet, report) = match options.what {
        What::Calls => ("calls", figure::CALLS, calls::run(domains, windows)?),
        What::Nullnet => ("nullnet", figure::NULLNET, nullnet::run(domains, windows)?),
        What::Forward => {
            let report = forward::measure(domains, rounds, options.device_core, options.core)?;
            ("forward", figure::FORWARD, report)
        }
        What::Restart => ("restart", figure::RESTART, restart::run(domains, rounds)?),
        What::Idle => ("idle", figure::IDLE, idle::run(domains, rounds)?),
    };
    let json = options.output.join(format!("{name}.json"));
    let svg = json.with_extension("svg");
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        IsolationError::Failed(format!("{}: {error}", path.display()))
    };
    write(&report, &json).map_err(|error| failed(&json, &error))?;
    figure::draw(&sheet, &report, &svg).map_err(|error| failed(&svg, &error))?;
    let mut out = io::stdout().lock();
    let table = isolation::table(&report);
    // Whoever reads this may have had enough: the files are there.
    let _ = writeln!(out, "{table}written: {}, {}", json.display(), svg.display());
    Ok(())
}

fn write(report: &Report, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, serde_json::to_vec_pretty(report)?)
}
