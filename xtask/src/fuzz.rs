//! `cargo xtask fuzz`: coverage-guided fuzzing with libFuzzer on stable Rust.
//!
//! `cargo fuzz` asks for a nightly compiler because it turns on AddressSanitizer. The coverage that
//! guides libFuzzer needs no nightly: LLVM's `sancov-module` pass is reached through stable codegen
//! flags. What is lost is AddressSanitizer; what is fuzzed here is safe code, where a memory error
//! shows as a panic. The layout of `fuzz/` is the one `cargo fuzz` knows, so it works as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::packages::{self, Need};
use crate::report::{self, Outcome, Report};
use crate::workspace::{cargo, target_dir};

const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Edge coverage with inline counters, a table of program counters, and traced comparisons; checked
/// arithmetic and debug assertions on, so that an overflow is a finding.
const RUSTFLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 --cfg fuzzing";

/// The only target this is built for; naming it keeps the flags away from build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What to fuzz and for how long.
#[derive(Args)]
pub struct Options {
    /// Targets by name (a file of fuzz/fuzz_targets); all of them if none is named.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// List the targets and stop.
    #[arg(long)]
    list: bool,
}

/// Fuzzes what was asked for; true if nothing was found.
pub fn run(options: &Options) -> bool {
    let known = match targets() {
        Ok(known) => known,
        Err(error) => {
            eprintln!("xtask: {error}");
            return false;
        }
    };
    if options.list {
        report::list(known);
        return true;
    }
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        eprintln!(
            "xtask: no fuzz target {unknown}; there are: {}",
            known.join(", ")
        );
        return false;
    }
    let wanted = if options.targets.is_empty() {
        &known
    } else {
        &options.targets
    };
    let mut report = Report::new(1);
    report.step("fuzz", "no input makes a target panic", || {
        fuzz(wanted, options.seconds)
    });
    report.finish()
}

/// Every target for `seconds` each, as a step.
pub fn fuzz_all(seconds: u64) -> Outcome {
    match targets() {
        Ok(known) => fuzz(&known, seconds),
        Err(error) => Outcome::single(Err(error)),
    }
}

fn fuzz(targets: &[String], seconds: u64) -> Outcome {
    // libFuzzer's own runtime is C++ and is built from source.
    if let Err(reason) = packages::ensure(&[Need {
        file: "c++",
        package: "g++",
    }]) {
        return Outcome::skipped(reason);
    }
    let mut build = cargo(["build", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    build
        .args(["--target", TRIPLE, "--target-dir"])
        .arg(build_dir())
        .env("RUSTFLAGS", RUSTFLAGS)
        .args(targets.iter().flat_map(|target| ["--bin", target]));
    let mut outcome = report::command(&mut build, BUILD_LIMIT);
    if outcome.failed() {
        return outcome;
    }
    for target in targets {
        outcome = outcome.and(fuzz_one(target, seconds));
    }
    outcome
}

/// Runs one target on its corpus, which it extends; an input that makes it panic is kept.
fn fuzz_one(target: &str, seconds: u64) -> Outcome {
    let corpus = Path::new("fuzz/corpus").join(target);
    let artifacts = Path::new("fuzz/artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        if let Err(e) = fs::create_dir_all(folder) {
            return Outcome::single(Err(format!("{}: {e}", folder.display())));
        }
    }
    let mut run = Command::new(build_dir().join(TRIPLE).join("release").join(target));
    run.arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([
            "-max_len=4096",
            "-timeout=60",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ])
        .arg(&corpus);
    let seeds = Path::new("fuzz/seeds").join(target);
    if seeds.is_dir() {
        run.arg(seeds);
    }
    report::command(&mut run, Duration::from_secs(seconds * 2 + 180))
}

fn build_dir() -> PathBuf {
    target_dir().join("fuzz")
}

/// The targets' names: one file each.
fn targets() -> Result<Vec<String>, String> {
    let folder = Path::new("fuzz/fuzz_targets");
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "rs")
        })
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}
