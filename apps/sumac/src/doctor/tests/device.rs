//! Devices that are not there, that others have, and what they are plugged into.

use super::*;

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
            named: true,
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
    // Nobody asked about this card.
    let found = look_at(&machine, false);
    let found = found.iter().find(|finding| finding.check == "driver");
    let found = found.expect("the same finding");
    assert_eq!(found.state, State::Warning);
    let command = found.command.as_deref();
    assert!(command.is_some_and(|command| command.starts_with("sumac doctor 0000:03:00.0")));
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
        named: true,
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
