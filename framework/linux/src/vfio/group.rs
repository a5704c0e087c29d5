//! IOMMU groups: what a process takes a device from, and why it may not.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use vfio_bindings::bindings::vfio::VFIO_GROUP_FLAGS_VIABLE;

use super::space::{open, system};
use super::{VfioError, sys};
use crate::pci::in_use::holders;
use crate::pci::{IommuGroup, PciDevice, Tree};
use crate::spec::PciAddress;

/// A group of this process's.
pub(super) struct Group {
    /// Its number.
    pub number: u32,
    /// What devices are taken from.
    pub file: File,
    /// Open devices in it.
    pub devices: usize,
}

impl Group {
    /// Opens the group of a device.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn open(tree: &Tree, device: &PciDevice, number: u32) -> Result<Self, VfioError> {
        let address = device.address;
        let path = tree.path(format!("dev/vfio/{number}"));
        let file = open(&path).map_err(|error| refusal(tree, device, number, path, error))?;
        let flags = sys::group_flags(&file)
            .map_err(|error| system(address, "asking about its group", error))?;
        match flags & VFIO_GROUP_FLAGS_VIABLE {
            0 => Err(not_viable(tree, address, number)),
            _ => Ok(Self {
                number,
                file,
                devices: 0,
            }),
        }
    }
}

/// Why a group's file is not opened.
fn refusal(
    tree: &Tree,
    device: &PciDevice,
    number: u32,
    path: PathBuf,
    error: io::Error,
) -> VfioError {
    let without_iommu = || tree.path(noiommu(number)).exists();
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => VfioError::Permission {
            device: device.address,
            path,
        },
        Some(libc::EBUSY) => VfioError::InUse {
            device: device.address,
            group: Some(number),
            holder: group_holders_named(tree, device)
                .unwrap_or_else(|| "another process".to_owned()),
        },
        Some(libc::ENOENT) if without_iommu() => VfioError::WithoutIommu(device.address),
        Some(libc::ENOENT) => VfioError::NoVfio(path),
        _ => system(device.address, "opening its group", error),
    }
}

/// The file of a group that no IOMMU is behind.
fn noiommu(number: u32) -> PathBuf {
    Path::new("dev/vfio").join(format!("noiommu-{number}"))
}

/// A group that the kernel does not hand over, and what of it is in other hands.
pub(super) fn not_viable(tree: &Tree, device: PciAddress, number: u32) -> VfioError {
    let group = IommuGroup::read(tree, number);
    VfioError::NotViable {
        device,
        group: number,
        others: group.in_the_way(device).cloned().collect(),
    }
}

/// Who else has the device, as far as one can see.
pub(super) fn holders_named(tree: &Tree, device: &PciDevice) -> Option<String> {
    let holders: Vec<String> = (holders(tree, device).iter())
        .map(ToString::to_string)
        .collect();
    (!holders.is_empty()).then(|| holders.join(", "))
}

/// Who else has the device, or one that is in its group, as far as one can see.
pub(super) fn group_holders_named(tree: &Tree, device: &PciDevice) -> Option<String> {
    let of_others = || {
        let group = IommuGroup::read(tree, device.group?);
        let mut others = group
            .others(device.address)
            .filter_map(|other| other.address);
        others.find_map(|other| holders_named(tree, &PciDevice::read(tree, other).ok()?))
    };
    holders_named(tree, device).or_else(of_others)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CARD, OTHER, card, told, tree, with_own_files};
    use super::*;

    fn device(tree: &Tree) -> PciDevice {
        PciDevice::read(tree, CARD.parse().unwrap()).unwrap()
    }

    fn refused(tree: &Tree) -> VfioError {
        let opened = Group::open(tree, &device(tree), 12);
        opened.map(|_| ()).expect_err("a file is no group")
    }

    /// What it makes of what the kernel says, which no file can be brought to say.
    fn refused_with(tree: &Tree, code: i32) -> VfioError {
        let error = io::Error::from_raw_os_error(code);
        refusal(tree, &device(tree), 12, "/dev/vfio/12".into(), error)
    }

    #[test]
    fn a_group_without_a_file_is_not_there() {
        let machine = card();
        let tree = tree(&machine);
        machine.remove("dev/vfio/12");
        let error = refused(&tree);
        assert!(matches!(error, VfioError::NoVfio(_)), "{error:?}");
        told(&error, &["dev/vfio/12", "modprobe vfio-pci"]);
        machine.file("dev/vfio/noiommu-12", "");
        let error = refused(&tree);
        assert!(matches!(error, VfioError::WithoutIommu(_)), "{error:?}");
        told(&error, &[CARD, "sumac doctor"]);
    }

    #[test]
    fn a_group_of_another_user_names_its_file() {
        let machine = card();
        let tree = tree(&machine);
        let error = machine.denied("dev/vfio/12", || refused(&tree));
        assert!(matches!(error, VfioError::Permission { .. }), "{error:?}");
        told(&error, &[CARD, "dev/vfio/12", "sumac bind --user"]);
    }

    #[test]
    fn a_group_in_use_names_who_has_it() {
        let machine = card();
        let tree = tree(&machine);
        let error = refused_with(&tree, libc::EBUSY);
        told(&error, &[CARD, "another process has its group 12 open"]);
        machine.process(4711, "testpmd", "dev/vfio/12");
        let error = refused_with(&tree, libc::EBUSY);
        assert!(matches!(error, VfioError::InUse { .. }), "{error:?}");
        told(&error, &[CARD, "process 4711 (testpmd)", "end that first"]);
    }

    #[test]
    fn a_group_of_which_another_has_a_device_names_who_has_it() {
        let machine = with_own_files();
        machine.process(4711, "testpmd", "dev/vfio/devices/vfio4");
        let error = refused_with(&tree(&machine), libc::EBUSY);
        told(&error, &[CARD, "process 4711 (testpmd) has its group 12"]);
    }

    #[test]
    fn what_is_in_other_hands_is_named_with_its_driver() {
        let machine = card();
        let tree = tree(&machine);
        machine.driver(OTHER, "ixgbe");
        let error = not_viable(&tree, CARD.parse().unwrap(), 12);
        let words = ["group 12 is not viable", "is bound to ixgbe", "sumac bind"];
        told(&error, &words);
        told(&error, &[CARD, OTHER]);
        // Nobody can be named: it was bound meanwhile.
        machine.driver(OTHER, "vfio-pci");
        let error = not_viable(&tree, CARD.parse().unwrap(), 12);
        told(&error, &["group 12 is not viable", "sumac doctor"]);
    }

    #[test]
    fn whatever_else_the_kernel_says_is_passed_on() {
        let machine = card();
        let error = refused_with(&tree(&machine), libc::EIO);
        told(&error, &[CARD, "opening its group", "Input/output error"]);
        // A file that is no group's.
        let error = refused(&tree(&machine));
        assert!(matches!(error, VfioError::System { .. }), "{error:?}");
        told(&error, &[CARD, "asking about its group", "dmesg"]);
    }
}
