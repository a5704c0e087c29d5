//! The driver in a domain of its own, from a signed file: the same run; and what becomes of it when the
//! driver dies, with a shadow and without.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::frames::{mixed, read_pcap, write_pcap};
use crate::program::{
    Finished, L2FWD, Report, Running, built, long_enough, report, report_until, run, skip,
};

/// Descriptors of each ring, unless a test says otherwise.
const DESCRIPTORS: u64 = 512;

/// A run over drivers that crash and are started again, on so many queues, until the last died of what is named.
fn crashing(every: &str, named: &str, queues: u64, arguments: &[&str]) -> Report {
    let run_for = |duration: &str| {
        let shadow = ["--isolation", "shadow", "--crash-every", every];
        let report = report(&[&shadow, arguments, &["--duration", duration]].concat());
        report.assert_losses_are_explained(DESCRIPTORS, queues);
        report
    };
    let died = |report: &Report| {
        let death = report.0["last_death"].as_str().unwrap_or_default();
        report.restarts() > 1 && report.forwarded() && death.contains(named)
    };
    long_enough(run_for, died)
}

/// Asserts that a run ended with an error of a device, in one line that says `named`.
fn assert_failed(finished: &Finished, named: &[&str]) {
    let Finished {
        status,
        stdout,
        stderr,
    } = finished;
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert_eq!(stdout, "", "no result");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    for name in named {
        assert!(stderr.contains(name), "{name} is not named in: {stderr}");
    }
}

/// A folder whose `ixgbe` is the driver that dies after so many calls as the MTU is above 68.
fn mortal() -> TempDir {
    let folder = TempDir::new().unwrap();
    let ixgbe = folder.path().join("ixgbe.domain");
    fs::copy(built().path("ixgbe-mortal"), ixgbe).unwrap();
    folder
}

#[test]
fn test_a_driver_in_a_domain_forwards_and_its_books_balance() {
    for isolation in ["driver", "domain", "shadow"] {
        let report = report_until(Report::forwarded, &["--isolation", isolation]);
        assert_eq!(report.ports(), 2);
        assert_eq!(report.restarts(), 0);
    }
}

/// As on a fresh checkout: nobody is trusted yet, so a key is made and the domain is built and signed with it.
#[test]
fn test_a_program_in_its_checkout_builds_its_domain() {
    // What it is made of has been compiled then.
    built();
    let configuration = TempDir::new().unwrap();
    let mut l2fwd = Command::new(L2FWD);
    let l2fwd = l2fwd.args(["--duration", "200ms", "--json"]);
    l2fwd.env("XDG_CONFIG_HOME", configuration.path());
    let run = Running::spawn(l2fwd.env_remove("SUDO_USER")).finish();
    let said = &run.stderr;
    assert!(run.status.success(), "{said}");
    assert!(said.contains("building domain ixgbe first"), "{said}");
    assert!(configuration.path().join("sumac/trusted-keys").is_file());
}

#[test]
fn test_several_queues_of_domains() {
    report_until(Report::forwarded, &["--queues", "2"]);
}

#[test]
fn test_a_capture_comes_out_of_a_domain_as_it_went_in() {
    let frames = mixed();
    for isolation in ["domain", "shadow"] {
        let folder = TempDir::new().unwrap();
        let (input, output) = (
            folder.path().join("in.pcap"),
            folder.path().join("out.pcap"),
        );
        write_pcap(&input, &frames);
        let (from, to) = (
            format!("sim:pcap={}", input.display()),
            format!("sim:out={}", output.display()),
        );
        let report = report(&["--isolation", isolation, "--no-mac-updating", &from, &to]);
        report.assert_books_balance();
        assert!(read_pcap(&output) == frames, "byte for byte, in order");
        assert_eq!(report.count("/packets"), frames.len() as u64);
    }
}

