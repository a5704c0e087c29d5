//! `sumac`: sets up devices for applications, serves software devices, looks at domain files.
#![forbid(unsafe_code)]

mod bind;
mod caller;
mod cards;
mod cli;
mod devices;
mod doctor;
mod domain;
mod huge_pages;
mod hugepages;
mod output;
mod serve;

use std::env;
use std::process::ExitCode;

use caller::Caller;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use cli::{Command, DomainCommand, Options, ServeCommand};
use sumac_linux::logging;
use sumac_linux::pci::Tree;

/// Why something was not done, in one line.
#[derive(Debug)]
enum Trouble {
    /// What was given cannot be.
    Input(String),
    /// The machine did not play along.
    Machine(String),
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Self::Input(what)
    }
}

fn main() -> ExitCode {
    logging::to_stderr("sumac");
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return refuse(&error),
    };
    match run(options.command) {
        Ok(code) => code,
        Err(trouble) => fail(&trouble),
    }
}

fn run(command: Command) -> Result<ExitCode, Trouble> {
    let tree = Tree::default();
    let caller = Caller::read(&tree);
    match command {
        Command::Devices(options) => devices::list(&options, &tree),
        Command::Doctor(options) => return doctor::run(&options, &tree, &caller),
        Command::Bind(options) => bind::bind(&options, &tree, &caller),
        Command::Unbind(options) => bind::unbind(&options, &tree),
        Command::Hugepages(options) => hugepages::run(&options, &tree, &caller),
        Command::Domain(DomainCommand::Verify { files, trust }) => domain::verify(&files, &trust),
        Command::Domain(DomainCommand::Inspect { file, json }) => domain::inspect(&file, json),
        Command::Serve(ServeCommand::Ixgbe(options)) => return serve(&options),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn serve(options: &serve::ServeOptions) -> Result<ExitCode, Trouble> {
    match serve::serve(options).map_err(|error| Trouble::Input(error.to_string()))? {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

/// One line, and the exit code: 2 for input that is wrong, 1 for a machine that is.
fn fail(trouble: &Trouble) -> ExitCode {
    let (what, code) = match trouble {
        Trouble::Input(what) => (what, 2),
        Trouble::Machine(what) => (what, 1),
    };
    output::tell(&format!("sumac: {what}"));
    ExitCode::from(code)
}

/// Help and version as they are, also where a command is missing; a mistake in one line.
fn refuse(error: &clap::Error) -> ExitCode {
    let no_command = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if no_command || !error.use_stderr() {
        // Nobody left to read the help is no failure.
        let _ = error.print();
        return match no_command {
            true => ExitCode::from(2),
            false => ExitCode::SUCCESS,
        };
    }
    let words: Vec<_> = env::args().skip(1).collect();
    let text = error.render().to_string();
    fail(&Trouble::Input(mistake(&text, &words)))
}

/// What clap says of a mistake in these words, in one line: what is wrong, the arguments it is about or what there
/// is to choose from, whose help says more.
fn mistake(text: &str, words: &[String]) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    // Arguments are listed below a line that ends with a colon.
    let is_listed = |line: &&str| first.ends_with(':') || line.trim_start().starts_with('[');
    let listed = lines.take_while(|line| line.starts_with("  ") && is_listed(line));
    let listed: Vec<_> = listed.map(str::trim).collect();
    let blank = if listed.is_empty() { "" } else { " " };
    format!(
        "{first}{blank}{}; see {} --help",
        listed.join(" "),
        asked(words)
    )
}

/// The command that these words ask for, down to its last part.
fn asked(words: &[String]) -> String {
    let all = Options::command();
    let mut command = &all;
    let mut asked = vec![all.get_name()];
    for word in words {
        if let Some(part) = command.find_subcommand(word) {
            asked.push(part.get_name());
            command = part;
        }
    }
    asked.join(" ")
}
