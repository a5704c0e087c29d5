//! The driver in a domain of its own: the same run, from a signed file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::frames::{mixed, pcap};
use crate::program::{Finished, L2FWD, Running};

/// The driver's domain file, and the configuration with the key that signed it.
struct Built {
    folder: TempDir,
}

impl Built {
    fn domains(&self) -> PathBuf {
        self.folder.path().join("domains")
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(L2FWD);
        command
            .args(["--isolation", "domain", "--json", "--domains"])
            .arg(self.domains())
            .args(arguments)
            .env("XDG_CONFIG_HOME", self.folder.path());
        Running::spawn(&mut command).finish()
    }
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let built = Built { folder };
        let status = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--package", "xtask", "--", "domains"])
            .args(["ixgbe", "--out"])
            .arg(built.domains())
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .env("XDG_CONFIG_HOME", built.folder.path())
            .status()
            .unwrap();
        assert!(status.success(), "the trusted build builds");
        built
    })
}

#[test]
fn test_a_driver_in_a_domain_forwards_and_its_books_balance() {
    let report = built().run(&["--duration", "2s"]).report();
    assert_eq!(report.ports(), 2);
    report.assert_books_balance();
    assert!(report.count("/packets") > 0, "{:#}", report.0);
}

#[test]
fn test_several_queues_of_domains() {
    let report = built().run(&["--queues", "2", "--duration", "1s"]).report();
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
    fs::write(&input, pcap(&frames)).unwrap();
    let (from, to) = (
        format!("sim:pcap={}", input.display()),
        format!("sim:out={}", output.display()),
    );
    let report = built().run(&["--no-mac-updating", &from, &to]).report();
    report.assert_books_balance();
    assert_eq!(
        fs::read(&output).unwrap().len(),
        fs::read(&input).unwrap().len()
    );
    assert_eq!(report.count("/packets"), frames.len() as u64);
}

#[test]
fn test_a_missing_or_damaged_domain_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let refused = |named: &str| {
        let mut command = Command::new(L2FWD);
        command
            .args(["--isolation", "domain", "--duration", "1s", "--domains"])
            .arg(folder.path())
            .env("XDG_CONFIG_HOME", built().folder.path());
        let finished = Running::spawn(&mut command).finish();
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(named), "{}", finished.stderr);
        assert_eq!(finished.stderr.trim_end().lines().count(), 1);
    };
    refused("cargo xtask domains");
    let mut file = fs::read(built().domains().join("ixgbe.domain")).unwrap();
    file[1000] ^= 1;
    fs::write(folder.path().join("ixgbe.domain"), file).unwrap();
    refused("ixgbe");
}
