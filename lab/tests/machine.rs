//! The lab itself: a guest boots, has what it was given and ends with its script's exit code.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use sumac_lab::{Image, Lab, Machine};

/// `cargo xtask lab`, as people call it; with all that it starts it ends after some minutes.
fn xtask_lab(arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["240", env!("CARGO"), "xtask", "lab"])
        .args(arguments);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// Its shell is talked to, with a program along, and ends when told so.
#[test]
fn shell_of_the_lab_is_talked_to() {
    if Lab::open("shell_of_the_lab_is_talked_to").is_none() {
        return;
    }
    let mut command = xtask_lab(&["shell", "--program", "/usr/bin/env"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = command.spawn().expect("cargo runs");
    let mut input = shell.stdin.take().expect("a pipe");
    let mut console = shell.stdout.take().expect("a pipe");
    let mut heard = Vec::new();
    // Before its shell is there, a guest loses what is typed.
    while !String::from_utf8_lossy(&heard).contains("built-in commands") {
        let mut part = [0; 4096];
        let count = console.read(&mut part).expect("a pipe");
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&part[..count]);
    }
    let typed =
        "ls -d /sys/kernel/iommu_groups/0; /bin/env --version; echo 6*7 is $((6*7))\nexit\n";
    input.write_all(typed.as_bytes()).expect("it reads");
    console.read_to_end(&mut heard).expect("a pipe");
    let status = shell.wait().expect("it ends");
    let text = String::from_utf8_lossy(&heard);
    assert!(status.success(), "{text}");
    for said in [
        "iommu_groups/0\r\n",
        "coreutils",
        "6*7 is 42",
        "exit code 0",
    ] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
}

/// What cannot be taken along or plugged in is named, in a line, before anything is booted; what can be run is listed.
#[test]
fn the_lab_says_what_it_lacks_and_what_it_has() {
    for option in ["--program", "--vfio-user"] {
        let output = xtask_lab(&["shell", option, "/nowhere"]).output();
        let output = output.expect("cargo runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains("'/nowhere'") && told.contains("No such file"),
            "{told}"
        );
        assert!(output.stdout.is_empty());
    }
    let output = xtask_lab(&["list"]).output().expect("cargo runs");
    let listed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{listed}");
    let own = "the_lab_says_what_it_lacks_and_what_it_has";
    assert!(listed.lines().any(|line| line == own), "{listed}");
}

#[test]
fn guest_ends_with_the_exit_code_of_its_script() {
    let Some(lab) = Lab::open("guest_ends_with_the_exit_code_of_its_script") else {
        return;
    };
    let mut image = Image::new(&lab);
    image.script("uname -r; read line; echo \"heard $line\"; exit 7");
    let mut guest = Machine::new().boot(&lab, &image);
    guest.wait_for("lab: up");
    guest.send("a word");
    guest.wait_for("heard a word");
    guest.finish().assert_code(7);
}

#[test]
fn guest_that_hangs_is_stopped() {
    let Some(lab) = Lab::open("guest_that_hangs_is_stopped") else {
        return;
    };
    let mut image = Image::new(&lab);
    image.script("echo asleep; sleep 1000");
    let mut machine = Machine::new();
    machine.limit(Duration::from_secs(15));
    let ended = machine.boot(&lab, &image).finish();
    assert_eq!(ended.code, None, "{}", ended.text);
}

#[test]
fn programs_of_packages_run() {
    let Some(lab) = Lab::open("programs_of_packages_run") else {
        return;
    };
    let mut image = Image::new(&lab);
    image.tools(&["ethtool", "iperf3", "ip", "dpdk-testpmd"]);
    image.script(
        "set -e; ethtool --version; iperf3 --version; ip -V; dpdk-testpmd --version || true; ls /sys/class/net",
    );
    let ended = Machine::new().boot(&lab, &image).finish();
    ended.assert_code(0);
    for said in ["ethtool version", "iperf 3", "iproute2"] {
        assert!(ended.text.contains(said), "{said}:\n{}", ended.text);
    }
}

/// Two cards of QEMU's own, each in a group of its own behind the IOMMU, are handed to vfio-pci.
#[test]
fn devices_have_groups_and_go_to_vfio() {
    let Some(lab) = Lab::open("devices_have_groups_and_go_to_vfio") else {
        return;
    };
    let disk = tempfile::NamedTempFile::new().expect("a temporary file");
    disk.as_file().set_len(16 << 20).expect("room for it");
    let mut machine = Machine::new();
    machine.iommu(48);
    let card = machine.device(json!({ "driver": "igb" }));
    let disk = machine.nvme(disk.path());
    let mut image = Image::new(&lab);
    image.modules(&["vfio-pci", "vfio_iommu_type1", "nvme"]);
    image.script(&format!(
        "set -e
        dmesg | grep -q 'DMAR: Intel(R) Virtualization Technology for Directed I/O'
        bind-vfio {card} {disk}
        ls /sys/kernel/iommu_groups /dev/vfio
        group() {{ basename $(readlink /sys/bus/pci/devices/$1/iommu_group); }}
        test $(group {card}) != $(group {disk})
        test -c /dev/vfio/$(group {card})
        test -c /dev/vfio/$(group {disk})
        echo 64 > /proc/sys/vm/nr_hugepages
        grep HugePages_Total /proc/meminfo",
        card = card.address,
        disk = disk.address,
    ));
    let ended = machine.boot(&lab, &image).finish();
    ended.assert_code(0);
    assert_eq!(ended.value("HugePages_Total:"), Some("64"));
}
