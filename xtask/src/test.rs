//! `cargo xtask test`: every test, step by step.
//!
//! A step is one call of cargo, or a few that belong together. Steps run in the order of [`STEPS`]:
//! the quick ones that fail first come first. A failed step does not stop those after it.

use std::process::Command;
use std::thread;
use std::time::Duration;

use clap::Args;

use crate::packages::{self, Need};
use crate::report::{self, Outcome, Report};
use crate::workspace::{cargo, target_dir};
use crate::{fuzz, lab, soak};

/// Crates with loom models of what crosses threads.
const LOOM_CRATES: &[&str] = &["sumac-rref", "sumac-runtime"];

/// Crates whose folder `tests` is a step of its own.
const TESTED_APART: &[&str] = &["l2fwd", "sumac-bench", "sumac-lab"];

const IP: Need = Need {
    file: "ip",
    package: "iproute2",
};
const PING: Need = Need {
    file: "ping",
    package: "iputils-ping",
};
const TESTPMD: Need = Need {
    file: "dpdk-testpmd",
    package: "dpdk-dev",
};

const LIMIT: Duration = Duration::from_secs(25 * 60);
/// Building, and a dozen runs of testpmd of some seconds each, some of them repeated.
const DPDK_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Which steps, and how long the open-ended ones take.
#[derive(Args)]
pub struct Options {
    /// Steps to run; all of them if none is named.
    #[arg(value_parser = STEPS.map(|step| step.name))]
    steps: Vec<String>,
    /// Seconds for each fuzz target.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    fuzz_seconds: u64,
    /// Seconds for the soak tests together.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    soak_seconds: u64,
    /// MiB sent over each TCP connection of the end-to-end tests.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    transfer_mib: u64,
    /// Pings, each of one frame, of each test in which somebody sleeps in between; some thousands if this is left out.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pings: Option<u32>,
    /// Let a test that fails have failed. Otherwise, in steps whose tests share the clock with guests, servers and other
    /// processes (unit, e2e, dpdk, lab), it is run once more by itself; if it passes then, it is listed as unsteady.
    #[arg(long)]
    once: bool,
    /// List the steps and stop.
    #[arg(long)]
    list: bool,
}

impl Options {
    /// Tells tests how many pings are asked for.
    fn set_pings(&self, tests: &mut Command) {
        if let Some(pings) = self.pings {
            tests.env("SUMAC_PINGS", pings.to_string());
        }
    }

    /// How tests run that share the clock with other processes.
    fn tests(&self) -> fn(&mut Command, Duration) -> Outcome {
        if self.once {
            report::tests
        } else {
            report::tests_once_more
        }
    }
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Options) -> Outcome,
}

const STEPS: [Step; 8] = [
    Step {
        name: "unit",
        about: "unit, property and integration tests of every crate",
        run: unit,
    },
    Step {
        name: "doc",
        about: "examples in the documentation, and what must not compile",
        run: doc,
    },
    Step {
        name: "loom",
        about: "every interleaving of what crosses threads",
        run: loom,
    },
    Step {
        name: "e2e",
        about: "l2fwd as a user runs it, in release mode",
        run: e2e,
    },
    Step {
        name: "dpdk",
        about: "DPDK's unmodified driver on the software 82599",
        run: dpdk,
    },
    Step {
        name: "lab",
        about: "QEMU guests: a PCI bus, an IOMMU, and drivers that are not ours",
        run: |options| lab::tests(None, options.tests()),
    },
    Step {
        name: "fuzz",
        about: "a short run of each fuzz target",
        run: |options| fuzz::fuzz_all(options.fuzz_seconds),
    },
    Step {
        name: "soak",
        about: "random treatment of ports and random runs of l2fwd for a short while",
        run: |options| soak::soak(options.soak_seconds, None, None),
    },
];

/// Runs the steps asked for; true if nothing failed.
pub fn run(options: &Options) -> bool {
    if options.list {
        let steps = STEPS.iter();
        report::list(steps.map(|step| format!("{:<6} {}", step.name, step.about)));
        return true;
    }
    let wanted = |step: &&Step| {
        options.steps.is_empty() || options.steps.iter().any(|name| name == step.name)
    };
    let mut report = Report::new(STEPS.iter().filter(wanted).count());
    for step in STEPS.iter().filter(wanted) {
        report.step(step.name, step.about, || (step.run)(options));
    }
    report.finish()
}

/// All of the workspace but the programs in the folders `tests` of l2fwd, the benchmarks and the lab, which
/// are steps of their own. Wires to the host's network interfaces need `ip`.
fn unit(options: &Options) -> Outcome {
    install(&[IP]);
    let mut most = cargo(["test", "--workspace", "--no-fail-fast"]);
    most.args(["--lib", "--bins", "--tests"]);
    let mut rest = cargo(["test", "--lib", "--bins", "--no-fail-fast"]);
    for name in TESTED_APART {
        most.args(["--exclude", name]);
        rest.args(["-p", name]);
    }
    options.set_pings(&mut most);
    let tests = options.tests();
    tests(&mut most, LIMIT).and(tests(&mut rest, LIMIT))
}

fn doc(_: &Options) -> Outcome {
    report::tests(
        &mut cargo(["test", "--workspace", "--doc", "--no-fail-fast"]),
        LIMIT,
    )
}

/// loom replaces atomics and threads by its own under `cfg(loom)`: another build of everything, so
/// a target folder of its own. Its search is slow without optimisation.
fn loom(_: &Options) -> Outcome {
    let mut test = cargo(["test", "--release", "--lib", "--no-fail-fast"]);
    LOOM_CRATES.iter().for_each(|name| {
        test.args(["-p", name]);
    });
    test.arg("--target-dir")
        .arg(target_dir().join("loom"))
        .arg("loom");
    test.env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_PROFILE_RELEASE_LTO", "off");
    report::tests(&mut test, LIMIT)
}

/// Two network namespaces need `ip` and `ping`; without them those tests skip themselves.
fn e2e(options: &Options) -> Outcome {
    install(&[IP, PING]);
    let mut test = cargo(["test", "--release", "-p", "l2fwd", "--test", "e2e"]);
    test.env("SUMAC_TRANSFER_MIB", options.transfer_mib.to_string());
    options.set_pings(&mut test);
    options.tests()(&mut test, LIMIT)
}

/// `dpdk-testpmd` maps huge pages and a fake sysfs tree, which takes root, and spins on a core of its own.
fn dpdk(options: &Options) -> Outcome {
    if !packages::is_root() {
        return Outcome::skipped("needs root, for huge pages and a mount namespace");
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return Outcome::skipped("needs two cores: the driver's and the device's");
    }
    if let Err(reason) = packages::ensure(&[TESTPMD]) {
        return Outcome::skipped(reason);
    }
    let mut test = cargo(["test", "--release", "-p", "sumac-bench", "--test", "dpdk"]);
    options.tests()(&mut test, DPDK_LIMIT)
}

/// Installs what some of a step's tests need; says so if that cannot be done, as those tests will.
fn install(needs: &[Need]) {
    if let Err(reason) = packages::ensure(needs) {
        println!("{reason}");
    }
}
