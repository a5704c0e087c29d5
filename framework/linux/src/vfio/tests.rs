//! What is not opened, and what is said of it, on machines made of files. What only a kernel can say (a group that
//! is not viable or in use) is made here of its answers, and met for real by the lab's tests of `l2fwd`.

use sumac_testbed::machine::Machine;

use super::*;
use crate::pci::PciError;

pub(super) const CARD: &str = "0000:03:00.0";
pub(super) const OTHER: &str = "0000:03:00.1";

pub(super) fn tree(machine: &Machine) -> Tree {
    Tree::at(machine.root())
}

/// Two ports of a card in one group, both with vfio-pci, and VFIO's files, which are no more than files.
pub(super) fn card() -> Machine {
    let machine = Machine::new();
    for address in [CARD, OTHER] {
        machine.device(address, "8086:10fb", 0x02_0000);
        machine.driver(address, "vfio-pci");
        machine.group(address, 12);
    }
    machine.file("dev/vfio/vfio", "");
    machine.file("dev/vfio/12", "");
    machine
}

/// The same where the kernel has files for devices alone.
pub(super) fn with_own_files() -> Machine {
    let machine = card();
    for (address, name) in [(CARD, "vfio3"), (OTHER, "vfio4")] {
        machine.folder(&format!("sys/bus/pci/devices/{address}/vfio-dev/{name}"));
        machine.file(&format!("dev/vfio/devices/{name}"), "");
    }
    machine.file("dev/iommu", "");
    machine
}

/// One line, with these words in it.
#[track_caller]
pub(super) fn told(error: &VfioError, words: &[&str]) {
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    for word in words {
        assert!(line.contains(word), "no {word:?} in {line:?}");
    }
}

fn refused(machine: &Machine, addresses: &[&str]) -> VfioError {
    let addresses: Vec<PciAddress> = (addresses.iter())
        .map(|address| address.parse().unwrap())
        .collect();
    let opened = open(&tree(machine), &addresses);
    opened.map(|_| ()).expect_err("not a real machine")
}

#[test]
fn a_device_that_is_not_there_is_not_opened() {
    let machine = card();
    let error = refused(&machine, &["0000:09:00.0"]);
    assert!(
        matches!(error, VfioError::Device(PciError::Absent(_))),
        "{error:?}"
    );
    told(&error, &["0000:09:00.0", "sumac devices --all"]);
    // Beside one that is.
    told(&refused(&machine, &[CARD, "0000:09:00.0"]), &["09:00.0"]);
}

#[test]
fn a_device_of_the_kernels_is_not_opened() {
    let machine = card();
    machine.driver(CARD, "ixgbe");
    let error = refused(&machine, &[OTHER, CARD]);
    assert!(
        matches!(
            &error,
            VfioError::NotBound {
                driver: Some(_),
                ..
            }
        ),
        "{error:?}"
    );
    told(&error, &[CARD, "bound to ixgbe", "sumac bind 0000:03:00.0"]);
    machine.remove(&format!("sys/bus/pci/devices/{CARD}/driver"));
    let error = refused(&machine, &[CARD]);
    assert!(
        matches!(&error, VfioError::NotBound { driver: None, .. }),
        "{error:?}"
    );
    told(&error, &["bound to no driver", "sumac bind 0000:03:00.0"]);
}

#[test]
fn a_device_without_a_group_is_not_opened() {
    let machine = card();
    machine.remove(&format!("sys/bus/pci/devices/{CARD}/iommu_group"));
    let error = refused(&machine, &[CARD]);
    assert!(matches!(error, VfioError::NoIommu(_)), "{error:?}");
    told(&error, &[CARD, "intel_iommu=on", "sumac doctor"]);
}

#[test]
fn a_kernel_without_vfio_says_which_module_is_missing() {
    let machine = card();
    machine.remove("dev/vfio/vfio");
    let error = refused(&machine, &[CARD]);
    assert!(matches!(error, VfioError::NoVfio(_)), "{error:?}");
    told(&error, &["dev/vfio/vfio", "modprobe vfio-pci"]);
}

#[test]
fn a_container_of_another_user_names_its_file() {
    let machine = card();
    let error = machine.denied("dev/vfio/vfio", || refused(&machine, &[CARD]));
    assert!(matches!(error, VfioError::Permission { .. }), "{error:?}");
    told(&error, &[CARD, "dev/vfio/vfio", "sumac bind --user"]);
}

#[test]
fn a_file_that_is_no_container_is_not_taken_for_one() {
    let machine = card();
    let error = refused(&machine, &[CARD]);
    assert!(matches!(error, VfioError::OtherVfio { .. }), "{error:?}");
    told(&error, &["dev/vfio/vfio", "version 0 of the interface"]);
}

#[test]
fn groups_are_taken_where_devices_alone_cannot_be() {
    let machine = with_own_files();
    // Nothing but a file.
    let error = refused(&machine, &[CARD]);
    assert!(matches!(error, VfioError::OtherVfio { .. }), "{error:?}");
    machine.remove("dev/vfio/devices/vfio3");
    let error = refused(&machine, &[CARD]);
    assert!(matches!(error, VfioError::OtherVfio { .. }), "{error:?}");
}

#[test]
fn a_kernel_without_groups_says_why_a_device_alone_is_not_taken() {
    let machine = with_own_files();
    machine.remove("dev/vfio/vfio");
    let error = refused(&machine, &[CARD]);
    told(&error, &[CARD, "making an address space"]);
    let error = machine.denied("dev/iommu", || refused(&machine, &[CARD]));
    assert!(matches!(error, VfioError::Permission { .. }), "{error:?}");
    told(&error, &[CARD, "dev/iommu", "sumac bind --user"]);
    // Neither is there.
    machine.remove("dev/iommu");
    let error = refused(&machine, &[CARD]);
    told(&error, &["dev/vfio/vfio", "modprobe vfio-pci"]);
}

#[test]
fn no_address_opens_nothing() {
    let (devices, space) = open(&tree(&Machine::new()), &[]).unwrap();
    assert!(devices.is_empty() && space.is_none());
}
