//! Devices that go away in mid-run: the others go on, and so do they when they come back; and whatever happens, each
//! frame and buffer is accounted for.

use std::fs;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::program::{Finished, Report, Running, run};

/// Descriptors of each ring, unless a test says otherwise.
const DESCRIPTORS: u64 = 512;
/// Every way to run a driver and an application, and some in which they crash as well.
const WAYS: [&[&str]; 6] = [
    &["--isolation", "driver"],
    &["--isolation", "domain", "--queues", "2", "--interrupt"],
    &["--isolation", "shadow", "--crash-every", "50ms"],
    &["--isolation", "driver", "--application", "domain"],
    &[
        "--isolation",
        "domain",
        "--application",
        "shadow",
        "--queues",
        "2",
        "--interrupt",
        "--crash-every",
        "50ms",
    ],
    &[
        "--isolation",
        "shadow",
        "--application",
        "shadow",
        "--crash-every",
        "50ms",
    ],
];

/// A generator whose frames are all sent after two seconds, and so often.
const TWO_SECONDS: &str = "sim:rate=10000pps,frames=20000";
const FRAMES: u64 = 20_000;

fn finished(way: &[&str], more: &[&str]) -> Finished {
    run(["--json"].iter().chain(way).chain(more))
}

fn assert_exact(report: &Report) {
    report.assert_books_balance();
    report.assert_losses_are_explained(DESCRIPTORS, 2);
    if !report.0["application"].is_null() {
        report.assert_losses_are_in_hand(32, 2);
    }
    assert_eq!(report.count("/pool/free"), report.count("/pool/total"));
}

/// The run ends when the first pair's frames have all come, long after the last device was pulled out.
#[test]
fn test_other_ports_go_on_without_a_device_that_is_gone() {
    for way in WAYS {
        let ports = [TWO_SECONDS, "sim:null", "sim", "sim:gone=500ms"];
        let finished = finished(way, &ports);
        let report = finished.report_without(&["sim3"]);
        assert_exact(&report);
        assert_eq!(report.count("/ports/0/wire/sent"), FRAMES, "{way:?}");
        assert!(report.count("/ports/1/tx_packets") > 0, "{way:?}");
        assert_eq!(report.count("/ports/1/tx_dropped_removed"), 0);
        let dropped = report.count("/ports/3/tx_dropped_removed");
        assert!(dropped > 0, "{:#}", report.0);
        assert_eq!(dropped, report.count("/ports/3/tx_dropped"));
        let removed: Vec<_> = (0..4).map(|port| report.is_removed(port)).collect();
        assert_eq!(removed, [false, false, false, true]);
    }
}

#[test]
fn test_a_run_ends_when_no_pair_of_ports_is_left() {
    let ways = [
        (
            &["sim:gone=300ms", "sim:gone=300ms"][..],
            &["sim0", "sim1"][..],
        ),
        (&["sim", "sim:gone=300ms"], &["sim1"]),
        (&["sim:gone=300ms"], &["sim0"]),
    ];
    for (ports, gone) in ways {
        for way in WAYS {
            assert_exact(&finished(way, ports).report_without(gone));
        }
    }
}

/// The run ends when all frames have come by the device that was away for a while.
#[test]
fn test_a_device_that_comes_back_goes_on() {
    let back = format!("{TWO_SECONDS},gone=300ms,back=1200ms");
    for way in WAYS {
        let ports = ["sim", "sim", "--wait-for-device", "sim", &back];
        let report = finished(way, &ports).report();
        assert_exact(&report);
        assert_eq!(report.count("/ports/3/returns"), 1, "{way:?}");
        assert!(!report.is_removed(3));
        assert_eq!(report.count("/ports/3/wire/sent"), FRAMES, "{way:?}");
        assert!(report.count("/ports/3/rx_packets") > 0, "{way:?}");
        assert!(report.count("/ports/3/tx_dropped_removed") > 0, "{way:?}");
    }
}

/// However short a device was away, it has forgotten all that its driver told it: nothing would pass any more.
#[test]
fn test_a_device_that_was_away_for_a_moment_goes_on() {
    for way in WAYS {
        let folder = TempDir::new().expect("a temporary folder");
        let dump = folder.path().join("forwarded");
        let forwarded = || fs::metadata(&dump).map_or(0, |file| file.len());
        let dumped = dump.display().to_string();
        let ports = ["sim:null", "sim:rate=10000pps,gone=300ms,back=320ms"];
        let options = ["--json", "--wait-for-device", "--pcap-dump", &dumped];
        let mut running = Running::start(options.iter().chain(way).chain(&ports));
        running.wait_for_words(": back", 1);
        let before = forwarded();
        running.wait_for("frame forwarded again", || forwarded() > before + 4096);
        running.signal(Signal::SIGINT);
        let report = running.finish().report();
        assert_exact(&report);
        assert_eq!(report.count("/ports/1/returns"), 1, "{way:?}");
    }
}

#[test]
fn test_a_device_that_was_away_for_a_moment_is_told_of() {
    for way in WAYS {
        let finished = finished(way, &["sim", "sim:gone=300ms,back=301ms"]);
        let error = finished.stderr.trim_end();
        assert_eq!(finished.status.code(), Some(1), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("sim1: "), "{error}");
        let told = ["reset or replaced", "gone"];
        assert!(told.iter().any(|words| error.contains(words)), "{error}");
    }
}

#[test]
fn test_a_signal_ends_the_wait_for_devices() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let ports = [
            "sim:gone=200ms",
            "sim:gone=200ms",
            "--wait-for-device",
            "--json",
        ];
        let mut l2fwd = Running::start(ports);
        l2fwd.wait_for_words("waiting for its return", 2);
        l2fwd.signal(signal);
        assert_exact(&l2fwd.finish().report_without(&["sim0", "sim1"]));
    }
}

/// The table says of which device frames are dropped since it is gone, and so does the summary.
#[test]
fn test_people_are_told_what_is_gone() {
    let ports = ["sim", "sim", "sim", "sim:gone=300ms"];
    let told = [
        "--isolation",
        "driver",
        "--duration",
        "2s",
        "--stats-interval",
        "500ms",
    ];
    let Finished {
        status,
        stdout,
        stderr,
    } = run(ports.iter().chain(&told));
    assert_eq!(status.code(), Some(1), "{stderr}");
    let line = stderr.lines().rfind(|line| line.starts_with("sim:gone"));
    assert!(line.is_some_and(|line| line.contains(" gone ")), "{stderr}");
    assert!(stdout.contains("dropped while it was gone"), "{stdout}");
}
