//! Debian's unmodified `dpdk-testpmd` on software 82599s: two ports, two queues, every device id, every
//! forwarding mode. The wires generate frames and verify those that come back.
//!
//! Skipped, saying why, where not root or where DPDK is not installed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sumac_bench::dpdk::has_testpmd;
use sumac_bench::third_party::{Bench, KNOWN_OF_DPDK, Outcome, run, unexpected};
use sumac_devices::shared_bar::HUGE_DIRECTORY;
use sumac_devices::wire::{AnyWire, WireReport};

/// Frames that must pass each port.
const ENOUGH: u64 = 20_000;
/// Nothing takes longer, busy as the machine may be.
const LIMIT: Duration = Duration::from_secs(120);
/// Runs for which the device may be too late.
const TRIES: usize = 60;
/// What testpmd says of ports that it gives up, at the probe and later: where the device was too late, for one.
const GIVEN_UP: [&str; 2] = ["cannot be used", "Fail to start port"];
/// How often what it says is looked at.
const LOOK: Duration = Duration::from_millis(200);
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
    let specs =
        ["sim:rate=max,flows=64", "sim:rate=max,flows=64"].map(|spec| spec.parse().unwrap());
    sumac_linux::open::wires(&specs).unwrap()
}

/// Runs testpmd in `mode` until each port has seen enough, or the time is over. Returns what it said, too.
fn testpmd(device: u16, mode: &str) -> (Outcome, String) {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("testpmd-{device:04x}-{mode}.log"));
    let log = File::create(&path).unwrap();
    let bench = Bench {
        device,
        wires: generators(),
        // Some more: other tests may take what is free.
        huge_pages: MEMORY / 2 + 16,
        core: 0,
    };
    let mut command = Command::new("dpdk-testpmd");
    command
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
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
        // Room for all that the receive rings hold: testpmd drops what finds no room.
        "--txd=1024",
        "--txq=2",
        "--total-num-mbufs=16384",
        "--no-flush-rx",
    ]);
    command.args(["--auto-start", &format!("--forward-mode={mode}")]);
    let (receives, sends) = (mode != "txonly", mode != "rxonly");
    let start = Instant::now();
    let mut looked = start;
    let enough = |reports: &[WireReport]| {
        let looks = looked.elapsed() > LOOK;
        if looks {
            looked = Instant::now();
        }
        start.elapsed() > LIMIT
            // Without the port it would go on for all that.
            || looks && fs::read_to_string(&path).is_ok_and(|log| has_given_up(&log))
            || reports.iter().all(|report| {
                (!receives || report.to_device_frames >= ENOUGH)
                    && (!sends || report.from_device_frames >= ENOUGH)
            })
    };
    let outcome = run(bench, &mut command, enough).unwrap();
    (outcome, fs::read_to_string(&path).unwrap())
}

fn has_given_up(log: &str) -> bool {
    GIVEN_UP.iter().any(|words| log.contains(words))
}

/// DPDK gives a reset ten microseconds and the EEPROM less than a second, then gives the port up. A software device that
/// the kernel takes off its core meanwhile is too late, which no silicon would be: such a run says nothing and is repeated.
fn testpmd_in_time(device: u16, mode: &str) -> (Outcome, String) {
    let mut said = String::new();
    for _ in 0..TRIES {
        let (outcome, log) = testpmd(device, mode);
        if !has_given_up(&log) {
            return (outcome, log);
        }
        said = log;
    }
    panic!(
        "testpmd gave a port up every time: the device is at fault, or the machine too busy for it; at last it said {said}"
    );
}

/// What must hold of every mode; returns what is particular to one.
fn check(device: u16, mode: &str) -> Vec<WireReport> {
    let (outcome, log) = testpmd_in_time(device, mode);
    let what = format!("{device:04x} {mode}: {log}");
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

/// Runs `mode` on every device, and checks each wire's report.
fn for_every_device(mode: &str, check_more: impl Fn(&str, &WireReport)) {
    if let Some(reason) = hindrance() {
        // Past the capture of standard error, so that a test that did not run is not taken for one that did.
        let _ = writeln!(io::stderr(), "SKIP {mode}: {reason}");
        return;
    }
    // The modes share huge pages and two cores: one at a time.
    static ONE_MODE: Mutex<()> = Mutex::new(());
    let _only = ONE_MODE.lock().unwrap_or_else(PoisonError::into_inner);
    for device in [0x10f7, 0x1517, 0x10fb] {
        for report in check(device, mode) {
            check_more(&format!("{device:04x} {mode}: {report:?}"), &report);
        }
    }
}

#[test]
fn testpmd_receives() {
    for_every_device("rxonly", |what, report| {
        assert!(report.to_device_frames >= ENOUGH, "{what}");
        assert_eq!(report.from_device_frames, 0, "{what}");
    });
}

#[test]
fn testpmd_transmits() {
    for_every_device("txonly", |what, report| {
        assert!(report.from_device_frames >= ENOUGH, "{what}");
        assert_eq!(report.errors.foreign, report.from_device_frames, "{what}");
    });
}

#[test]
fn testpmd_forwards() {
    for_every_device("io", |what, report| {
        assert!(report.from_device_frames >= ENOUGH, "{what}");
        assert_eq!(report.errors.foreign, 0, "{what}");
    });
}

#[test]
fn testpmd_swaps_addresses() {
    for_every_device("macswap", |what, report| {
        assert!(report.from_device_frames >= ENOUGH, "{what}");
        assert_eq!(report.errors.foreign, 0, "{what}");
    });
}
