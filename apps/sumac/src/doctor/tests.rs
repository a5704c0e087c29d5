//! A machine on which all is well, broken in one place at a time.

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
    let tree = Tree::at(machine.root());
    let caller = Caller::read(&tree).called("sumac");
    examine(
        &Patient {
            tree: &tree,
            caller: &caller,
            pool: 4096,
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

/// The machine has an IOMMU that the kernel does not use: the card is in no group, and with its own driver.
fn without_iommu() -> Machine {
    let machine = well();
    machine.remove("sys/class/iommu/dmar0");
    machine.remove("sys/kernel/iommu_groups");
    machine.remove(&format!("{FOLDER}/iommu_group"));
    machine.file("proc/cmdline", "quiet");
    machine
}

#[test]
fn an_iommu_that_the_kernel_does_not_use() {
    let machine = without_iommu();
    machine.file("sys/firmware/acpi/tables/DMAR", "");
    let command = "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&intel_iommu=on /' /etc/default/grub && update-grub && reboot";
    assert_fault(&machine, "iommu", "the kernel does not use it", command);
    machine.file("usr/sbin/grubby", "");
    let command = "grubby --update-kernel=ALL --args=intel_iommu=on && reboot";
    assert_fault(&machine, "iommu", "Intel VT-d", command);
    machine.remove("sys/firmware/acpi/tables/DMAR");
    machine.file("sys/firmware/acpi/tables/IVRS", "");
    let command = "grubby --update-kernel=ALL --args=amd_iommu=force_enable && reboot";
    assert_fault(&machine, "iommu", "AMD-Vi", command);
}

#[test]
fn an_iommu_that_is_switched_off() {
    let machine = without_iommu();
    machine.file("sys/firmware/acpi/tables/DMAR", "");
    machine.file("proc/cmdline", "quiet intel_iommu=off");
    let command =
        "sed -i '/^GRUB_CMDLINE/s/intel_iommu=off//' /etc/default/grub && update-grub && reboot";
    assert_fault(&machine, "iommu", "`intel_iommu=off`", command);
}

#[test]
fn no_iommu_at_all() {
    let machine = without_iommu();
    assert_fault(
        &machine,
        "iommu",
        "firmware shows none",
        "systemctl reboot --firmware-setup",
    );
    machine.file("proc/cpuinfo", "processor : 0\nflags : fpu vme hypervisor");
    let command = "qemu-system-x86_64 -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on,caching-mode=on";
    assert_fault(&machine, "iommu", "virtual machine has none", command);
}

#[test]
fn doing_without_an_iommu() {
    let machine = without_iommu();
    machine.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
    machine.group(CARD, 0);
    machine.file("sys/kernel/iommu_groups/0/name", "vfio-noiommu");
    machine.file("dev/vfio/noiommu-0", "");
    let findings = look(&machine).into_iter();
    let bad: Vec<_> = findings
        .filter(|finding| finding.state != State::Ok)
        .map(|finding| (finding.check, finding.state))
        .collect();
    assert_eq!(bad, [("iommu", State::Fault), ("no-iommu", State::Warning)]);
}

#[test]
fn vfio_that_would_do_without_an_iommu() {
    let machine = well();
    machine.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
    let command = "echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    assert_warning(&machine, "no-iommu", "no IOMMU keeps in bounds", command);
}

#[test]
fn interrupts_that_are_not_remapped() {
    let machine = well();
    machine.file(
        "proc/interrupts",
        " CPU0\n 1: 9 IO-APIC 1-edge i8042\n 24: 7 PCI-MSI 524288-edge eth0",
    );
    let command = "modprobe vfio_iommu_type1 allow_unsafe_interrupts=1";
    assert_fault(&machine, "interrupts", "does not remap", command);
    let file = "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
    machine.file(file, "N");
    assert_fault(
        &machine,
        "interrupts",
        "does not remap",
        &format!("echo Y > /{file}"),
    );
    machine.file(file, "Y");
    assert_only(
        &machine,
        "interrupts",
        State::Warning,
        "any interrupt",
        Some("systemctl reboot --firmware-setup"),
    );
    machine.file("proc/interrupts", " CPU0\n 1: 9 GICv3 27 Level timer");
    assert_well(&machine);
}

#[test]
fn modules_that_are_not_loaded() {
    let machine = well();
    machine.remove("sys/module/vfio_iommu_type1");
    let command = "modprobe -a vfio-pci vfio_iommu_type1";
    assert_fault(&machine, "vfio", "not loaded: vfio_iommu_type1", command);
    machine.remove("sys/module/vfio_pci");
    machine.file("proc/sys/kernel/osrelease", "6.12.0");
    machine.file(
        "lib/modules/6.12.0/modules.dep",
        "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz",
    );
    assert_fault(
        &machine,
        "vfio",
        "not loaded: vfio-pci, vfio_iommu_type1",
        command,
    );
    machine.file(
        "lib/modules/6.12.0/modules.dep",
        "kernel/drivers/net/tun.ko:",
    );
    assert_fault(
        &machine,
        "vfio",
        "6.12.0) comes without",
        "apt-get install linux-image-amd64",
    );
}

#[test]
fn files_that_are_not_for_the_user() {
    let machine = well();
    ordinary(&machine);
    mode(&machine, "12", 0o666);
    assert_fault(
        &machine,
        "vfio",
        "/dev/vfio/vfio",
        "sudo chmod 666 /dev/vfio/vfio",
    );
    mode(&machine, "vfio", 0o666);
    assert_well(&machine);
    mode(&machine, "12", 0o664);
    let command = "sudo sumac bind --user 54321 0000:03:00.0";
    assert_fault(
        &machine,
        "permission",
        "/dev/vfio/12 is not for this user",
        command,
    );
}

#[test]
fn files_that_are_not_there() {
    let machine = well();
    machine.remove("dev/vfio/12");
    assert_only(
        &machine,
        "permission",
        State::Fault,
        "no file of its group",
        None,
    );
    machine.file("sys/class/vfio/12/dev", "244:7");
    let command = "mknod -m 600 /dev/vfio/12 c 244 7";
    assert_fault(&machine, "permission", "no file of its group", command);
    machine.file("dev/vfio/12", "");
    machine.remove("dev/vfio/vfio");
    let command = "mknod -m 666 /dev/vfio/vfio c 10 196";
    assert_fault(&machine, "vfio", "no /dev/vfio/vfio here", command);
    machine.remove("sys/module/vfio_pci");
    let command = "modprobe -a vfio-pci vfio_iommu_type1";
    assert_fault(&machine, "vfio", "not loaded: vfio-pci", command);
}

#[test]
fn too_little_memory_to_lock() {
    let machine = well();
    lockable(&machine, "65536");
    assert_well(&machine);
    ordinary(&machine);
    mode(&machine, "vfio", 0o666);
    mode(&machine, "12", 0o666);
    lockable(&machine, "8388608");
    let command = "sudo prlimit --pid $$ --memlock=unlimited:unlimited";
    assert_fault(
        &machine,
        "memlock",
        "8192 KiB may be locked, 12 MiB for 4096 buffers needed",
        command,
    );
    lockable(&machine, "12582912");
    assert_well(&machine);
}

#[test]
fn too_few_huge_pages() {
    let machine = well();
    machine.file(
        &format!("sys/devices/system/node/node0/{PAGES}/free_hugepages"),
        "5",
    );
    assert_warning(
        &machine,
        "hugepages",
        "5 pages of 2 MiB free, 6 needed",
        "sumac hugepages --for-pool 4096",
    );
    machine.file(
        &format!("sys/devices/system/node/node0/{PAGES}/free_hugepages"),
        "6",
    );
    assert_well(&machine);
}

#[test]
fn huge_pages_on_the_wrong_node() {
    let machine = well();
    for file in ["nr_hugepages", "free_hugepages"] {
        machine.file(
            &format!("sys/devices/system/node/node1/{PAGES}/{file}"),
            "0",
        );
    }
    machine.fact(CARD, "numa_node", "1");
    let command = "sumac hugepages --for-pool 4096 --node 1";
    assert_warning(
        &machine,
        "node",
        "near node 1, with 0 huge pages free, 6 needed",
        command,
    );
    machine.fact(CARD, "numa_node", "0");
    assert_well(&machine);
}

#[test]
fn lockdown_is_told_and_no_fault() {
    let machine = well();
    machine.file(
        "sys/kernel/security/lockdown",
        "none [integrity] confidentiality",
    );
    assert_well(&machine);
    assert!(
        look(&machine)
            .iter()
            .any(|finding| finding.check == "lockdown" && finding.what.starts_with("integrity"))
    );
    machine.file(
        "sys/kernel/security/lockdown",
        "[none] integrity confidentiality",
    );
    assert!(
        look(&machine)
            .iter()
            .all(|finding| finding.check != "lockdown")
    );
}

#[test]
fn a_device_that_is_not_there() {
    let machine = well();
    let tree = Tree::at(machine.root());
    let caller = Caller::read(&tree).called("sumac");
    let absent = "0000:09:00.0".parse().expect("an address");
    let findings = examine(
        &Patient {
            tree: &tree,
            caller: &caller,
            pool: 4096,
            cage: |_| Err(io::ErrorKind::Unsupported.into()),
        },
        &[absent],
    );
    let about: Vec<_> = findings
        .iter()
        .filter(|finding| finding.device.is_some())
        .collect();
    assert_eq!(about.len(), 1, "{about:?}");
    assert_eq!((about[0].check, about[0].state), ("device", State::Fault));
    assert_eq!(about[0].device.as_deref(), Some("0000:09:00.0"));
    assert_eq!(
        about[0].command.as_deref(),
        Some("echo 1 > /sys/bus/pci/rescan")
    );
}

#[test]
fn no_device_of_ours() {
    let machine = well();
    machine.remove("sys/bus/pci/devices/0000:03:00.0");
    assert_warning(
        &machine,
        "devices",
        "no card here that Sumac drives",
        "sumac devices --all",
    );
}

#[test]
fn a_device_nobody_drives() {
    let machine = well();
    machine.fact(CARD, "device", "0x10c9");
    assert_only(
        &machine,
        "device",
        State::Warning,
        "(8086:10c9): Sumac has no driver for it",
        None,
    );
}

#[test]
fn the_kernels_driver_has_the_device() {
    let machine = well();
    machine.driver(CARD, "ixgbe");
    assert_fault(
        &machine,
        "driver",
        "ixgbe has it",
        "sumac bind 0000:03:00.0",
    );
    machine.remove(&format!("{FOLDER}/driver"));
    assert_fault(&machine, "driver", "none has it", "sumac bind 0000:03:00.0");
    ordinary(&machine);
    mode(&machine, "vfio", 0o666);
    assert_fault(
        &machine,
        "driver",
        "none has it",
        "sudo sumac bind --user 54321 0000:03:00.0",
    );
}

/// On a machine with an IOMMU it goes to vfio-pci; on one without it is told what is given up.
#[test]
fn a_device_meant_for_no_iommu() {
    let machine = well();
    machine.driver(CARD, "uio_pci_generic");
    let command = "sumac bind 0000:03:00.0";
    assert_fault(&machine, "driver", "there is one", command);
    ordinary(&machine);
    mode(&machine, "vfio", 0o666);
    let command = "sudo sumac bind --user 54321 0000:03:00.0";
    assert_fault(&machine, "driver", "there is one", command);

    let machine = without_iommu();
    machine.driver(CARD, "uio_pci_generic");
    machine.fact(CARD, "uio/uio0/name", "uio_pci_generic");
    machine.file("dev/uio0", "");
    let bad = || -> Vec<_> {
        let mut findings = look(&machine);
        findings.retain(|finding| finding.state != State::Ok);
        findings
    };
    let found = bad();
    let checks: Vec<_> = (found.iter().map(|one| (one.check, one.state))).collect();
    assert_eq!(
        checks,
        [("iommu", State::Fault), ("driver", State::Warning)]
    );
    assert!(found[1].what.contains("--unsafe-noiommu"), "{found:?}");
    assert_eq!(found[1].command.as_deref(), Some("sumac bind 0000:03:00.0"));
    machine.process(4711, "l2fwd", "dev/uio0");
    let held = bad().pop().expect("a finding");
    assert_eq!(
        (held.check, held.command.as_deref()),
        ("in use", Some("kill 4711"))
    );
}

#[test]
fn the_way_out_of_the_machine() {
    let machine = well();
    machine.driver(CARD, "ixgbe");
    machine.interface(CARD, "eth1");
    machine.fact(CARD, "net/eth1/carrier", "1");
    machine.file(
        "proc/net/route",
        "Iface Destination\neth1 00000000 010200C0 0003 0 0 0 00000000 0 0 0",
    );
    assert_fault(
        &machine,
        "driver",
        "takes the machine's way out away",
        "sumac bind --force 0000:03:00.0",
    );
}

#[test]
fn a_group_with_somebody_elses_device_in_it() {
    let machine = well();
    machine.device(OTHER, "8086:1521", 0x02_0000);
    machine.group(OTHER, 12);
    machine.driver(OTHER, "igb");
    let command = "sumac bind --group 0000:03:00.0";
    assert_fault(
        &machine,
        "group",
        "12 is not viable, for other drivers have what else is in it: 0000:03:00.1 (igb)",
        command,
    );
    machine.remove(&format!("sys/devices/pci0000:00/{OTHER}/driver"));
    assert_well(&machine);
    assert!(
        look(&machine)
            .iter()
            .any(|finding| finding.what == "12, with 0000:03:00.1")
    );
}

#[test]
fn a_device_that_the_iommu_leaves_out() {
    let machine = well();
    machine.device(OTHER, "1234:5678", 0x05_0000);
    machine.group(OTHER, 13);
    machine.remove("sys/kernel/iommu_groups/12");
    machine.remove(&format!("{FOLDER}/iommu_group"));
    assert_only(
        &machine,
        "group",
        State::Fault,
        "no IOMMU translates for it",
        None,
    );
}

#[test]
fn a_device_that_a_process_has() {
    let machine = well();
    machine.process(4711, "l2fwd", "dev/vfio/12");
    assert_fault(
        &machine,
        "in use",
        "process 4711 (l2fwd) has it open",
        "kill 4711",
    );
}

#[test]
fn cables() {
    let machine = well();
    machine.driver(CARD, "ixgbe");
    machine.interface(CARD, "eth1");
    let cable = || in_cage(&machine, |_| Err(io::ErrorKind::Unsupported.into()));
    machine.fact(CARD, "net/eth1/carrier", "1");
    machine.fact(CARD, "net/eth1/speed", "10000");
    assert_eq!(
        (cable().state, cable().what.as_str()),
        (State::Ok, "eth1 (10000 Mbit/s)")
    );
    machine.fact(CARD, "net/eth1/carrier", "0");
    assert_eq!((cable().state, cable().command), (State::Warning, None));
    assert!(cable().what.starts_with("eth1 (no link)"));
    machine.fact(CARD, "net/eth1/flags", "0x1002");
    assert_eq!(cable().command.as_deref(), Some("ip link set eth1 up"));
}

/// What is said of module and cable.
fn in_cage(machine: &Machine, cage: fn(&str) -> io::Result<Transceiver>) -> Finding {
    let tree = Tree::at(machine.root());
    let caller = Caller::read(&tree).called("sumac");
    let patient = Patient {
        tree: &tree,
        caller: &caller,
        pool: 4096,
        cage,
    };
    let mut findings = examine(&patient, &[]).into_iter();
    findings
        .find(|finding| finding.check == "cable")
        .expect("a finding")
}

#[test]
fn modules_in_the_cage() {
    let machine = well();
    machine.driver(CARD, "ixgbe");
    machine.interface(CARD, "eth1");
    machine.fact(CARD, "net/eth1/carrier", "1");
    let module = in_cage(&machine, |_| {
        let mut bytes = [b' '; 64];
        (bytes[0], bytes[3], bytes[6], bytes[8]) = (3, 0x10, 0, 0);
        bytes[20..27].copy_from_slice(b"FINISAR");
        bytes[40..49].copy_from_slice(b"FTLX8571D");
        Ok(Transceiver::from_bytes(&bytes))
    });
    assert_eq!(
        (module.state, module.what.as_str()),
        (State::Ok, "eth1 (link), 10GBASE-SR FINISAR FTLX8571D")
    );
    machine.fact(CARD, "net/eth1/flags", "0x1002");
    let none = in_cage(&machine, |_| Err(io::Error::from_raw_os_error(5)));
    assert_eq!((none.state, none.command), (State::Warning, None));
    assert!(
        none.what
            .contains("no module answers: put one into the cage"),
        "{}",
        none.what
    );
    let unknown = in_cage(&machine, |_| Err(io::ErrorKind::PermissionDenied.into()));
    assert!(
        unknown.what.starts_with("eth1 (down): switch it on"),
        "{}",
        unknown.what
    );
}

#[test]
fn a_slow_slot() {
    let machine = well();
    for (file, text) in [
        ("current_link_speed", "5.0 GT/s PCIe"),
        ("current_link_width", "4"),
        ("max_link_speed", "5.0 GT/s PCIe"),
        ("max_link_width", "8"),
    ] {
        machine.fact(CARD, file, text);
    }
    assert_only(
        &machine,
        "pcie",
        State::Warning,
        "5.0 GT/s x4 of 5.0 GT/s x8",
        None,
    );
    machine.fact(CARD, "current_link_width", "8");
    assert_well(&machine);
}

#[test]
fn a_link_that_sleeps() {
    let machine = well();
    machine.fact(CARD, "link/l1_aspm", "1");
    let command = "echo 0 > /sys/bus/pci/devices/0000:03:00.0/link/l1_aspm";
    assert_warning(&machine, "aspm", "goes to sleep (l1)", command);
    machine.fact(CARD, "link/l0s_aspm", "1");
    let both = format!("{} && {command}", command.replace("l1", "l0s"));
    assert_warning(&machine, "aspm", "goes to sleep (l0s, l1)", &both);
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
