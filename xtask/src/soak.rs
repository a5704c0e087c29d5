//! `cargo xtask soak`: the soak test of l2fwd for a time of the caller's choice.
//!
//! The test itself is `apps/l2fwd/tests/soak.rs`; it reads the time from `SUMAC_SOAK_SECONDS`.

use std::time::Duration;

use clap::Args;

use crate::report::{self, Outcome, Report};
use crate::workspace::cargo;

/// Building in release mode on two slow cores.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How long to soak.
#[derive(Args)]
pub struct Options {
    /// Seconds to run for.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Seed of the random choices, to repeat a run; the test prints the one it took.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the soak test; true if it passes.
pub fn run(options: &Options) -> bool {
    let mut report = Report::new(1);
    report.step("soak", "random set-ups, stops and signals", || {
        soak(options.seconds, options.seed)
    });
    report.finish()
}

/// The soak test as a step.
pub fn soak(seconds: u64, seed: Option<u64>) -> Outcome {
    let mut test = cargo(["test", "--release", "-p", "l2fwd", "--test", "soak", "--"]);
    test.arg("--nocapture")
        .env("SUMAC_SOAK_SECONDS", seconds.to_string());
    if let Some(seed) = seed {
        test.env("SUMAC_SOAK_SEED", seed.to_string());
    }
    report::tests(&mut test, BUILD_LIMIT + Duration::from_secs(seconds * 2))
}
