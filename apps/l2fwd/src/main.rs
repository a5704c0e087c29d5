//! `l2fwd`: forwards frames between pairs of ports.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use l2fwd::cli::Options;
use l2fwd::report::Report;
use l2fwd::run::{RunError, run};
use sumac_linux::logging;

fn main() -> ExitCode {
    let began = Instant::now();
    logging::to_stderr("l2fwd");
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return refuse(&error),
    };
    match run(&options, began) {
        Ok(report) => show(&options, &report),
        Err(error @ RunError::Input(_)) => fail(&error.to_string(), 2),
        Err(error @ RunError::Device(_)) => fail(&error.to_string(), 1),
        Err(RunError::Gone { what, report }) => {
            // What follows says more than whether the report could be written.
            let _ = show(&options, &report);
            fail(&what, 1)
        }
    }
}

/// Prints what the run gave. Nobody left to read it is no failure; a full disk is.
fn show(options: &Options, report: &Report) -> ExitCode {
    if !options.json {
        return write(report);
    }
    match serde_json::to_string_pretty(report) {
        Ok(json) => write(&json),
        Err(error) => fail(&error.to_string(), 1),
    }
}

fn write(result: &dyn Display) -> ExitCode {
    match writeln!(io::stdout(), "{result}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("standard output: {error}"), 1)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn fail(what: &str, status: u8) -> ExitCode {
    eprintln!("l2fwd: {what}");
    ExitCode::from(status)
}

/// Help and version as they are; a mistake in one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nobody left to read the help is no failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    // What there is to choose from stands below.
    let choice = lines.map(str::trim).find(|line| line.starts_with('['));
    let choice = choice.map_or(String::new(), |choice| format!(" {choice}"));
    fail(&format!("{line}{choice}; see l2fwd --help"), 2)
}
