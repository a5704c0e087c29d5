//! A machine on which all is well, broken in one place at a time.

mod device;
mod iommu;
mod machine;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sumac_testbed::machine::Machine;

use super::*;

const CARD: &str = "0000:03:00.0";
const OTHER: &str = "0000:03:00.1";
const FOLDER: &str = "sys/devices/pci0000:00/0000:03:00.0";
const PAGES: &str = "hugepages/hugepages-2048kB";

/// Root's machine with an 82599 that an application could open at once.
fn well() -> Machine {
    let machine = Machine::new();
    machine.device(CARD, "8086:10fb", 0x02_0000);
    machine.driver(CARD, "vfio-pci");
    machine.group(CARD, 12);
    machine.folder("sys/class/iommu/dmar0");
    machine.file("proc/cmdline", "quiet intel_iommu=on");
    machine.file("proc/cpuinfo", "processor : 0\nflags : fpu vme");
    machine.file(
        "proc/interrupts",
        " CPU0\n 24: 7 IR-PCI-MSI 524288-edge eth0",
    );
    machine.folder("sys/module/vfio_pci");
    machine.folder("sys/module/vfio_iommu_type1");
    machine.file("dev/vfio/vfio", "");
    machine.file("dev/vfio/12", "");
    user(&machine, 0, "000001ffffffffff");
    for (file, pages) in [
        ("nr_hugepages", "64"),
        ("free_hugepages", "64"),
        ("surplus_hugepages", "0"),
    ] {
        machine.file(
            &format!("sys/devices/system/node/node0/{PAGES}/{file}"),
            pages,
        );
    }
    machine
}

/// The machine has an IOMMU that the kernel does not use: the card is in no group, and with its own driver.
fn without_iommu() -> Machine {
    let machine = well();
    machine.remove("sys/class/iommu/dmar0");
    machine.remove("sys/kernel/iommu_groups");
    machine.remove(&format!("{FOLDER}/iommu_group"));
    machine.file("proc/cmdline", "quiet");
    machine
}

/// Who runs the doctor; files in the tests are their runner's, so the mode decides for others.
fn user(machine: &Machine, uid: u32, capabilities: &str) {
    let status = format!(
        "Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\nGroups:\t\nCapEff:\t{capabilities}"
    );
    machine.file("proc/self/status", &status);
    lockable(machine, "unlimited");
}

/// An ordinary user, whom the files in `/dev` are not for.
fn ordinary(machine: &Machine) {
    user(machine, 54_321, "0000000000000000");
    for file in ["vfio", "12"] {
        mode(machine, file, 0o600);
    }
}

fn mode(machine: &Machine, file: &str, mode: u32) {
    let path = machine.root().join("dev/vfio").join(file);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

fn lockable(machine: &Machine, limit: &str) {
    let line = format!("Max locked memory         {limit:<20} {limit:<20} bytes");
    machine.file(
        "proc/self/limits",
        &format!("Limit Soft Hard Units\n{line}"),
    );
}

fn look(machine: &Machine) -> Vec<Finding> {
    look_at(machine, true)
}

fn look_at(machine: &Machine, named: bool) -> Vec<Finding> {
    let tree = Tree::at(machine.root());
    let caller = Caller::read(&tree).called("sumac");
    examine(
        &Patient {
            tree: &tree,
            caller: &caller,
            pool: 4096,
            named,
            cage: |_| Err(io::ErrorKind::Unsupported.into()),
        },
        &[],
    )
}

/// All that is not well is this one finding.
#[track_caller]
fn assert_only(machine: &Machine, check: &str, state: State, what: &str, command: Option<&str>) {
    let mut findings = look(machine);
    findings.retain(|finding| finding.state != State::Ok);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let finding = &findings[0];
    assert_eq!(
        (finding.check, finding.state),
        (check, state),
        "{finding:?}"
    );
    assert!(finding.what.contains(what), "{finding:?}");
    assert_eq!(finding.command.as_deref(), command, "{finding:?}");
}

#[track_caller]
fn assert_fault(machine: &Machine, check: &str, what: &str, command: &str) {
    assert_only(machine, check, State::Fault, what, Some(command));
}

#[track_caller]
fn assert_warning(machine: &Machine, check: &str, what: &str, command: &str) {
    assert_only(machine, check, State::Warning, what, Some(command));
}

#[track_caller]
fn assert_well(machine: &Machine) {
    let mut findings = look(machine);
    findings.retain(|finding| finding.state != State::Ok);
    assert_eq!(findings, []);
}

#[test]
fn all_is_well() {
    let machine = well();
    let report = Report::new(look(&machine));
    let expected = "\
ok       iommu       dmar0: 1 groups
ok       interrupts  remapped by the IOMMU
ok       vfio        vfio-pci and vfio_iommu_type1 are there
ok       memlock     no limit for root
ok       hugepages   64 pages of 2 MiB free, 6 needed
0000:03:00.0
ok       device      82599 SFP+ (X520) (8086:10fb)
ok       driver      vfio-pci
ok       group       12, alone
ok       permission  /dev/vfio/12 may be used
all is well
";
    assert_eq!(report.text(), expected);
}

/// The kernel has iommufd, and a file for the card alone.
fn with_own_file() -> Machine {
    let machine = well();
    machine.folder(&format!("{FOLDER}/vfio-dev/vfio0"));
    machine.file("dev/vfio/devices/vfio0", "");
    machine.file("dev/iommu", "");
    machine
}

#[test]
fn a_device_that_is_taken_by_its_own_file() {
    let machine = with_own_file();
    let permission = |machine: &Machine| {
        let found = look(machine).into_iter();
        let mut found = found.filter(|finding| finding.check == "permission");
        found.next().expect("a finding").what
    };
    assert_well(&machine);
    let by_own_file = "/dev/vfio/devices/vfio0 and /dev/iommu may be used";
    assert_eq!(permission(&machine), by_own_file);
    // A user to whom groups are closed.
    ordinary(&machine);
    for file in ["devices/vfio0", "../iommu"] {
        mode(&machine, file, 0o666);
    }
    assert_well(&machine);
    assert_eq!(permission(&machine), by_own_file);
    // A kernel that has none.
    for file in [
        "dev/vfio/vfio",
        "dev/vfio/12",
        "sys/module/vfio_iommu_type1",
    ] {
        machine.remove(file);
    }
    assert_well(&machine);
    mode(&machine, "../iommu", 0o660);
    let command = "sudo sumac bind --user 54321 0000:03:00.0";
    let what = "/dev/iommu is not for this user";
    let findings = look(&machine).into_iter();
    let fault = findings.filter(|finding| finding.check == "permission");
    let fault: Vec<_> = fault.map(|fault| (fault.what, fault.command)).collect();
    assert_eq!(fault, [(what.to_owned(), Some(command.to_owned()))]);
}

/// Whoever may not use it has groups.
#[test]
fn an_iommufd_of_roots_leaves_groups() {
    let machine = with_own_file();
    ordinary(&machine);
    for (file, bits) in [("../iommu", 0o660), ("vfio", 0o666), ("12", 0o666)] {
        mode(&machine, file, bits);
    }
    assert_well(&machine);
}

#[test]
fn nothing_is_trusted_to_be_there() {
    let machine = Machine::new();
    machine.remove("sys/bus/pci/devices");
    let findings = look(&machine);
    assert!(findings.iter().any(|finding| finding.state == State::Fault));
    let text = Report::new(findings).text();
    assert!(text.contains("faults"), "{text}");
}
