//! Devices made of files: which are opened, what opening and stopping does to them, and what is said of others.

use std::fs;

use sumac_device::DeviceControl;
use sumac_testbed::Register;
use sumac_testbed::machine::Machine;

use super::*;
use crate::dma::LinuxDma;
use crate::pci::UIO_PCI;

const CARD: &str = "0000:03:00.0";
/// Bytes of BAR 0.
const REGISTERS: usize = 8192;

fn tree(machine: &Machine) -> Tree {
    Tree::at(machine.root())
}

fn write(machine: &Machine, name: &str, bytes: &[u8]) {
    let folder = machine.root().join("sys/bus/pci/devices").join(CARD);
    fs::write(folder.join(name), bytes).unwrap();
}

fn read(machine: &Machine, name: &str) -> Vec<u8> {
    let folder = machine.root().join("sys/bus/pci/devices").join(CARD);
    fs::read(folder.join(name)).unwrap()
}

/// A card with uio_pci_generic, no IOMMU in sight.
fn card() -> Machine {
    let machine = Machine::new();
    machine.device(CARD, "8086:10fb", 0x02_0000);
    machine.driver(CARD, UIO_PCI);
    machine.fact(CARD, "uio/uio0/name", UIO_PCI);
    machine.file("dev/uio0", "");
    machine.fact(
        CARD,
        "resource",
        "0x00000000fe000000 0x00000000fe001fff 0x0000000000140204",
    );
    write(&machine, "resource0", &[0; REGISTERS]);
    write(&machine, "config", &[0; 64]);
    write(&machine, "reset", b"");
    machine
}

fn opened(machine: &Machine) -> Result<Vec<Arc<UioDevice>>, NoIommuError> {
    open(&tree(machine), &[CARD.parse().unwrap()])
}

#[track_caller]
fn refused(machine: &Machine, words: &[&str]) -> NoIommuError {
    let error = opened(machine).map(drop).expect_err("it was opened");
    let line = error.to_string();
    assert!(line.contains(CARD) && !line.contains('\n'), "{line}");
    for word in words {
        assert!(line.contains(word), "no {word:?} in {line:?}");
    }
    error
}

#[test]
fn a_device_is_reset_and_may_use_the_bus_until_it_is_stopped() {
    let machine = card();
    let devices = opened(&machine).unwrap();
    assert_eq!(read(&machine, "reset"), b"1");
    assert_eq!(read(&machine, "config")[4..6], [6, 0]);
    let backing = devices[0].backing(Arc::new(LinuxDma::physical()));
    assert_eq!(backing.name, CARD);
    backing.bar.write(Register(0x1ffc), 7);
    assert_eq!(backing.bar.read(Register(0x1ffc)), 7);
    assert_eq!(backing.bar.read(Register(0x2000)), u32::MAX);
    assert_eq!(read(&machine, "resource0")[0x1ffc..], [7, 0, 0, 0]);
    assert!(devices[0].stop());
    assert_eq!(read(&machine, "config")[4..6], [2, 0]);
    devices[0].start();
    assert_eq!(read(&machine, "config")[4..6], [6, 0]);
}

#[test]
fn one_process_has_a_device_at_a_time() {
    let machine = card();
    let first = opened(&machine).unwrap();
    let error = refused(&machine, &["another process drives it; end that first"]);
    assert!(matches!(error, NoIommuError::InUse(_)), "{error:?}");
    // Whoever has the registers has the device.
    let backing = first[0].backing(Arc::new(LinuxDma::physical()));
    drop(first);
    refused(&machine, &["another process drives it"]);
    drop(backing);
    assert!(opened(&machine).is_ok());
}

#[test]
fn a_device_with_an_iommu_is_told_to_use_it() {
    let machine = card();
    machine.group(CARD, 12);
    let error = refused(&machine, &["sumac bind 0000:03:00.0", "--unsafe-noiommu"]);
    assert!(matches!(error, NoIommuError::Translated(_)), "{error:?}");
}

#[test]
fn a_device_with_another_driver_is_not_taken_from_it() {
    let machine = card();
    machine.driver(CARD, "ixgbe");
    let error = refused(&machine, &["bound to ixgbe", "sumac bind --unsafe-noiommu"]);
    assert!(matches!(error, NoIommuError::NotBound { .. }), "{error:?}");
    machine.remove(&format!("sys/bus/pci/devices/{CARD}/driver"));
    refused(&machine, &["bound to no driver", "sumac bind"]);
}

#[test]
fn files_that_are_missing_or_not_ones_own_are_named() {
    let machine = card();
    let registers = format!("sys/bus/pci/devices/{CARD}/resource0");
    let error = machine.denied(&registers, || refused(&machine, &["resource0", "as root"]));
    assert!(
        matches!(error, NoIommuError::Permission { .. }),
        "{error:?}"
    );
    machine.remove("dev/uio0");
    let error = refused(&machine, &["opening its files"]);
    assert!(matches!(error, NoIommuError::System { .. }), "{error:?}");
}

#[test]
fn what_has_no_registers_in_memory_is_not_driven() {
    let machine = card();
    for resource in [
        "0x000000000000e020 0x000000000000e03f 0x0000000000040101",
        "0x0 0x0 0x0",
        "",
    ] {
        machine.fact(CARD, "resource", resource);
        let error = refused(&machine, &["BAR 0 holds no registers"]);
        assert!(matches!(error, NoIommuError::Unfit { .. }), "{error:?}");
    }
}

#[test]
fn a_device_that_is_gone_is_not_opened() {
    let machine = card();
    write(&machine, "config", &[0xFF; 64]);
    refused(&machine, &["resetting it", "the device is gone"]);
}
