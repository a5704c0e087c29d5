//! `scripts/throughput.sh`, as called from somewhere else in the file system.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::program::{L2FWD, first_enough};

/// A folder in which cargo has nothing left to build, and from which the script is called.
struct Built(tempfile::TempDir);

impl Built {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cargo = folder.path().join("cargo");
        fs::write(&cargo, "#!/bin/sh\necho \"$@\" >> cargo-called\n").expect("a file");
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("one's own");
        fs::create_dir(folder.path().join("release")).expect("a folder");
        symlink(L2FWD, folder.path().join("release/l2fwd")).expect("a link");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn throughput(&self, devices: &[&str], seconds: &str) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/throughput.sh");
        let mut path = OsString::from(self.0.path());
        path.push(":");
        path.push(std::env::var_os("PATH").expect("a search path"));
        Command::new("sh")
            .arg(script)
            .args(devices)
            .current_dir(self.0.path())
            .env("PATH", path)
            .env("CARGO_TARGET_DIR", self.0.path())
            .env("SECONDS_EACH", seconds)
            .env("BATCHES", "1 32")
            .output()
            .expect("sh runs")
    }
}

/// The cells of a table, row by row.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().map(|line| line.split_whitespace().collect());
    rows.collect()
}

#[test]
fn test_throughput_is_shown_batch_by_batch() {
    let built = Built::new();
    // A file is named from where the script is called.
    let devices = ["sim:size=64,rate=20000pps", "sim:out=frames"];
    let run_for = |seconds| {
        let output = built.throughput(&devices, seconds);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        String::from_utf8(output.stdout).expect("a table")
    };
    // On a busy machine a second may bring no frame, or so few that their rate is shown as nought.
    let some = |cell: &str| cell.parse::<f64>().is_ok_and(|number| number > 0.0);
    let enough = |table: &String| {
        let cells = rows(table).into_iter().skip(1).flatten();
        cells.into_iter().all(some)
    };
    let table = first_enough(["1", "4", "30"], run_for, enough);
    let rows = rows(&table);
    assert_eq!(rows[0], ["batch", "Mpps", "ticks/packet", "packets"]);
    assert_eq!(rows.len(), 3, "{table}");
    for (row, batch) in rows[1..].iter().zip(["1", "32"]) {
        assert_eq!((row.len(), row[0]), (4, batch), "{table}");
    }
    assert!(built.path("frames").exists());
    let called = fs::read_to_string(built.path("cargo-called")).expect("it was called");
    assert!(called.contains("build --quiet --release --package l2fwd"));
}

#[test]
fn test_throughput_says_what_is_wrong_and_no_more() {
    let built = Built::new();
    let wrong = built.throughput(&["nowhere"], "1");
    let told = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(2), "{told}");
    assert!(wrong.stdout.is_empty());
    assert!(told.contains("`nowhere` names no device") && told.lines().count() == 1);
    let help = built.throughput(&["--help"], "1");
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("scripts/throughput.sh [DEVICE...]"));
}
