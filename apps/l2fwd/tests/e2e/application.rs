//! The application in a domain of its own, before drivers linked in or in domains of theirs: the same run; and
//! what becomes of it when the application dies.

use std::fs;
use std::thread;

use tempfile::TempDir;

use crate::frames::{mixed, read_pcap, write_pcap};
use crate::program::{
    Finished, Report, Running, built, long_enough, report, report_until, run, skip,
};

/// A folder whose `l2fwd` is the application that dies after a hundred calls for each frame of a batch.
fn mortal() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (from, to) in [("l2fwd-mortal", "l2fwd.domain"), ("ixgbe", "ixgbe.domain")] {
        fs::copy(built().path(from), folder.path().join(to)).unwrap();
    }
    folder
}

/// Asserts that a run ended so, in one line that says all of `named`.
fn assert_failed(finished: &Finished, status: i32, named: &[&str]) {
    let Finished { stdout, stderr, .. } = finished;
    assert_eq!(finished.status.code(), Some(status), "{stderr}");
    assert_eq!(stdout, "", "no result");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    for name in named {
        assert!(stderr.contains(name), "{name} is not named in: {stderr}");
    }
}

#[test]
fn test_an_application_in_a_domain_forwards_and_its_books_balance() {
    for isolation in ["driver", "domain", "shadow"] {
        for application in ["domain", "shadow"] {
            let arguments = ["--isolation", isolation, "--application", application];
            let report = report_until(Report::forwarded, &arguments);
            assert!(report.number("/ticks_per_packet") > 0.0, "{:#}", report.0);
            assert_eq!(report.count("/application/restarts"), 0);
        }
    }
}

#[test]
fn test_what_is_not_in_a_domain_is_not_reported_as_such() {
    let report = report(&["--isolation", "driver", "--frames", "100"]);
    assert!(report.0["application"].is_null(), "{:#}", report.0);
}

#[test]
fn test_ports_without_a_partner_and_several_pairs() {
    for ports in [1, 3, 4] {
        let devices = vec!["sim"; ports];
        let sent = |report: &Report, port| report.count(&format!("/ports/{port}/tx_packets"));
        let all_sent = |report: &Report| (0..ports).all(|port| sent(report, port) > 0);
        report_until(
            all_sent,
            &[&["--application", "domain"], &devices[..]].concat(),
        );
    }
}

#[test]
fn test_several_queues_on_several_cores() {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skip("test_several_queues_on_several_cores", "needs two cores");
    }
    let cores = ["--queues", "3", "--cores", "0,1"];
    report_until(
        Report::forwarded,
        &[&["--application", "domain"], &cores[..]].concat(),
    );
}

#[test]
fn test_a_frame_limit_holds_for_an_application_that_does_not_know_it() {
    let report = report(&["--application", "domain", "--frames", "12345"]);
    report.assert_books_balance();
    let received = report.count("/ports/0/rx_packets") + report.count("/ports/1/rx_packets");
    assert_eq!(received, 12345, "{:#}", report.0);
}

/// Whoever runs it, the same frames come out, with their addresses rewritten and without; the dump has them too.
#[test]
fn test_the_same_frames_come_out_as_of_the_linked_application() {
    let frames = mixed();
    let forward = |options: &[&str]| {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_pcap(&path("in.pcap"), &frames);
        let devices = [
            format!("sim:pcap={}", path("in.pcap").display()),
            format!("sim:out={}", path("out.pcap").display()),
        ];
        let dump = path("dump.pcap").display().to_string();
        let files = ["--pcap-dump", &dump, &devices[0], &devices[1]];
        let report = report(&[options, &files].concat());
        report.assert_books_balance();
        assert_eq!(report.count("/packets"), frames.len() as u64);
        let out = read_pcap(&path("out.pcap"));
        assert!(read_pcap(&path("dump.pcap")) == out, "the dump differs");
        out
    };
    for isolation in ["driver", "domain"] {
        let with = |application, more: &[&str]| {
            let where_ = ["--isolation", isolation, "--application", application];
            forward(&[&where_[..], more].concat())
        };
        assert!(with("domain", &["--no-mac-updating"]) == frames, "altered");
        let rewritten = with("domain", &["--batch", "5"]);
        assert!(rewritten == with("linked", &[]), "{isolation}");
        assert!(rewritten != frames, "addresses were not rewritten");
    }
}

