//! Address spaces of `/dev/iommu`: devices are taken one by one, each by a file of its own (Linux 6.6 and later).
//!
//! A space outlives its devices with all that is mapped, so a device that comes back finds its memory. Who may reach
//! what is mapped is argued in [`container`](super::container): the same holds here, and where no device is in the
//! space the kernel has pinned nothing, and nobody reaches anything. A region leaves this process only after the space
//! let it go, or never.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::group::{group_holders_named, holders_named, not_viable};
use super::space::{DeviceFile, Joined, Space, open, refusal, system};
use super::{Access, VfioError, iommufd, sys};
use crate::dma::{Reach, Region};
use crate::pci::binding::IOMMUFD;
use crate::pci::{IommuGroup, PciDevice, Tree};
use crate::spec::PciAddress;

/// Whose locked memory the kernel counts.
const WHOSE: &str = "this user's processes";

/// An address space of this process's own `/dev/iommu`. It ends with the file, which every device in it keeps open.
pub(crate) struct Ioas {
    file: File,
    number: u32,
    ranges: Mutex<Vec<Range<u64>>>,
}

impl Ioas {
    /// An empty space.
    pub fn create(tree: &Tree, device: PciAddress) -> Result<Self, VfioError> {
        let path = tree.path(IOMMUFD);
        let file = open(&path).map_err(|error| unopened(device, path, error))?;
        let number = iommufd::allocate(&file)
            .map_err(|error| system(device, "making an address space", error))?;
        Ok(Self {
            file,
            number,
            ranges: Mutex::default(),
        })
    }

    fn ranges(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Space for Ioas {
    fn device(self: Arc<Self>, tree: &Tree, device: &PciDevice) -> Result<Joined, VfioError> {
        let address = device.address;
        let path = device.own_file(tree).ok_or(VfioError::NoOwnFile(address))?;
        let path = tree.path(path);
        let file = open(&path).map_err(|error| unopened(address, path, error))?;
        sys::bind(&file, &self.file).map_err(|error| untaken(tree, device, error))?;
        sys::attach(&file, self.number)
            .map_err(|error| system(address, "putting it beside the other devices", error))?;
        let ranges = iommufd::ranges(&self.file, self.number)
            .map_err(|error| system(address, "asking what the IOMMU can do", error))?;
        *self.ranges() = ranges;
        Ok(Joined {
            file: DeviceFile::new(file, self),
            first: false,
        })
    }

    fn access(&self) -> Access {
        Access::Cdev
    }
}

/// Why a file is not opened.
fn unopened(device: PciAddress, path: PathBuf, error: io::Error) -> VfioError {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => VfioError::Permission { device, path },
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => VfioError::NoIommufd { device, path },
        _ => system(device, "opening its files", error),
    }
}

/// Why a device is not handed over.
fn untaken(tree: &Tree, device: &PciDevice, error: io::Error) -> VfioError {
    let address = device.address;
    let in_use = |group, holder: Option<String>| VfioError::InUse {
        device: address,
        group,
        holder: holder.unwrap_or_else(|| "another process".to_owned()),
    };
    match (error.raw_os_error(), device.group) {
        // Of its group: by a driver of the kernel's, or by whoever has that, or part of it.
        (Some(libc::EBUSY | libc::EPERM), Some(group))
            if IommuGroup::read(tree, group).in_the_way(address).count() > 0 =>
        {
            not_viable(tree, address, group)
        }
        (Some(libc::EPERM), group) => match group_holders_named(tree, device) {
            None => VfioError::NoInterruptRemapping {
                device: address,
                module: "iommufd",
            },
            holder => in_use(group, holder),
        },
        (Some(libc::EBUSY), group) => in_use(group, group_holders_named(tree, device)),
        // Bound already: the kernel has no better word for it.
        (Some(libc::EINVAL), _) if holders_named(tree, device).is_some() => {
            in_use(None, holders_named(tree, device))
        }
        _ => system(address, "taking the device", error),
    }
}

// SAFETY: after `unmap` no device reaches the memory; the kernel pins the pages as long as one does.
unsafe impl Reach for Ioas {
    fn usable(&self) -> Vec<Range<u64>> {
        self.ranges().clone()
    }

    fn map(&self, region: &Region, iova: u64) -> Result<(), String> {
        let (memory, bytes) = (region.base().as_ptr(), region.len() as u64);
        // SAFETY: a region is a memory file that holds no Rust object (see the module's argument), and stays in this
        // process until `unmap` succeeded.
        let mapped = unsafe { iommufd::map(&self.file, self.number, memory, bytes, iova) };
        mapped.map_err(|error| refusal(&error, region.len(), WHOSE))
    }

