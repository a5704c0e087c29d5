//! Bad input: exit code 2, one line on standard error that names the thing and the remedy, and
//! nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::frames::{mixed, pcap};
use crate::program::{Finished, L2FWD, Running, is_root, run, skip};

/// The user and group `nobody`.
const NOBODY: u32 = 65_534;

/// Asserts the shape of a refusal; `named` must appear in its one line.
fn assert_refused(finished: &Finished, named: &str) {
    let Finished {
        status,
        stdout,
        stderr,
    } = finished;
    assert_eq!(
        status.code(),
        Some(2),
        "{named}: {status}, stderr: {stderr}"
    );
    assert_eq!(stdout, "", "{named}: nothing belongs on standard output");
    assert_eq!(
        stderr.trim_end().lines().count(),
        1,
        "{named}: not one line:\n{stderr}"
    );
    assert!(stderr.contains(named), "{named} is not named in: {stderr}");
    let about = stderr.trim_end().trim_start_matches("l2fwd: ");
    assert!(
        about.len() > named.len() + 10,
        "no cause or remedy in: {stderr}"
    );
}

/// Runs with these arguments and a limit on time, should they be accepted by mistake.
fn assert_refuses(arguments: &[&str], named: &str) {
    let limit = ["--duration", "1s"];
    let limit = if arguments.contains(&"--duration") {
        &[][..]
    } else {
        &limit[..]
    };
    assert_refused(&run(arguments.iter().chain(limit)), named);
}

#[test]
fn test_unknown_device_specs() {
    for device in [
        "nonsense",
        "eth0",
        "sim:",
        "sim:speed=11",
        "sim:gen=x=y",
        "sim:pcap",
        "sim:pcap=",
        "0000:03",
        "0000:03:00.9",
        "0000:03:zz.0",
        "",
    ] {
        assert_refuses(&[device], device);
    }
}

#[test]
fn test_an_unknown_choice_is_told_what_there_is() {
    assert_refuses(&["--isolation", "process"], "driver, domain, shadow");
}

#[test]
fn test_devices_this_build_cannot_drive() {
    // No such function exists on a bus 255, and no server listens there.
    assert_refuses(&["0000:ff:1f.7"], "0000:ff:1f.7");
    assert_refuses(&["vfio-user:/no/such/socket"], "/no/such/socket");
}

#[test]
fn test_numbers_out_of_range() {
    for (option, value) in [
        ("--batch", "0"),
        ("--batch", "65"),
        ("--batch", "-1"),
        ("--batch", "many"),
        ("--queues", "0"),
        ("--queues", "65"),
        ("--mtu", "0"),
        ("--mtu", "67"),
        ("--mtu", "9711"),
        ("--mtu", "70000"),
        ("--duration", "0s"),
        ("--duration", "soon"),
        ("--frames", "0"),
    ] {
        assert_refuses(&[&format!("{option}={value}")], option);
    }
    assert_refuses(&["--no-such-option"], "--no-such-option");
}

#[test]
fn test_missing_capture_file() {
    let folder = TempDir::new().expect("a temporary folder");
    let output = folder.path().join("out.pcap");
    let out = format!("sim:out={}", output.display());
    assert_refuses(&["sim:pcap=/no/such/in.pcap", &out], "/no/such/in.pcap");
    assert!(!output.exists(), "an output file was left behind");
    assert_refuses(
        &["sim:out=/no/such/folder/out.pcap"],
        "/no/such/folder/out.pcap",
    );
}

#[test]
fn test_files_that_are_no_captures() {
    let whole = pcap(&mixed());
    let not_ethernet = [&whole[..20], &[101, 0, 0, 0], &whole[24..]].concat();
    let cases: [(&str, &[u8]); 6] = [
        ("empty.pcap", b""),
        (
            "text.pcap",
            b"this is no capture, but long enough to hold a header",
        ),
        ("half-header.pcap", &whole[..11]),
        ("half-record.pcap", &whole[..24 + 7]),
        ("half-frame.pcap", &whole[..whole.len() - 5]),
        ("not-ethernet.pcap", &not_ethernet),
    ];
    let folder = TempDir::new().expect("a temporary folder");
    for (name, bytes) in cases {
        let input = folder.path().join(name);
        fs::write(&input, bytes).expect("the folder is ours");
        let output = folder.path().join("out.pcap");
        let devices = [
            format!("sim:pcap={}", input.display()),
            format!("sim:out={}", output.display()),
        ];
        assert_refuses(&[&devices[0], &devices[1]], name);
        assert!(!output.exists(), "{name}: an output file was left behind");
    }
}

