//! `sumac`: serves software devices, looks at domain files.
#![forbid(unsafe_code)]

mod cli;
mod domain;
mod serve;

use std::process::ExitCode;

use clap::Parser;
use cli::{Command, DomainCommand, Options, ServeCommand};

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return refuse(&error),
    };
    match options.command {
        Command::Domain(DomainCommand::Verify { files, trust }) => {
            ended(domain::verify(&files, &trust))
        }
        Command::Domain(DomainCommand::Inspect { file, json }) => {
            ended(domain::inspect(&file, json))
        }
        Command::Serve(ServeCommand::Ixgbe(options)) => match serve::serve(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => fail(&error.to_string()),
        },
    }
}

fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// One line, and the exit code for input that is wrong.
fn fail(what: &str) -> ExitCode {
    eprintln!("sumac: {what}");
    ExitCode::from(2)
}

/// Help and version as they are; a mistake in one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nobody left to read the help is no failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    fail(&format!("{line}; see sumac --help"))
}
