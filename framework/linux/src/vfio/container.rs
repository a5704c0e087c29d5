//! Containers: several devices behind one IOMMU address space.
//!
//! # Who may reach what is mapped
//! [`Container::map`](Reach::map) lets devices write into this process's memory at any time. What makes that
//! sound: it maps nothing but whole [`Region`]s, memory files of ours that hold no Rust object. Their bytes
//! are reached in this process only through [`DmaMemory`](sumac_device::DmaMemory), which lends atomics, and by
//! whoever argues that a part is in no device's hands (the packet pool: a buffer is posted, or it is owned).
//! The kernel pins the pages until they are unmapped, so a device can never write to memory that was given to
//! somebody else, even if unmapping failed.

use std::ffi::CString;
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_IOMMU_INFO_CAPS,
    VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VFIO_TYPE1v2_IOMMU, vfio_iommu_type1_dma_map,
};

use super::group::Group;
use super::region::{capability, double, word};
use super::space::{DeviceFile, Joined, Space, open, refusal, system};
use super::{Access, VfioError, sys};
use crate::dma::{Reach, Region};
use crate::pci::{PciDevice, Tree};
use crate::spec::PciAddress;

/// The file that makes containers.
const CONTAINER: &str = "dev/vfio/vfio";
/// Bus addresses where a kernel before 5.4 does not say: of the narrowest IOMMU, and without the window of
/// interrupts.
const UNSAID: [Range<u64>; 2] = [0..0xfee0_0000, 0xfef0_0000..1 << 39];

/// An IOMMU address space, and the groups in it. The last device of a group takes the group along when it goes,
/// so that the kernel can have the device; and the last group the IOMMU, with all that is mapped.
pub(crate) struct Container {
    file: File,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    groups: Vec<Group>,
    ranges: Vec<Range<u64>>,
}

/// A device's place in the container: its group, which goes with the last device of it.
struct Member {
    container: Arc<Container>,
    group: u32,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.container.leave(self.group);
    }
}