#[test]
fn test_a_file_read_and_written_is_left_alone() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("both.pcap");
    let bytes = pcap(&mixed());
    fs::write(&path, &bytes).expect("the folder is ours");
    let named = path.display().to_string();
    assert_refuses(
        &[&format!("sim:pcap={named}"), &format!("sim:out={named}")],
        &named,
    );
    assert!(
        fs::read(&path).is_ok_and(|now| now == bytes),
        "the input was changed"
    );
}

#[test]
fn test_a_folder_is_no_capture() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().display().to_string();
    assert_refuses(&[&format!("sim:pcap={path}")], &path);
    assert_refuses(&[&format!("sim:out={path}")], &path);
}

#[test]
fn test_missing_interface() {
    let name = "sumac-none0";
    assert_refuses(&[&format!("sim:veth={name}")], name);
    // Longer than the kernel's 15 characters.
    assert_refuses(
        &["sim:tap=sumac-far-too-long-a-name"],
        "sumac-far-too-long-a-name",
    );
}

#[test]
fn test_one_port_given_twice() {
    let folder = TempDir::new().expect("a temporary folder");
    let output = folder.path().join("out.pcap");
    let out = format!("sim:out={}", output.display());
    for device in [
        out.as_str(),
        "sim:tap=sumac-twice0",
        "sim:veth=lo",
        "0000:03:00.0",
    ] {
        assert_refuses(&[device, device], device.trim_start_matches("sim:"));
    }
    assert!(!output.exists(), "an output file was left behind");
    assert!(
        !Path::new("/sys/class/net/sumac-twice0").exists(),
        "an interface was left behind"
    );
}

/// As `nobody` if this process is root, from a folder that `nobody` may enter.
fn run_unprivileged(arguments: &[&str]) -> Finished {
    let folder = TempDir::new().expect("a temporary folder");
    let mut command;
    if is_root() {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let program = folder.path().join("l2fwd");
        fs::copy(L2FWD, &program).expect("a copy of the program");
        command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    } else {
        command = Command::new(L2FWD);
    }
    // `nobody` reads no domain files of this test's.
    command.args(["--isolation", "driver", "--duration", "1s"]);
    Running::spawn(command.args(arguments)).finish()
}

#[test]
fn test_no_permission() {
    let tap = "sumac-denied0";
    assert_refused(&run_unprivileged(&[&format!("sim:tap={tap}")]), tap);
    assert!(
        !Path::new("/sys/class/net").join(tap).exists(),
        "an interface was left behind"
    );
    assert_refused(&run_unprivileged(&["sim:veth=lo"]), "lo");
}

#[test]
fn test_no_permission_for_a_file() {
    if !is_root() {
        return skip(
            "test_no_permission_for_a_file",
            "needs root, to make a file of another user",
        );
    }
    let folder = TempDir::new().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let input = folder.path().join("secret.pcap");
    fs::write(&input, pcap(&mixed())).expect("the folder is ours");
    fs::set_permissions(&input, fs::Permissions::from_mode(0o600)).expect("ours");
    let named = input.display().to_string();
    assert_refused(&run_unprivileged(&[&format!("sim:pcap={named}")]), &named);
    let output = folder.path().join("out.pcap");
    let named = output.display().to_string();
    assert_refused(&run_unprivileged(&[&format!("sim:out={named}")]), &named);
    assert!(!output.exists());
}

#[test]
fn test_a_later_bad_device_leaves_nothing_of_an_earlier_good_one() {
    let folder = TempDir::new().expect("a temporary folder");
    let output = folder.path().join("out.pcap");
    let out = format!("sim:out={}", output.display());
    assert_refuses(&[&out, "nonsense"], "nonsense");
    assert!(!output.exists(), "an output file was left behind");
    if is_root() {
        assert_refuses(
            &["sim:tap=sumac-early0", "sim:veth=sumac-none0"],
            "sumac-none0",
        );
        assert!(
            !Path::new("/sys/class/net/sumac-early0").exists(),
            "an interface was left behind"
        );
    }
}
