//! `cargo xtask soak`: the soak tests, for a time of the caller's choice.
//!
//! Two share the time: `drivers/ixgbe/tests/soak`, everything that can be done to ports that forward, and
//! `apps/l2fwd/tests/soak.rs`, l2fwd under random set-ups. They read the time from `SUMAC_SOAK_SECONDS`.
//! More count deaths, so many for each second: `storm` of `framework/linux`, domains that fail in every way
//! at every depth (`SUMAC_CRASHES`), `grant`, drivers that die under traffic, and `loaded`, domains killed at any
//! instant (`SUMAC_DEATHS`).

use std::time::{Duration, SystemTime};

use clap::Args;

use crate::report::{self, Outcome, Report};
use crate::workspace::cargo;

/// Building in release mode on two slow cores.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Crashes of domains, and deaths of drivers, for each second: some take a quarter of it each.
const CRASHES_A_SECOND: u64 = 500;
const DEATHS_A_SECOND: u64 = 10;
const KILLS_A_SECOND: u64 = 20;

/// How long to soak.
#[derive(Args)]
pub struct Options {
    /// Seconds to run for.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Seed of the random choices, to repeat a run; the test prints the one it took.
    #[arg(long)]
    seed: Option<u64>,
    /// Crashes of domains in all, instead of so many for each second.
    #[arg(long)]
    crashes: Option<u64>,
}

/// Runs the soak tests; true if they pass.
pub fn run(options: &Options) -> bool {
    let mut report = Report::new(1);
    report.step(
        "soak",
        "random treatment of ports, random runs of l2fwd, domains and drivers that die",
        || soak(options.seconds, options.seed, options.crashes),
    );
    report.finish()
}

/// The soak tests as a step.
pub fn soak(seconds: u64, seed: Option<u64>, crashes: Option<u64>) -> Outcome {
    let of_driver = seconds.div_ceil(2);
    let driver = soak_one("sumac-ixgbe", of_driver, seed);
    let ports = driver.and(soak_one("l2fwd", (seconds - of_driver).max(1), seed));
    let crashes = crashes.unwrap_or(seconds * CRASHES_A_SECOND);
    // Another storm each time, unless it is to be repeated.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = seed.unwrap_or(now.map_or(0, |now| now.as_secs()));
    let storm = deaths(&["storm"], ("SUMAC_CRASHES", crashes), seconds, seed);
    let count = ("SUMAC_DEATHS", seconds * DEATHS_A_SECOND);
    let grant = deaths(&["grant"], count, seconds, seed);
    let count = ("SUMAC_DEATHS", seconds * KILLS_A_SECOND);
    let killed = deaths(&["loaded", "killed"], count, seconds, seed);
    ports.and(storm).and(grant).and(killed)
}

/// A test that counts deaths: its program, and what its name contains.
fn deaths(test: &[&str], (variable, count): (&str, u64), seconds: u64, seed: u64) -> Outcome {
    let mut cargo = cargo(["test", "--release", "-p", "sumac-linux", "--test"]);
    cargo.args(test).args(["--", "--nocapture"]);
    cargo.env(variable, count.to_string());
    cargo.env("SUMAC_SOAK_SEED", seed.to_string());
    // A crash takes a millisecond at most where somebody else uses the cores, too.
    let limit = Duration::from_secs(seconds * 4) + Duration::from_millis(count * 2);
    report::tests(&mut cargo, BUILD_LIMIT + limit)
}

fn soak_one(package: &str, seconds: u64, seed: Option<u64>) -> Outcome {
    let mut test = cargo(["test", "--release", "-p", package, "--test", "soak", "--"]);
    test.arg("--nocapture")
        .env("SUMAC_SOAK_SECONDS", seconds.to_string());
    if let Some(seed) = seed {
        test.env("SUMAC_SOAK_SEED", seed.to_string());
    }
    report::tests(&mut test, BUILD_LIMIT + Duration::from_secs(seconds * 2))
}