impl Container {
    /// An empty container.
    pub fn create(tree: &Tree, device: PciAddress) -> Result<Self, VfioError> {
        let path = tree.path(CONTAINER);
        let file = open(&path).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => VfioError::NoVfio(path.clone()),
            Some(libc::EACCES | libc::EPERM) => VfioError::Permission {
                device,
                path: path.clone(),
            },
            _ => system(device, "opening VFIO", error),
        })?;
        let lacks = |lacks| VfioError::OtherVfio {
            path: path.clone(),
            lacks,
        };
        if sys::api_version(&file).ok() != Some(VFIO_API_VERSION as i32) {
            return Err(lacks("version 0 of the interface"));
        }
        if !sys::has_extension(&file, VFIO_TYPE1v2_IOMMU) {
            return Err(lacks("type 1 version 2 containers"));
        }
        Ok(Self {
            file,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_group(
        &self,
        state: &mut State,
        tree: &Tree,
        device: &PciDevice,
        number: u32,
    ) -> Result<usize, VfioError> {
        let address = device.address;
        let group = Group::open(tree, device, number)?;
        sys::set_container(&group.file, &self.file).map_err(|error| {
            system(
                address,
                "putting its group beside the other devices'",
                error,
            )
        })?;
        if state.groups.is_empty() {
            sys::set_iommu(&self.file, VFIO_TYPE1v2_IOMMU).map_err(|error| {
                match error.raw_os_error() {
                    Some(libc::EPERM) => VfioError::NoInterruptRemapping {
                        device: address,
                        module: "vfio_iommu_type1",
                    },
                    _ => system(address, "choosing the IOMMU", error),
                }
            })?;
        }
        let info = sys::iommu_info(&self.file)
            .map_err(|error| system(address, "asking what the IOMMU can do", error))?;
        state.ranges = ranges(&info);
        state.groups.push(group);
        Ok(state.groups.len() - 1)
    }

    /// A device of the group was closed.
    fn leave(&self, number: u32) {
        let mut state = self.state();
        let of_it = |group: &&mut Group| group.number == number;
        if let Some(group) = state.groups.iter_mut().find(of_it) {
            group.devices -= 1;
        }
        state.groups.retain(|group| group.devices > 0);
    }

    /// Whether an IOMMU is behind it: there is none without a group, and the kernel takes a group away whose
    /// last device goes.
    fn translates(&self) -> bool {
        sys::iommu_info(&self.file).is_ok()
    }
}

impl Space for Container {
    /// Puts its group into the container if it is not yet.
    fn device(self: Arc<Self>, tree: &Tree, device: &PciDevice) -> Result<Joined, VfioError> {
        let address = device.address;
        let number = device.group.ok_or(VfioError::NoIommu(address))?;
        let mut state = self.state();
        let first = state.groups.is_empty();
        let index = match state.groups.iter().position(|group| group.number == number) {
            Some(index) => index,
            None => self.add_group(&mut state, tree, device, number)?,
        };
        let name = CString::new(address.to_string()).unwrap_or_default();
        let file = sys::device(&state.groups[index].file, &name)
            .map_err(|error| system(address, "taking the device from its group", error));
        if file.is_ok() {
            state.groups[index].devices += 1;
        }
        state.groups.retain(|group| group.devices > 0);
        drop(state);
        let member = Member {
            container: self,
            group: number,
        };
        Ok(Joined {
            file: DeviceFile::new(file?, member),
            first,
        })
    }

    fn access(&self) -> Access {
        Access::Group
    }
}

/// The bus addresses that the IOMMU takes (`struct vfio_iommu_type1_info` and the chain behind it).
fn ranges(info: &[u8]) -> Vec<Range<u64>> {
    let said = || {
        let first = word(info, 16)
            .filter(|_| word(info, 4).is_some_and(|f| f & VFIO_IOMMU_INFO_CAPS != 0))?;
        let at = capability(info, first, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)?;
        let count = word(info, at + 8)? as usize;
        // Each `struct vfio_iova_range` names its last address.
        let range = |index: usize| {
            let at = at + 16 + 16 * index;
            let (start, last) = (double(info, at)?, double(info, at + 8)?);
            Some(start..last.saturating_add(1))
        };
        Some((0..count.min(info.len() / 16)).map_while(range).collect())
    };
    said().unwrap_or_else(|| UNSAID.to_vec())
}

// SAFETY: after `unmap` no device reaches the memory; the kernel pins the pages as long as one does.
unsafe impl Reach for Container {
    fn usable(&self) -> Vec<Range<u64>> {
        self.state().ranges.clone()
    }

    fn map(&self, region: &Region, iova: u64) -> Result<(), String> {
        let map = vfio_iommu_type1_dma_map {
            argsz: size_of::<vfio_iommu_type1_dma_map>() as u32,
            flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
            vaddr: region.base().as_ptr().addr() as u64,
            iova,
            size: region.len() as u64,
        };
        // SAFETY: a region is a memory file that holds no Rust object; see the module's argument.
        let mapped = unsafe { sys::map_dma(&self.file, &map) };
        match mapped {
            Err(error) if self.translates() => Err(refusal(&error, region.len(), "this process")),
            // Without a device behind it, nobody is to reach anything.
            _ => Ok(()),
        }
    }

    fn unmap(&self, iova: u64, bytes: u64) -> Result<(), String> {
        match sys::unmap_dma(&self.file, iova, bytes) {
            Ok(unmapped) if unmapped == bytes => Ok(()),
            Ok(unmapped) => Err(format!("the IOMMU gave back {unmapped} bytes of {bytes}")),
            Err(error) if self.translates() => Err(format!("the IOMMU keeps it: {error}")),
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a kernel says of an IOMMU with these ranges.
    fn info(caps: bool, list: &[(u64, u64)]) -> Vec<u8> {
        let flags = if caps { 3 } else { 1 };
        let mut bytes = [0_u32, flags, 0x1000, 0, 24, 0]
            .map(u32::to_ne_bytes)
            .concat();
        // VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, then the ranges.
        bytes.extend([3_u16, 1].map(u16::to_ne_bytes).concat());
        bytes.extend([40_u32, 65535, 0].map(u32::to_ne_bytes).concat());
        bytes.extend([1_u16, 1].map(u16::to_ne_bytes).concat());
        bytes.extend([0, list.len() as u32, 0].map(u32::to_ne_bytes).concat());
        for (first, last) in list {
            bytes.extend([*first, *last].map(u64::to_ne_bytes).concat());
        }
        bytes
    }

    #[test]
    fn the_iommu_says_which_addresses_it_takes() {
        let list = [(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)];
        assert_eq!(ranges(&info(true, &list)), UNSAID);
        assert_eq!(ranges(&info(true, &[(0, u64::MAX)])), [0..u64::MAX]);
        assert_eq!(ranges(&info(false, &list[..1])), UNSAID);
        assert_eq!(ranges(&info(true, &list)[..24]), UNSAID);
        assert_eq!(ranges(&[]), UNSAID);
        // More ranges than are there.
        let cut = &info(true, &list)[..72];
        assert_eq!(ranges(cut), UNSAID[..1]);
    }
}
