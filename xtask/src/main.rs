//! `cargo xtask`: every task of the project behind one command.
//!
//! What lives here is the order of things: which cargo command runs with which flags, what must be
//! installed first, and how results are counted. The tests themselves live beside the code they
//! test. Invariant: a step that could not run is reported as skipped with its reason, never as
//! passed, and the exit code is 0 only if no step failed.
#![forbid(unsafe_code)]

mod bench;
mod check;
mod counts;
mod domains;
mod fuzz;
mod lab;
mod mutants;
mod packages;
mod process;
mod report;
mod soak;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tests, checks, benchmarks, fuzzing and soak runs of Sumac.
///
/// Run from anywhere inside the repository. Nothing needs root; as root, with a Debian package
/// manager, steps that need extra programs install them, and the end-to-end runs over network
/// namespaces and DPDK take part. What cannot run is skipped and the summary says why.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every test; name steps to run only those.
    Test(test::Options),
    /// Check formatting, lints and documentation; any warning fails.
    Check,
    /// Measure: the parts alone, beside DPDK's driver, and what isolation, restarts and waiting cost.
    #[command(subcommand)]
    Bench(bench::What),
    /// Treat ports at random, and run l2fwd under random set-ups, for a bounded time.
    Soak(soak::Options),
    /// Build and sign domain files: the trusted build, which refuses unsafe code.
    Domains(domains::Options),
    /// Take each isolation mechanism away in turn, and show the test that then fails.
    Mutants(mutants::Options),
    /// Fuzz one target, or each in turn, for a bounded time, on stable Rust.
    Fuzz(fuzz::Options),
    /// QEMU guests: fetch what they are made of, list and run their tests, look around in one.
    #[command(subcommand)]
    Lab(lab::What),
}

fn main() -> ExitCode {
    if let Err(error) = workspace::enter() {
        eprintln!("xtask: {error}");
        return ExitCode::from(2);
    }
    let passed = match Cli::parse().command {
        Command::Test(options) => test::run(&options),
        Command::Check => check::run(),
        Command::Bench(what) => bench::run(&what),
        Command::Soak(options) => soak::run(&options),
        Command::Domains(options) => domains::run(&options),
        Command::Mutants(options) => mutants::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Lab(what) => lab::run(&what),
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
