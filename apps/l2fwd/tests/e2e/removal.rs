//! Devices that go away in mid-run: the others go on, and so do they when they come back; and whatever happens, each
//! frame and buffer is accounted for.

use std::fs;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::program::{Finished, Report, Running, first_enough, run};

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

/// A generator whose frames are all sent after so many ten thousandths of a second.
fn sending(frames: u64) -> String {
    format!("sim:rate=10000pps,frames={frames}")
}

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

/// The run ends when the first pair's frames have all come: after it was seen that the last device was pulled out,
/// or they were too few.
#[test]
fn test_other_ports_go_on_without_a_device_that_is_gone() {
    for way in WAYS {
        let with = |frames| {
            let ports = [&sending(frames), "sim:null", "sim", "sim:gone=500ms"];
            (frames, finished(way, &ports))
        };
        let dropped = |report: &Report| report.count("/ports/3/tx_dropped_removed");
        let seen = |(_, finished): &(u64, Finished)| dropped(&finished.json()) > 0;
        let (frames, finished) = first_enough([20_000, 80_000, 300_000], with, seen);
        let report = finished.report_without(&["sim3"]);
        assert_exact(&report);
        assert_eq!(report.count("/ports/0/wire/sent"), frames, "{way:?}");
        assert!(report.count("/ports/1/tx_packets") > 0, "{way:?}");
        assert_eq!(report.count("/ports/1/tx_dropped_removed"), 0);
        assert_eq!(dropped(&report), report.count("/ports/3/tx_dropped"));
        let removed: Vec<_> = (0..4).map(|port| report.is_removed(port)).collect();
        assert_eq!(removed, [false, false, false, true]);
    }
}

/// Where both go the run may end before the second has.
#[test]
fn test_a_run_ends_when_no_pair_of_ports_is_left() {
    let ways = [
        &["sim:gone=300ms", "sim:gone=300ms"][..],
        &["sim", "sim:gone=300ms"],
        &["sim:gone=300ms"],
    ];
    for ports in ways {
        for way in WAYS {
            let finished = finished(way, ports);
            let removed = finished.json();
            let gone = (0..ports.len()).filter(|port| removed.is_removed(*port));
            let gone: Vec<_> = gone.map(|port| format!("sim{port}")).collect();
            assert!(!gone.is_empty(), "{:#}", removed.0);
            let gone: Vec<_> = gone.iter().map(String::as_str).collect();
            assert_exact(&finished.report_without(&gone));
        }
    }
}

/// The run ends when all frames have come by the device that was away for a while.
#[test]
fn test_a_device_that_comes_back_goes_on() {
    for way in WAYS {
        let with = |(back, frames)| {
            let away = format!("{},gone=300ms,back={back}", sending(frames));
            let ports = ["sim", "sim", "--wait-for-device", "sim", &away];
            (frames, finished(way, &ports).report())
        };
        let seen = |(_, report): &(u64, Report)| {
            let all = ["rx_packets", "tx_dropped_removed", "returns"];
            (all.iter()).all(|what| report.count(&format!("/ports/3/{what}")) > 0)
        };
        let longer = [("1200ms", 20_000), ("4s", 50_000), ("16s", 200_000)];
        let (frames, report) = first_enough(longer, with, seen);
        assert_exact(&report);
        assert_eq!(report.count("/ports/3/returns"), 1, "{way:?}");
        assert!(!report.is_removed(3));
        assert_eq!(report.count("/ports/3/wire/sent"), frames, "{way:?}");
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
    let run_for = |duration| {
        let often = ["--stats-interval", "500ms", "--duration", duration];
        run(ports.iter().chain(&["--isolation", "driver"]).chain(&often))
    };
    let row = |finished: &Finished| {
        let mut rows = (finished.stderr.lines()).filter(|line| line.starts_with("sim:gone"));
        rows.any(|row| row.contains(" gone "))
    };
    let dropped = |finished: &Finished| finished.stdout.contains("dropped while it was gone");
    let told = |finished: &Finished| row(finished) && dropped(finished);
    let finished = first_enough(["2s", "8s", "30s"], run_for, told);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
}
