//! The lab itself: a guest boots, has what it was given and ends with its script's exit code.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, mem, thread};

use serde_json::json;
use sumac_lab::{Image, Lab, Machine, Process};

/// `cargo xtask lab`, as people call it; with all that it starts it ends after some minutes, and with this test.
fn xtask_lab(arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM", "--", "timeout", "600"])
        .args([env!("CARGO"), "xtask", "lab"])
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

/// Scripts wait for what comes, for what somebody has left who is gone, and not for ever: one that waits in vain ends, and
/// shows what it waited for, what runs, and what was written.
#[test]
fn script_that_waits_in_vain_ends_and_tells() {
    let Some(lab) = Lab::open("script_that_waits_in_vain_ends_and_tells") else {
        return;
    };
    let mut image = Image::new(&lab);
    image.script(
        r#"set -e
        sh -c 'sleep 1; echo a word > /tmp/said' & writer=$!
        wait_until test -s /tmp/said
        wait $writer
        wait_on $writer cat /tmp/said
        ! (wait_on $writer cat /nowhere)
        sleep 1000 &
        PATIENCE=1
        wait_until cat /elsewhere
        echo not reached"#,
    );
    let ended = Machine::new().boot(&lab, &image).finish();
    ended.assert_code(1);
    for said in [
        "is gone) for: cat /nowhere\n",
        "lab: waited in vain (1 s) for: cat /elsewhere\n",
        "sleep 1000\n",
        "lab: /tmp/said ends\na word\n",
    ] {
        assert!(ended.text.contains(said), "{said}:\n{}", ended.text);
    }
    assert!(!ended.text.contains("not reached"), "{}", ended.text);
}

/// A guest whose limit is near shows the same, and ends by itself.
#[test]
fn guest_that_goes_on_for_too_long_tells() {
    let Some(lab) = Lab::open("guest_that_goes_on_for_too_long_tells") else {
        return;
    };
    let mut image = Image::new(&lab);
    image.file("tmp/said", 0o644, "a word\n");
    image.script("sleep 1000");
    let mut machine = Machine::new();
    // Another than its limit's: it need not be waited for.
    machine.kernel_option("LAB_PATIENCE=1");
    let ended = machine.boot(&lab, &image).finish();
    ended.assert_code(124);
    for said in [
        "the script goes on after 1 s\n",
        "lab: /tmp/said ends\na word\n",
    ] {
        assert!(ended.text.contains(said), "{said}:\n{}", ended.text);
    }
}

#[test]
fn guest_that_hangs_is_stopped() {
    let Some(lab) = Lab::open("guest_that_hangs_is_stopped") else {
        return;
    };
    let mut image = Image::new(&lab);
    image.script("sleep 1000");
    let mut machine = Machine::new();
    // While it boots on a slow machine, and after that on any other.
    let limit = Duration::from_secs(5);
    machine.limit(limit);
    let guest = machine.boot(&lab, &image);
    let qemu = guest.id();
    let ended = guest.finish();
    assert_eq!(ended.code, None, "{}", ended.text);
    assert!(ended.elapsed >= limit, "{:?}", ended.elapsed);
    assert_ends(qemu);
}

/// Waits until a process is gone, but for what is left of it to be waited for.
#[track_caller]
fn assert_ends(id: u32) {
    let stat = format!("/proc/{id}/stat");
    let runs = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    let deadline = Instant::now() + Duration::from_secs(60);
    while runs() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!runs(), "process {id} is still running");
}

/// A guest, and a program beside it: their process ids. Whoever calls forgets them.
fn left_behind(lab: &Lab) -> [u32; 2] {
    let mut image = Image::new(lab);
    image.script("sleep 1000");
    let guest = Machine::new().boot(lab, &image);
    let process = Process::start(Command::new("sleep").arg("1000"));
    let ids = [guest.id(), process.id()];
    ids.into_iter().for_each(wait_until_started);
    mem::forget((guest, process));
    ids
}

/// Waits until a process is what was to be started, and no more on the way to it.
#[track_caller]
fn wait_until_started(id: u32) {
    let name = |process: &str| fs::read_to_string(format!("/proc/{process}/comm"));
    let own = name("thread-self").expect("a thread has a name");
    let on_the_way = [own.as_str(), "setpriv\n", "sh\n"];
    let deadline = Instant::now() + Duration::from_secs(60);
    while on_the_way.contains(&name(&id.to_string()).expect("it runs").as_str()) {
        assert!(Instant::now() < deadline, "process {id} does not start");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Set for the process that is to be killed: a test of these once more.
const VICTIM: &str = "SUMAC_LAB_VICTIM";

/// A test that is killed, and one that ends without a word to its guest, leave neither QEMU nor another process behind.
#[test]
fn nothing_survives_its_test() {
    let Some(lab) = Lab::open("nothing_survives_its_test") else {
        return;
    };
    if env::var_os(VICTIM).is_some() {
        let [guest, process] = left_behind(&lab);
        println!("\nvictim {guest} {process}");
        thread::sleep(Duration::from_secs(600));
        return;
    }
    let of_thread = thread::spawn(move || left_behind(&lab)).join();
    of_thread
        .expect("both start")
        .into_iter()
        .for_each(assert_ends);

    let mut victim = Command::new(env::current_exe().expect("this program has a path"));
    victim.args(["--exact", "nothing_survives_its_test", "--nocapture"]);
    victim.env(VICTIM, "1").stdout(Stdio::piped());
    let mut victim = victim.spawn().expect("this program runs");
    let said = BufReader::new(victim.stdout.take().expect("a pipe"));
    let ids = (said.lines().map_while(Result::ok))
        .find_map(|line| line.strip_prefix("victim ").map(str::to_owned));
    let ids = ids.expect("its line, or it failed");
    victim.kill().expect("it is ours");
    victim.wait().expect("it was killed");
    let ids = ids.split(' ').map(|id| id.parse().expect("a number"));
    ids.for_each(assert_ends);
}

#[test]
fn programs_of_packages_run() {
    let Some(lab) = Lab::open("programs_of_packages_run") else {
        return;
    };
    let mut image = Image::new(&lab);
    image.tools(&["ethtool", "iperf3", "ip"]);
    image.script("set -e; ethtool --version; iperf3 --version; ip -V; ls /sys/class/net");
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