    fn unmap(&self, iova: u64, bytes: u64) -> Result<(), String> {
        match iommufd::unmap(&self.file, self.number, iova, bytes) {
            Ok(unmapped) if unmapped == bytes => Ok(()),
            Ok(unmapped) => Err(format!("the IOMMU gave back {unmapped} bytes of {bytes}")),
            Err(error) => Err(format!("the IOMMU keeps it: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use sumac_testbed::machine::Machine;

    use super::super::tests::{CARD, OTHER, card, told, tree, with_own_files};
    use super::*;

    const OWN: &str = "dev/vfio/devices/vfio3";

    fn address() -> PciAddress {
        CARD.parse().unwrap()
    }

    fn not_created(machine: &Machine) -> VfioError {
        let created = Ioas::create(&tree(machine), address());
        created.map(|_| ()).expect_err("a file makes no spaces")
    }

    /// What is said when the card is put into a space of a file that is none of the kernel's.
    fn not_joined(machine: &Machine) -> VfioError {
        let file = OpenOptions::new().read(true).open("/dev/null").unwrap();
        let space = Arc::new(Ioas {
            file,
            number: 1,
            ranges: Mutex::default(),
        });
        let tree = tree(machine);
        let device = PciDevice::read(&tree, address()).unwrap();
        let joined = space.device(&tree, &device);
        joined.map(|_| ()).expect_err("a file is no device")
    }

    /// What it makes of what the kernel says when the card is bound, which no file can be brought to say.
    fn untaken_with(machine: &Machine, code: i32) -> VfioError {
        let tree = tree(machine);
        let device = PciDevice::read(&tree, address()).unwrap();
        untaken(&tree, &device, io::Error::from_raw_os_error(code))
    }

    #[test]
    fn a_kernel_without_iommufd_names_the_missing_file() {
        let error = not_created(&card());
        assert!(matches!(error, VfioError::NoIommufd { .. }), "{error:?}");
        told(&error, &[CARD, "dev/iommu", "leave SUMAC_VFIO=cdev out"]);
    }

    #[test]
    fn files_of_another_user_are_named() {
        let machine = with_own_files();
        let error = machine.denied(IOMMUFD, || not_created(&machine));
        assert!(matches!(error, VfioError::Permission { .. }), "{error:?}");
        told(&error, &[CARD, IOMMUFD, "sumac bind --user"]);
        let error = machine.denied(OWN, || not_joined(&machine));
        assert!(matches!(error, VfioError::Permission { .. }), "{error:?}");
        told(&error, &[CARD, OWN, "sumac bind --user"]);
    }

    #[test]
    fn a_device_without_a_file_of_its_own_is_not_taken() {
        let machine = card();
        let error = not_joined(&machine);
        assert!(matches!(error, VfioError::NoOwnFile(_)), "{error:?}");
        told(&error, &[CARD, "CONFIG_VFIO_DEVICE_CDEV", "by its group"]);
        // The kernel shows one, and nobody made it.
        machine.folder(&format!("sys/bus/pci/devices/{CARD}/vfio-dev/vfio3"));
        let error = not_joined(&machine);
        assert!(matches!(error, VfioError::NoIommufd { .. }), "{error:?}");
        told(&error, &[CARD, OWN]);
    }

    #[test]
    fn files_that_are_not_the_kernels_are_not_taken_for_them() {
        let machine = with_own_files();
        told(&not_created(&machine), &[CARD, "making an address space"]);
        told(&not_joined(&machine), &[CARD, "taking the device", "dmesg"]);
    }

    #[test]
    fn a_device_in_use_names_who_has_it() {
        let machine = with_own_files();
        // What the kernel says of a device that is bound already, and of an argument it does not like.
        told(
            &untaken_with(&machine, libc::EINVAL),
            &["taking the device"],
        );
        let error = untaken_with(&machine, libc::EBUSY);
        told(&error, &[CARD, "another process has its group 12 open"]);
        machine.process(4711, "testpmd", OWN);
        for code in [libc::EINVAL, libc::EBUSY] {
            let error = untaken_with(&machine, code);
            assert!(matches!(error, VfioError::InUse { .. }), "{error:?}");
            told(&error, &[CARD, "process 4711 (testpmd)", "end that first"]);
        }
    }

    #[test]
    fn a_group_in_other_hands_is_not_viable() {
        let machine = with_own_files();
        machine.driver(OTHER, "ixgbe");
        for code in [libc::EBUSY, libc::EPERM] {
            let error = untaken_with(&machine, code);
            told(
                &error,
                &["group 12 is not viable", OTHER, "is bound to ixgbe"],
            );
        }
    }

    #[test]
    fn a_group_that_another_has_part_of_names_who_has_it() {
        let machine = with_own_files();
        machine.process(4711, "testpmd", "dev/vfio/devices/vfio4");
        for code in [libc::EBUSY, libc::EPERM] {
            let error = untaken_with(&machine, code);
            assert!(matches!(error, VfioError::InUse { .. }), "{error:?}");
            let words = [CARD, "process 4711 (testpmd) has its group 12 open"];
            told(&error, &words);
        }
    }

    #[test]
    fn interrupts_that_are_not_remapped_are_this_modules_to_accept() {
        let error = untaken_with(&card(), libc::EPERM);
        told(
            &error,
            &[CARD, "`modprobe iommufd allow_unsafe_interrupts=1`"],
        );
    }
}
