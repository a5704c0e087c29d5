//! The calls into Linux's iommufd (linux/iommufd.h), each as a small safe function where one can be.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use iommufd_bindings::iommufd::{
    IOMMUFD_CMD_IOAS_ALLOC, IOMMUFD_CMD_IOAS_IOVA_RANGES, IOMMUFD_CMD_IOAS_MAP,
    IOMMUFD_CMD_IOAS_UNMAP, IOMMUFD_TYPE, iommu_ioas_alloc, iommu_ioas_iova_ranges, iommu_ioas_map,
    iommu_ioas_unmap, iommu_iova_range,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA as FIXED_IOVA,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE as READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
};
use nix::{ioctl_readwrite_bad, ioctl_write_ptr_bad, request_code_none};

/// More ranges than any IOMMU has: each is the gap between two reserved ones.
const MOST_RANGES: u32 = 1024;

ioctl_readwrite_bad!(
    ioas_alloc,
    request_code_none!(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOC),
    iommu_ioas_alloc
);
ioctl_readwrite_bad!(
    ioas_iova_ranges,
    request_code_none!(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_IOVA_RANGES),
    iommu_ioas_iova_ranges
);
ioctl_write_ptr_bad!(
    ioas_map,
    request_code_none!(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_MAP),
    iommu_ioas_map
);
ioctl_readwrite_bad!(
    ioas_unmap,
    request_code_none!(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_UNMAP),
    iommu_ioas_unmap
);

/// An empty address space: its number. It is gone when the file is.
pub(super) fn allocate(iommu: &File) -> io::Result<u32> {
    let mut space = iommu_ioas_alloc {
        size: size_of::<iommu_ioas_alloc>() as u32,
        ..iommu_ioas_alloc::default()
    };
    // SAFETY: the structure is the call's own, with its size in it.
    unsafe { ioas_alloc(iommu.as_raw_fd(), &mut space) }?;
    Ok(space.out_ioas_id)
}

/// The bus addresses that all devices of an address space can use: narrower with each device.
pub(super) fn ranges(iommu: &File, space: u32) -> io::Result<Vec<Range<u64>>> {
    let mut len = 16;
    loop {
        let mut list = vec![iommu_iova_range::default(); len as usize];
        let mut ask = iommu_ioas_iova_ranges {
            size: size_of::<iommu_ioas_iova_ranges>() as u32,
            ioas_id: space,
            num_iovas: len,
            allowed_iovas: list.as_mut_ptr().expose_provenance() as u64,
            ..iommu_ioas_iova_ranges::default()
        };
        // SAFETY: the structure is the call's own, with its size in it; the list behind it is as long as it says,
        // and holds plain numbers.
        let asked = unsafe { ioas_iova_ranges(iommu.as_raw_fd(), &mut ask) };
        match asked {
            Ok(_) => {
                list.truncate(ask.num_iovas as usize);
                return Ok(list.iter().map(range).collect());
            }
            Err(nix::Error::EMSGSIZE) if (len + 1..=MOST_RANGES).contains(&ask.num_iovas) => {
                len = ask.num_iovas;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The kernel names the last address.
fn range(said: &iommu_iova_range) -> Range<u64> {
    said.start..said.last.saturating_add(1)
}

/// Lets the devices of an address space reach memory at a bus address.
///
/// # Safety
/// As for [`map_dma`](super::sys::map_dma). Where no device is there yet the pages are pinned when one comes: until
/// then they stay where they are in this process.
pub(super) unsafe fn map(
    iommu: &File,
    space: u32,
    memory: *const u8,
    bytes: u64,
    iova: u64,
) -> io::Result<()> {
    let map = iommu_ioas_map {
        size: size_of::<iommu_ioas_map>() as u32,
        flags: FIXED_IOVA | READABLE | WRITEABLE,
        ioas_id: space,
        user_va: memory.addr() as u64,
        length: bytes,
        iova,
        ..iommu_ioas_map::default()
    };
    // SAFETY: the call reads the structure; the memory is the caller's to argue.
    unsafe { ioas_map(iommu.as_raw_fd(), &map) }?;
    Ok(())
}

/// Takes memory away from the devices of an address space; how many bytes it was.
pub(super) fn unmap(iommu: &File, space: u32, iova: u64, bytes: u64) -> io::Result<u64> {
    let mut unmap = iommu_ioas_unmap {
        size: size_of::<iommu_ioas_unmap>() as u32,
        ioas_id: space,
        iova,
        length: bytes,
    };
    // SAFETY: the structure is the call's own, with its size in it.
    unsafe { ioas_unmap(iommu.as_raw_fd(), &mut unmap) }?;
    Ok(unmap.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `_IO(';', 0x80 + n)` and the structures' lengths on every architecture, as linux/iommufd.h has them.
    #[test]
    fn calls_are_numbered_as_the_kernel_numbers_them() {
        let number = |command| request_code_none!(IOMMUFD_TYPE, command);
        let calls = [
            (
                number(IOMMUFD_CMD_IOAS_ALLOC),
                size_of::<iommu_ioas_alloc>(),
            ),
            (
                number(IOMMUFD_CMD_IOAS_IOVA_RANGES),
                size_of::<iommu_ioas_iova_ranges>(),
            ),
            (number(IOMMUFD_CMD_IOAS_MAP), size_of::<iommu_ioas_map>()),
            (
                number(IOMMUFD_CMD_IOAS_UNMAP),
                size_of::<iommu_ioas_unmap>(),
            ),
        ];
        let expected = [(0x3b81, 12), (0x3b84, 32), (0x3b85, 40), (0x3b86, 24)];
        assert_eq!(calls, expected);
        assert_eq!(FIXED_IOVA | WRITEABLE | READABLE, 0b111);
    }

    #[test]
    fn ranges_end_after_their_last_address() {
        let said = |start, last| range(&iommu_iova_range { start, last });
        assert_eq!(said(0, 0xfedf_ffff), 0..0xfee0_0000);
        assert_eq!(said(0xfef0_0000, u64::MAX), 0xfef0_0000..u64::MAX);
    }
}