#[test]
fn test_forwarding_goes_on_whatever_drivers_die_of() {
    let deaths = [
        ("10ms", "(panic)"),
        ("10ms,panic", "on request"),
        ("10ms,fault", "(stack overflow)"),
        ("10ms,spin", "(call over its deadline)"),
        ("10ms,oom", "(out of memory)"),
    ];
    for (every, named) in deaths {
        let report = crashing(every, named, 1, &[]);
        let latency = |what: &str| report.number(&format!("/restart_latency_us/{what}"));
        assert!(latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
        assert!(latency("max") >= report.number("/device_reset_us/max"));
    }
}

#[test]
fn test_cores_that_share_a_driver_all_go_on_with_the_next() {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skip("test_cores_that_share_a_driver", "needs two cores");
    }
    for (every, named) in [("10ms", "on request"), ("10ms,spin", "deadline")] {
        crashing(every, named, 4, &["--queues", "4", "--cores", "0,1"]);
    }
}

#[test]
fn test_frames_of_several_buffers_survive_their_drivers() {
    crashing("10ms", "on request", 1, &["sim:size=9000", "sim:size=9000"]);
}

#[test]
fn test_a_signal_among_restarts_ends_the_run_cleanly() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let arguments = ["--json", "--isolation", "shadow", "--crash-every", "1ms"];
        let mut l2fwd = Running::start(arguments);
        l2fwd.wait_for_handler(signal);
        thread::sleep(Duration::from_millis(400));
        l2fwd.signal(signal);
        let report = l2fwd.finish().report();
        report.assert_books_balance();
        report.assert_losses_are_explained(DESCRIPTORS, 1);
    }
}

#[test]
fn test_a_driver_that_dies_ends_a_run_without_a_shadow() {
    let folder = mortal();
    let arguments = ["--isolation", "domain", "--json", "--mtu", "1500"];
    let finished = Running::start_from(folder.path(), arguments).finish();
    assert_failed(&finished, &["ixgbe of sim", "at the end of its life"]);
}

#[test]
fn test_restarts_in_a_row_have_a_limit() {
    let folder = mortal();
    let shadow = ["--isolation", "shadow", "--json", "--mtu"];
    let with_mtu = |mtu, more: &[&str]| {
        let arguments = [&shadow[..], &[mtu], more].concat();
        Running::start_from(folder.path(), arguments).finish()
    };
    // It never serves a call.
    assert_failed(
        &with_mtu("68", &[]),
        &["ixgbe of sim", "at the end of its life"],
    );
    // It serves some hundred: that it was started again did help.
    let run_for = |duration: &str| with_mtu("568", &["--duration", duration]).report();
    let report = long_enough(run_for, |report| report.restarts() > 8);
    report.assert_losses_are_explained(DESCRIPTORS, 1);
}

#[test]
fn test_crashes_on_request_want_a_shadow() {
    for isolation in ["driver", "domain"] {
        let finished = run(["--crash-every", "1s", "--isolation", isolation]);
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains("--isolation shadow"));
        assert_eq!(finished.stderr.trim_end().lines().count(), 1);
    }
}

#[test]
fn test_a_missing_or_damaged_domain_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let refused = |named: &str| {
        let finished = Running::start_from(folder.path(), ["--duration", "1s"]).finish();
        assert_refused(&finished, named);
    };
    refused("cargo xtask domains");
    let mut file = built().file("ixgbe");
    file[1000] ^= 1;
    fs::write(folder.path().join("ixgbe.domain"), file).unwrap();
    refused("changed after it was signed");
    // Another domain's file offers something else.
    let other = built().path("ixgbe-crashy");
    fs::copy(other, folder.path().join("ixgbe.domain")).unwrap();
    refused("CreateFragileNet");
}

fn assert_refused(finished: &Finished, named: &str) {
    assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains(named), "{}", finished.stderr);
    assert!(finished.stderr.contains("cargo xtask domains"));
    assert_eq!(finished.stderr.trim_end().lines().count(), 1);
}

/// An installed program builds nothing: it says what is missing.
#[test]
fn test_an_installed_program_names_the_remedy() {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("bin").join("l2fwd");
    fs::create_dir(folder.path().join("bin")).unwrap();
    fs::copy(L2FWD, &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["--duration", "1s"])
        .env("XDG_CONFIG_HOME", built().folder());
    let finished = Running::spawn(&mut command).finish();
    assert_refused(&finished, "ixgbe.domain");
    assert!(!Path::new(&folder.path().join("domains")).exists());
}
