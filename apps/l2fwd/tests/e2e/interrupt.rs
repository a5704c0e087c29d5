//! `--interrupt`: the same run, by workers that sleep while nothing comes, wherever the driver runs.

use crate::program::{Report, run};

/// Where the application runs.
const APPLICATIONS: [&str; 3] = ["linked", "domain", "shadow"];

/// How workers slept: times they slept, were woken, and overslept.
fn sleeps(report: &Report) -> [u64; 3] {
    ["slept", "woken", "overslept"].map(|what| report.count(&format!("/sleeps/{what}")))
}

#[test]
fn test_workers_sleep_between_frames_and_miss_none() {
    let isolations = ["driver", "domain", "shadow"];
    let all = isolations.map(|isolation| APPLICATIONS.map(|application| (isolation, application)));
    for (isolation, application) in all.into_iter().flatten() {
        let report = run([
            "--json",
            "--interrupt",
            "--isolation",
            isolation,
            "--application",
            application,
            "sim:rate=100pps,frames=200",
            "sim:null",
        ])
        .report();
        report.assert_books_balance();
        assert_eq!(report.count("/ports/1/tx_packets"), 200, "{:#}", report.0);
        let [slept, woken, overslept] = sleeps(&report);
        // Ten milliseconds pass from one frame to the next; on a busy machine some are not slept through.
        assert!(slept >= 50 && woken >= 50, "{isolation}: {:#}", report.0);
        assert_eq!(overslept, 0, "{:#}", report.0);
        for port in 0..2 {
            let link = report.count(&format!("/ports/{port}/link_mbps"));
            assert_eq!(link, 10_000, "{isolation}: {:#}", report.0);
        }
    }
}

/// A polling run sees links too, and sleeps never.
#[test]
fn test_a_polling_run_sees_links_and_does_not_sleep() {
    let report = run(["--json", "--duration", "1500ms"]).report();
    assert_eq!(sleeps(&report), [0, 0, 0]);
    for port in 0..2 {
        let link = report.count(&format!("/ports/{port}/link_mbps"));
        assert_eq!(link, 10_000, "{:#}", report.0);
    }
}

/// The card of a driver that is started again loses its link for a while, which its interrupt tells; frames go on to
/// be slept for.
#[test]
fn test_sleepers_go_on_over_drivers_that_die() {
    for application in APPLICATIONS {
        let report = run([
            "--json",
            "--interrupt",
            "--isolation",
            "shadow",
            "--application",
            application,
            "--crash-every",
            "50ms",
            "--duration",
            "3s",
            "sim:rate=2000pps",
            "sim:rate=2000pps",
        ])
        .report();
        report.assert_books_balance();
        report.assert_losses_are_explained(512, 1);
        assert!(report.count("/restarts") > 2, "{:#}", report.0);
        if application == "shadow" {
            let restarts = report.count("/application/restarts");
            assert!(restarts > 2, "{:#}", report.0);
        }
        assert_eq!(sleeps(&report)[2], 0, "{:#}", report.0);
        for port in 0..2 {
            let count = |what: &str| report.count(&format!("/ports/{port}/{what}"));
            assert!(count("rx_packets") > 0, "{:#}", report.0);
            assert!(count("link_changes") > 0, "{:#}", report.0);
        }
    }
}
