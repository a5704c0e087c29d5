//! Debian's unmodified `dpdk-testpmd` on software 82599s: two ports, two queues, every device id, every
//! forwarding mode. The wires generate frames and verify those that come back.
//!
//! Skipped, saying why, where not root or where DPDK is not installed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sumac_bench::dpdk::has_testpmd;
use sumac_bench::third_party::{Bench, KNOWN_OF_DPDK, Outcome, run, unexpected};
use sumac_devices::shared_bar::HUGE_DIRECTORY;
use sumac_devices::wire::{AnyWire, Peers, WireOptions, WireReport};

/// Frames that must pass each port.
const ENOUGH: u64 = 20_000;
/// Nothing takes longer, busy as the machine may be.
const LIMIT: Duration = Duration::from_secs(60);
/// Megabytes for testpmd's pool of 16,384 buffers and its rings.
const MEMORY: u64 = 128;

/// Why the test cannot run here.
fn hindrance() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        Some("not root")
    } else if !has_testpmd() {
        Some("no dpdk-testpmd: apt-get install dpdk-dev")
    } else if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        Some("a single core")
    } else {
        None
    }
}

fn generators() -> Vec<AnyWire> {
    let wire = || {
        let mut options = WireOptions::new();
        for (key, value) in [("gen", ""), ("rate", "max"), ("flows", "64")] {
            assert!(options.set(key, value).unwrap());
        }
        options.open(&mut Peers::new()).unwrap()
    };
    vec![wire(), wire()]
}

/// Runs testpmd in `mode` until each port has seen enough, or the time is over.
fn testpmd(device: u16, mode: &str) -> Outcome {
    let bench = Bench {
        device,
        wires: generators(),
        huge_pages: MEMORY / 2,
        core: 0,
    };
    let mut command = Command::new("dpdk-testpmd");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.args([
        "--lcores",
        "0@1,1@1",
        "-m",
        &MEMORY.to_string(),
        "--no-telemetry",
    ]);
    command.args([
        "--huge-dir",
        HUGE_DIRECTORY,
        "--file-prefix",
        "sumac-test",
        "--",
    ]);
    command.args([
        "--rxq=2",
        "--txq=2",
        "--total-num-mbufs=16384",
        "--no-flush-rx",
    ]);
    command.args(["--auto-start", &format!("--forward-mode={mode}")]);
    let (receives, sends) = (mode != "txonly", mode != "rxonly");
    let start = Instant::now();
    let enough = |reports: &[WireReport]| {
        start.elapsed() > LIMIT
            || reports.iter().all(|report| {
                (!receives || report.to_device_frames >= ENOUGH)
                    && (!sends || report.from_device_frames >= ENOUGH)
            })
    };
    run(bench, &mut command, enough).unwrap()
}

/// What must hold of every mode; returns what is particular to one.
fn check(device: u16, mode: &str) -> Vec<WireReport> {
    let outcome = testpmd(device, mode);
    let what = format!("{device:04x} {mode}");
    assert!(outcome.status.success(), "{what}: {}", outcome.status);
    for violations in &outcome.violations {
        assert_eq!(unexpected(violations, KNOWN_OF_DPDK), None, "{what}");
    }
    for report in &outcome.reports {
        // What the other generator made arrives once, in the order of its flow, and unaltered.
        assert_eq!(report.errors.total(), 0, "{what}: {report:?}");
    }
    outcome.reports
}

fn for_every_device(mode: &str, check_more: impl Fn(&str, &WireReport)) {
    if let Some(reason) = hindrance() {
        eprintln!("skipped: {reason}");
        return;
    }
    for device in [0x10f7, 0x1517, 0x10fb] {
        for report in check(device, mode) {
            check_more(&format!("{device:04x} {mode}: {report:?}"), &report);
        }
    }
}

/// One test: the modes share huge pages and two cores.
#[test]
fn testpmd_runs_on_every_device_in_every_mode() {
    for_every_device("rxonly", |what, report| {
        assert!(report.to_device_frames >= ENOUGH, "{what}");
        assert_eq!(report.from_device_frames, 0, "{what}");
    });
    for_every_device("txonly", |what, report| {
        assert!(report.from_device_frames >= ENOUGH, "{what}");
        assert_eq!(report.errors.foreign, report.from_device_frames, "{what}");
    });
    for_every_device("io", |what, report| {
        assert!(report.from_device_frames >= ENOUGH, "{what}");
        assert_eq!(report.errors.foreign, 0, "{what}");
    });
    for_every_device("macswap", |what, report| {
        assert!(report.from_device_frames >= ENOUGH, "{what}");
        assert_eq!(report.errors.foreign, 0, "{what}");
    });
}
