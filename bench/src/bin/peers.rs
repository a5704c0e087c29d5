//! `cargo xtask bench peers`: what a packet costs DPDK's driver and ours, on the same software 82599.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sumac_bench::compare::{Comparison, compare};
use sumac_bench::control::{Kind, Mode};
use sumac_bench::plan::{BATCHES, KINDS, MODES};
use sumac_bench::{dpdk, figure};
use sumac_linux::signals::Stop;

/// Compares DPDK's unmodified ixgbe driver with ours on the same software 82599: ticks a packet, 64-byte
/// frames, one core for the driver and one for the device. Needs root, two cores and 400 MiB of memory.
#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Options {
    /// A minute instead of ten: batches 1 and 32 unless --batches says otherwise.
    #[arg(long)]
    quick: bool,
    /// Ways of timing.
    #[arg(long, value_delimiter = ',', value_parser = kind, default_value = "stream,phase,stepped")]
    kinds: Vec<Kind>,
    /// Modes to measure.
    #[arg(long, value_delimiter = ',', value_parser = mode, default_value = "receive,transmit,forward,macswap")]
    modes: Vec<Mode>,
    /// Packets a turn, 1 to 64.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=64))]
    batches: Vec<u32>,
    /// Seconds to measure for.
    #[arg(long)]
    seconds: Option<u64>,
    /// The device's core.
    #[arg(long, default_value_t = 0)]
    device_core: usize,
    /// The drivers' core.
    #[arg(long, default_value_t = 1)]
    driver_core: usize,
    /// Where peers.json and peers.svg go.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

fn mode(text: &str) -> Result<Mode, String> {
    let found = MODES.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, mode)| *mode)
        .ok_or_else(|| "one of receive, transmit, forward, macswap".to_owned())
}

fn kind(text: &str) -> Result<Kind, String> {
    let found = KINDS.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, kind)| *kind)
        .ok_or_else(|| "one of stream, phase, stepped".to_owned())
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "peers: needs root (huge pages, a mount namespace, physical addresses): run `sudo target/release/peers`"
        );
        return ExitCode::from(2);
    }
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let stop = Stop::install()?;
    let version = dpdk::install()?;
    std::fs::create_dir_all(&options.output)?;
    let batches = match (options.batches.is_empty(), options.quick) {
        (false, _) => options.batches,
        (true, true) => vec![1, 32],
        (true, false) => BATCHES.to_vec(),
    };
    let seconds = options
        .seconds
        .unwrap_or(if options.quick { 45 } else { 570 });
    let report = compare(&Comparison {
        dpdk_version: version,
        kinds: options.kinds,
        modes: options.modes,
        batches,
        budget: Duration::from_secs(seconds),
        device_core: options.device_core,
        driver_core: options.driver_core,
        directory: options.output.clone(),
        stop,
    })?;
    let json = options.output.join("peers.json");
    std::fs::write(&json, serde_json::to_string_pretty(&report)?)?;
    let svg = options.output.join("peers.svg");
    figure::draw(&figure::PEERS, &report, &svg)?;
    print!("{}", report.table());
    println!("written: {}, {}", json.display(), svg.display());
    Ok(())
}
