//! The driver in a domain of its own: the same run, from a signed file.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use sumac_testbed::domains::BuiltDomains;
use tempfile::TempDir;

use crate::frames::{mixed, read_pcap, write_pcap};
use crate::program::{Finished, L2FWD, Running};

/// The driver's domain file, and a configuration that trusts it.
fn built() -> &'static BuiltDomains {
    static BUILT: OnceLock<BuiltDomains> = OnceLock::new();
    BUILT.get_or_init(|| BuiltDomains::build(&["ixgbe"]))
}

/// Runs with the driver in a domain from `folder`.
fn run_in_domain(folder: &Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new(L2FWD);
    command
        .args(["--isolation", "domain", "--json", "--domains"])
        .arg(folder)
        .args(arguments)
        .env("XDG_CONFIG_HOME", built().folder());
    Running::spawn(&mut command).finish()
}

fn run(arguments: &[&str]) -> Finished {
    run_in_domain(built().folder(), arguments)
}

#[test]
fn test_a_driver_in_a_domain_forwards_and_its_books_balance() {
    let report = run(&["--duration", "2s"]).report();
    assert_eq!(report.ports(), 2);
    report.assert_books_balance();
    assert!(report.count("/packets") > 0, "{:#}", report.0);
}

#[test]
fn test_several_queues_of_domains() {
    let report = run(&["--queues", "2", "--duration", "1s"]).report();
    report.assert_books_balance();
    assert!(report.count("/packets") > 0, "{:#}", report.0);
}

#[test]
fn test_a_capture_comes_out_of_a_domain_as_it_went_in() {
    let folder = TempDir::new().unwrap();
    let (input, output) = (
        folder.path().join("in.pcap"),
        folder.path().join("out.pcap"),
    );
    let frames = mixed();
    write_pcap(&input, &frames);
    let (from, to) = (
        format!("sim:pcap={}", input.display()),
        format!("sim:out={}", output.display()),
    );
    let report = run(&["--no-mac-updating", &from, &to]).report();
    report.assert_books_balance();
    assert!(read_pcap(&output) == frames, "byte for byte, in order");
    assert_eq!(report.count("/packets"), frames.len() as u64);
}

#[test]
fn test_a_missing_or_damaged_domain_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let refused = |named: &str| {
        let finished = run_in_domain(folder.path(), &["--duration", "1s"]);
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(named), "{}", finished.stderr);
        assert_eq!(finished.stderr.trim_end().lines().count(), 1);
    };
    refused("cargo xtask domains");
    let mut file = built().file("ixgbe");
    file[1000] ^= 1;
    fs::write(folder.path().join("ixgbe.domain"), file).unwrap();
    refused("ixgbe");
}
