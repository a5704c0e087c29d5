//! Runs on the built-in generator: the default devices, and runs ended by time and by signals.

use nix::sys::signal::Signal;

use crate::program::{Report, Running, report_until, run};

/// A run of these until frames were forwarded.
fn forwarding(arguments: &[&str]) -> Report {
    let report = report_until(Report::forwarded, arguments);
    assert_measured(&report);
    report
}

fn assert_measured(report: &Report) {
    for number in ["/seconds", "/mpps", "/ticks_per_packet"] {
        assert!(report.number(number) > 0.0, "{number} in {:#}", report.0);
    }
}

#[test]
fn test_default_devices_for_a_given_time() {
    let report = forwarding(&[]);
    assert_eq!(report.ports(), 2);
    assert_eq!(report.count("/ports/0/rx_errors"), 0);
    assert_eq!(report.count("/ports/1/rx_errors"), 0);
}

#[test]
fn test_odd_port_forwards_to_itself() {
    assert_eq!(forwarding(&["sim"]).ports(), 1);
}

#[test]
fn test_four_ports_form_two_pairs() {
    let sent = |report: &Report, port| report.count(&format!("/ports/{port}/tx_packets"));
    let all_sent = |report: &Report| (0..4).all(|port| sent(report, port) > 0);
    let report = report_until(all_sent, &["sim"; 4]);
    assert_eq!(report.ports(), 4);
}

#[test]
fn test_several_queues() {
    forwarding(&["--queues", "2"]);
}

#[test]
fn test_smallest_and_largest_batch() {
    for batch in ["1", "64"] {
        forwarding(&["--batch", batch]);
    }
}

#[test]
fn test_a_frame_limit_ends_the_run() {
    let report = run(["--frames", "10000", "--json"]).report();
    report.assert_books_balance();
    assert_measured(&report);
    assert!(report.count("/packets") >= 10_000, "{:#}", report.0);
}

#[test]
fn test_signals_end_the_run_cleanly() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut l2fwd = Running::start(["--json"]);
        l2fwd.wait_for_handler(signal);
        l2fwd.signal(signal);
        // Possibly before the first frame: what was counted must balance all the same.
        l2fwd.finish().report().assert_books_balance();
    }
}

#[test]
fn test_without_json_stdout_has_a_summary_for_people() {
    let finished = run(["--duration", "1s"]);
    assert!(
        finished.status.success(),
        "{}: {}",
        finished.status,
        finished.stderr
    );
    let text = finished.stdout.to_lowercase();
    for word in ["mpps", "ticks a packet", "pool"] {
        assert!(
            text.contains(word),
            "no {word} in the summary:\n{}",
            finished.stdout
        );
    }
}