#[test]
fn test_forwarding_goes_on_whatever_the_application_dies_of() {
    let deaths = [
        ("5ms,panic", "on request"),
        ("5ms,fault", "(stack overflow)"),
        ("5ms,spin", "(call over its deadline)"),
        ("5ms,oom", "(out of memory)"),
    ];
    for (every, named) in deaths {
        let died = |report: &Report| {
            let death = report.0["application"]["last_death"].as_str();
            let death = death.unwrap_or_default();
            let named = death.starts_with("l2fwd died") && death.contains(named);
            report.application_restarts() > 1 && report.forwarded() && named
        };
        let crashing = ["--application", "shadow", "--crash-every", every];
        let report = report_until(died, &crashing);
        report.assert_losses_are_in_hand(32, 1);
        // The drivers live on, and the devices know nothing of it.
        report.assert_losses_are_explained(0, 1);
        assert_eq!(report.restarts(), 0, "{:#}", report.0);
    }
}

#[test]
fn test_drivers_and_the_application_die_by_turns() {
    let shadows = ["--isolation", "shadow", "--application", "shadow"];
    let both_died = |report: &Report| report.restarts() > 1 && report.application_restarts() > 1;
    let report = report_until(
        both_died,
        &[&shadows[..], &["--crash-every", "5ms"]].concat(),
    );
    report.assert_losses_are_in_hand(32, 1);
    report.assert_losses_are_explained(512, 1);
}

/// One worker's forwarder takes the domain of all with it; each goes on with one of the next.
#[test]
fn test_cores_that_share_an_application_all_go_on_with_the_next() {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skip("test_cores_that_share_an_application", "needs two cores");
    }
    for isolation in ["driver", "domain"] {
        let crashing = ["--application", "shadow", "--crash-every", "5ms"];
        let cores = ["--queues", "4", "--cores", "0,1"];
        let where_ = ["--isolation", isolation];
        let died = |report: &Report| report.application_restarts() > 1 && report.forwarded();
        let report = report_until(died, &[&crashing[..], &cores, &where_].concat());
        report.assert_losses_are_in_hand(32, 4);
    }
}

#[test]
fn test_an_application_that_dies_ends_a_run_without_a_shadow() {
    let folder = mortal();
    for isolation in ["driver", "domain", "shadow"] {
        let arguments = [
            "--json",
            "--application",
            "domain",
            "--isolation",
            isolation,
        ];
        let finished = Running::start_from(folder.path(), arguments).finish();
        let named = ["the application's domain", "l2fwd died (panic)", "its life"];
        assert_failed(&finished, 1, &named);
    }
}

#[test]
fn test_restarts_of_the_application_in_a_row_have_a_limit() {
    let folder = mortal();
    let with_batch = |batch, more: &[&str]| {
        let arguments = ["--json", "--application", "shadow", "--batch", batch];
        Running::start_from(folder.path(), [&arguments[..], more].concat()).finish()
    };
    // It dies before it has done what one call asks for.
    assert_failed(&with_batch("1", &[]), 1, &["l2fwd died", "its life"]);
    let run_for = |duration: &str| with_batch("32", &["--duration", duration]).report();
    let report = long_enough(run_for, |report| report.application_restarts() > 8);
    report.assert_losses_are_in_hand(32, 1);
}

#[test]
fn test_what_an_application_in_a_domain_wants_is_named() {
    let folder = TempDir::new().unwrap();
    let arguments = ["--isolation", "driver", "--application", "domain"];
    let finished = Running::start_from(folder.path(), arguments).finish();
    assert_failed(&finished, 2, &["l2fwd.domain", "--application linked"]);
    let crashing = ["--application", "domain", "--crash-every", "1s"];
    assert_failed(&run(crashing), 2, &["--application shadow"]);
}
