//! `sumac devices`, `doctor`, `bind`, `unbind` and `hugepages` on the machine that runs the tests, which they
//! leave as it is: what changes a machine is tried in guests.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn sumac(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sumac"))
        .args(arguments)
        .output()
        .expect("sumac runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Exit status 2 and one line.
#[track_caller]
fn assert_refused(arguments: &[&str], text: &str) {
    let output = sumac(arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains(text), "{told}");
    assert!(output.stdout.is_empty());
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    for command in ["bind", "unbind", "doctor"] {
        for bad in ["3", "0000:03:00", "0000:03:20.0", "0000:03:00.8", "eth0"] {
            assert_refused(&[command, bad], "is no PCI address");
        }
    }
    for option in ["--user=0", "--group"] {
        let arguments = ["bind", "--unsafe-noiommu", option, "ffff:ff:1f.7"];
        assert_refused(&arguments, "cannot be used with");
    }
    for command in ["bind", "unbind"] {
        let missing = format!("not provided: <BDF>...; see sumac {command} --help");
        assert_refused(&[command], &missing);
        assert_refused(&[command, "ffff:ff:1f.7"], "no such PCI device");
    }
    assert_refused(
        &["bind", "ffff:ff:1f.7", "--user", "no such user"],
        "no user `no such user`",
    );
    assert_refused(&["doctor", "--pool", "0"], "'--pool <BUFFERS>'");
    assert_refused(&["hugepages", "many"], "'many'");
    assert_refused(&["hugepages", "-1"], "'-1'");
    assert_refused(&["hugepages", "--size", "2X"], "2M or 1G");
    assert_refused(&["hugepages", "1", "--size", "3M"], "no pages of 3M");
    assert_refused(&["hugepages", "--node", "99999"], "on node 99999");
    assert_refused(
        &["hugepages", "1", "--for-pool", "1"],
        "cannot be used with",
    );
    assert_refused(&["hugepages", "99999999999"], "more than nine tenths");
    assert_refused(&["devices", "0000:03:00.0"], "see sumac devices --help");
    assert_refused(&["doctor", "x"], "see sumac doctor --help");
    assert_refused(
        &["serve", "82599", "--socket", "x", "--core", "4095"],
        "core 4095 is not to be used",
    );
    assert_refused(&["bnd"], "'bnd'; see sumac --help");
    assert_refused(
        &["serve", "82599"],
        "--socket <PATH>; see sumac serve 82599 --help",
    );
}

/// Without a command there is the help, and exit status 2.
#[test]
fn a_command_that_is_missing_is_asked_for() {
    for (arguments, usage) in [
        (&[][..], "Usage: sumac <COMMAND>"),
        (&["serve"], "sumac serve <COMMAND>"),
    ] {
        let output = sumac(arguments);
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(usage), "{told}");
    }
}

/// A reader that is gone is no failure; a full disk is, and said so.
#[test]
fn what_cannot_be_printed_is_told() {
    let printed = [
        (&["devices", "--all", "--json"][..], 0),
        (&["devices", "--all"], 0),
        (&["hugepages"], 0),
        (&["doctor", "ffff:ff:1f.7"], 1),
        (&["bind", "--help"], 0),
    ];
    let has_bus = std::path::Path::new("/sys/bus/pci/devices").is_dir();
    for (arguments, code) in printed {
        if !has_bus && arguments[0] == "devices" {
            continue;
        }
        let run = |stdout: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sumac"));
            command
                .args(arguments)
                .stdout(stdout)
                .stderr(Stdio::piped());
            command.output().expect("sumac runs")
        };
        let usual = sumac(arguments).status.code();
        assert_eq!(usual, Some(code), "{arguments:?}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let unread = run(writer.into());
        let told = String::from_utf8_lossy(&unread.stderr);
        assert_eq!(unread.status.code(), Some(code), "{arguments:?}: {told}");
        assert_eq!(told, "", "{arguments:?}");
        if arguments.contains(&"--help") {
            continue;
        }
        let full = std::fs::File::create("/dev/full").expect("Linux has one");
        let full = run(full.into());
        let told = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.starts_with("sumac: standard output: "), "{told}");
    }
}

#[test]
fn help_teaches() {
    for (command, text) in [
        ("bind", "sudo sumac bind --user $USER"),
        ("bind", "can read and overwrite anything"),
        ("unbind", "PCI address"),
        ("doctor", "Mend from the top"),
        ("hugepages", "--for-pool 4096"),
        ("devices", "IOMMU group"),
    ] {
        let help = sumac(&[command, "--help"]);
        assert!(help.status.success());
        let told = String::from_utf8_lossy(&help.stdout);
        assert!(told.contains(text), "{told}");
    }
}

#[test]
fn the_doctors_verdict_is_its_exit_status() {
    let output = sumac(&["doctor", "--json", "ffff:ff:1f.7"]);
    assert_eq!(output.status.code(), Some(1), "that device is not there");
    let report = json(&output);
    let findings = report["findings"].as_array().expect("a list");
    let count = |state: &str| {
        findings
            .iter()
            .filter(|finding| finding["state"] == state)
            .count()
    };
    assert_eq!(report["faults"], count("fault"));
    assert_eq!(report["warnings"], count("warning"));
    let absent = findings.last().expect("a finding");
    assert_eq!(absent["device"], "ffff:ff:1f.7");
    assert_eq!(
        (&absent["check"], &absent["state"]),
        (&"device".into(), &"fault".into())
    );
    assert!(
        absent["command"]
            .as_str()
            .is_some_and(|command| command.contains("/sys/bus/pci/rescan"))
    );

    let text = sumac(&["doctor", "ffff:ff:1f.7"]);
    assert_eq!(text.status.code(), Some(1));
    assert!(text.stderr.is_empty());
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(
        text.is_ascii() && text.contains("\nffff:ff:1f.7\nfault    device      no such device"),
        "{text}"
    );
}

#[test]
fn what_the_kernel_shows_is_listed() {
    if !std::path::Path::new("/sys/bus/pci/devices").is_dir() {
        eprintln!("no PCI bus here");
        return;
    }
    let all = sumac(&["devices", "--all", "--json"]);
    assert!(all.status.success());
    let all = json(&all);
    let all = all.as_array().expect("a list");
    let shown = std::fs::read_dir("/sys/bus/pci/devices")
        .expect("a bus")
        .count();
    assert_eq!(all.len(), shown);
    let table = sumac(&["devices", "--all"]);
    let table = String::from_utf8_lossy(&table.stdout);
    for device in all {
        let address = device["address"].as_str().expect("an address");
        assert!(table.contains(address), "{table}");
    }
}
