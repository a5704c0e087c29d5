//! `cargo xtask bench calls` and `cargo xtask bench nullnet`: what isolation costs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use sumac_bench::isolation::{self, IsolationError, calls, nullnet, process, restart};
use sumac_bench::report::Report;
use sumac_linux::cores::pin_current_thread;

/// A round of restarts takes as long as this many windows.
const WINDOWS_A_ROUND: usize = 100;

/// Which benchmark.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Calls: plain, by pointer, into a domain, with an object moved or lent, through a shadow; a system call
    /// and another process for scale.
    Calls,
    /// Packets through a port that does nothing: without a boundary, over one, through a shadow.
    Nullnet,
    /// Restarts of a driver under traffic, beside starting the program; in microseconds.
    Restart,
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
    /// Where the domain files are.
    #[arg(long, default_value = "target/domains")]
    domains: PathBuf,
    /// Where the JSON file goes.
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
    if !matches!(options.what, What::Restart) {
        // A core that is not there: the kernel places the thread.
        let _ = pin_current_thread(options.core);
    }
    let (name, report) = match options.what {
        What::Calls => ("calls", calls::run(&options.domains, options.windows)?),
        What::Nullnet => ("nullnet", nullnet::run(&options.domains, options.windows)?),
        What::Restart => {
            let rounds = (options.windows / WINDOWS_A_ROUND).max(1);
            ("restart", restart::run(&options.domains, rounds)?)
        }
    };
    print!("{}", isolation::table(&report));
    let path = options.output.join(format!("{name}.json"));
    let written = write(&report, &path);
    written.map_err(|source| IsolationError::File {
        file: path.display().to_string(),
        source,
    })?;
    println!("written: {}", path.display());
    Ok(())
}

fn write(report: &Report, path: &std::path::Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, serde_json::to_vec_pretty(report)?)
}
