//! `--interrupt`: the same run, by workers that sleep while nothing comes, wherever the driver runs.

use crate::program::{Report, first_enough, long_enough, report_until, run};

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
        let with = |frames: u64| {
            let where_ = ["--isolation", isolation, "--application", application];
            let sending = format!("sim:rate=100pps,frames={frames}");
            let ports = ["--json", "--interrupt", &sending, "sim:null"];
            let report = run(where_.iter().chain(&ports)).report();
            report.assert_books_balance();
            assert_eq!(report.count("/ports/1/tx_packets"), frames, "{report:#?}");
            assert_eq!(sleeps(&report)[2], 0, "{report:#?}");
            report
        };
        // Ten milliseconds pass from one frame to the next; on a busy machine most are not slept through.
        let slept = |report: &Report| sleeps(report)[..2].iter().all(|times| *times >= 5);
        let report = first_enough([200, 1_000, 5_000], with, slept);
        for port in 0..2 {
            let link = report.count(&format!("/ports/{port}/link_mbps"));
            assert_eq!(link, 10_000, "{isolation}: {:#}", report.0);
        }
    }
}

/// A polling run sees links too, and sleeps never.
#[test]
fn test_a_polling_run_sees_links_and_does_not_sleep() {
    let up = |report: &Report, port| report.count(&format!("/ports/{port}/link_mbps")) == 10_000;
    let seen = |report: &Report| (0..2).all(|port| up(report, port));
    let report = report_until(seen, &[]);
    assert_eq!(sleeps(&report), [0, 0, 0]);
}

/// The card of a driver that is started again loses its link for a while, which its interrupt tells; frames go on to
/// be slept for.
#[test]
fn test_sleepers_go_on_over_drivers_that_die() {
    for application in APPLICATIONS {
        let run_for = |duration: &str| {
            let shadows = ["--isolation", "shadow", "--application", application];
            let every = ["--crash-every", "50ms", "--duration", duration];
            let ports = [
                "--json",
                "--interrupt",
                "sim:rate=2000pps",
                "sim:rate=2000pps",
            ];
            run(shadows.iter().chain(&every).chain(&ports)).report()
        };
        let enough = |report: &Report| {
            let seen = |port| {
                ["rx_packets", "link_changes"]
                    .iter()
                    .all(|what| report.count(&format!("/ports/{port}/{what}")) > 0)
            };
            let applications = application != "shadow" || report.application_restarts() > 2;
            report.restarts() > 2 && applications && (0..2).all(seen)
        };
        let report = long_enough(run_for, enough);
        report.assert_losses_are_explained(512, 1);
        assert_eq!(sleeps(&report)[2], 0, "{:#}", report.0);
    }
}
