//! The calls into Linux's VFIO (linux/vfio.h), each as a small safe function where one can be.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::{
    ioctl_none_bad, ioctl_readwrite_bad, ioctl_write_int_bad, ioctl_write_ptr_bad,
    request_code_none,
};
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_TYPE, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd,
    vfio_device_info, vfio_group_status, vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap,
    vfio_irq_info,
};

const fn number(call: u32) -> libc::Ioctl {
    (request_code_none!(VFIO_TYPE, VFIO_BASE)) + call as libc::Ioctl
}

ioctl_none_bad!(vfio_get_api_version, number(0));
ioctl_write_int_bad!(vfio_check_extension, number(1));
ioctl_write_int_bad!(vfio_set_iommu, number(2));
ioctl_readwrite_bad!(vfio_group_get_status, number(3), vfio_group_status);
ioctl_write_ptr_bad!(vfio_group_set_container, number(4), libc::c_int);
ioctl_write_ptr_bad!(vfio_group_get_device_fd, number(6), libc::c_char);
ioctl_readwrite_bad!(vfio_device_get_info, number(7), vfio_device_info);
ioctl_readwrite_bad!(vfio_device_get_region_info, number(8), u8);
ioctl_readwrite_bad!(vfio_device_get_irq_info, number(9), vfio_irq_info);
ioctl_write_ptr_bad!(vfio_device_set_irqs, number(10), u8);
ioctl_none_bad!(vfio_device_reset, number(11));
ioctl_readwrite_bad!(vfio_iommu_get_info, number(12), u8);
ioctl_write_ptr_bad!(vfio_iommu_map_dma, number(13), vfio_iommu_type1_dma_map);
ioctl_readwrite_bad!(vfio_iommu_unmap_dma, number(14), vfio_iommu_type1_dma_unmap);
ioctl_readwrite_bad!(vfio_bind, number(18), vfio_device_bind_iommufd);
ioctl_readwrite_bad!(vfio_attach, number(19), vfio_device_attach_iommufd_pt);

/// Version of the interface.
pub(super) fn api_version(container: &File) -> io::Result<i32> {
    // SAFETY: takes no argument.
    Ok(unsafe { vfio_get_api_version(container.as_raw_fd()) }?)
}

/// Whether a container can be of this kind.
pub(super) fn has_extension(container: &File, kind: u32) -> bool {
    // SAFETY: takes a plain number.
    let answer = unsafe { vfio_check_extension(container.as_raw_fd(), kind as i32) };
    answer.is_ok_and(|answer| answer > 0)
}

/// Makes a container, which has a group, one of this kind.
pub(super) fn set_iommu(container: &File, kind: u32) -> io::Result<()> {
    // SAFETY: takes a plain number.
    unsafe { vfio_set_iommu(container.as_raw_fd(), kind as i32) }?;
    Ok(())
}

/// `VFIO_GROUP_FLAGS_..`.
pub(super) fn group_flags(group: &File) -> io::Result<u32> {
    let mut status = vfio_group_status {
        argsz: size_of::<vfio_group_status>() as u32,
        flags: 0,
    };
    // SAFETY: the structure is the call's own, with its size in it.
    unsafe { vfio_group_get_status(group.as_raw_fd(), &mut status) }?;
    Ok(status.flags)
}

/// Puts a group into a container.
pub(super) fn set_container(group: &File, container: &File) -> io::Result<()> {
    let fd = container.as_raw_fd();
    // SAFETY: the call reads one descriptor.
    unsafe { vfio_group_set_container(group.as_raw_fd(), &fd) }?;
    Ok(())
}

/// The device of this name, of a group in a container.
pub(super) fn device(group: &File, name: &CStr) -> io::Result<File> {
    // SAFETY: the call reads a C string.
    let fd = unsafe { vfio_group_get_device_fd(group.as_raw_fd(), name.as_ptr()) }?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Takes a device, whose own file this is, for whoever has opened `/dev/iommu`.
pub(super) fn bind(device: &File, iommu: &File) -> io::Result<()> {
    let mut bind = vfio_device_bind_iommufd {
        // Without what later versions append.
        argsz: 16,
        iommufd: iommu.as_raw_fd(),
        ..vfio_device_bind_iommufd::default()
    };
    // SAFETY: the structure is at least as long as it says.
    unsafe { vfio_bind(device.as_raw_fd(), &mut bind) }?;
    Ok(())
}

/// Has a device, which was bound, reach what an address space of the same `/dev/iommu` maps.
pub(super) fn attach(device: &File, space: u32) -> io::Result<()> {
    let mut attach = vfio_device_attach_iommufd_pt {
        // Without what later versions append.
        argsz: 12,
        pt_id: space,
        ..vfio_device_attach_iommufd_pt::default()
    };
    // SAFETY: the structure is at least as long as it says.
    unsafe { vfio_attach(device.as_raw_fd(), &mut attach) }?;
    Ok(())
}

/// What a device is.
pub(super) fn device_info(device: &File) -> io::Result<vfio_device_info> {
    let mut info = vfio_device_info {
        // Without what later versions append.
        argsz: 16,
        ..vfio_device_info::default()
    };
    // SAFETY: the structure is at least as long as it says.
    unsafe { vfio_device_get_info(device.as_raw_fd(), &mut info) }?;
    Ok(info)
}

/// What a region is, in bytes for [`RegionInfo`](super::region::RegionInfo).
pub(super) fn region_info(device: &File, index: u32) -> io::Result<Vec<u8>> {
    whole(super::region::HEADER, |bytes| {
        if let Some(place) = bytes.get_mut(8..12) {
            place.copy_from_slice(&index.to_ne_bytes());
        }
        // SAFETY: the buffer is as long as it says (`whole`), and the call writes no further.
        unsafe { vfio_device_get_region_info(device.as_raw_fd(), bytes.as_mut_ptr()) }
    })
}

/// What the container's IOMMU can do: `struct vfio_iommu_type1_info` and its capabilities.
pub(super) fn iommu_info(container: &File) -> io::Result<Vec<u8>> {
    whole(24, |bytes| {
        // SAFETY: the buffer is as long as it says (`whole`), and the call writes no further.
        unsafe { vfio_iommu_get_info(container.as_raw_fd(), bytes.as_mut_ptr()) }
    })
}

/// An answer whose length, `argsz`, is known only when it was asked for once. It begins with `argsz`.
fn whole(
    shortest: usize,
    mut ask: impl FnMut(&mut [u8]) -> nix::Result<libc::c_int>,
) -> io::Result<Vec<u8>> {
    let mut len = shortest;
    // What a device is does not change between two questions; a third is for good measure.
    for _ in 0..3 {
        // Aligned to 8 bytes by way of the allocator's least alignment; the kernel copies bytes anyway.
        let mut bytes = vec![0; len];
        bytes[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        ask(&mut bytes)?;
        let needed = super::region::word(&bytes, 0).unwrap_or(0) as usize;
        if needed <= len {
            return Ok(bytes);
        }
        len = needed.min(super::region::LONGEST);
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// How many interrupts of a kind there are; 0 if none.
pub(super) fn interrupts(device: &File, index: u32) -> io::Result<u32> {
    let mut info = vfio_irq_info {
        argsz: size_of::<vfio_irq_info>() as u32,
        index,
        ..vfio_irq_info::default()
    };
    // SAFETY: the structure is the call's own, with its size in it.
    unsafe { vfio_device_get_irq_info(device.as_raw_fd(), &mut info) }?;
    Ok(info.count)
}

/// Tells where interrupts of a kind go, from the first on; nowhere, if `flags` say that there is no data.
pub(super) fn set_interrupts(
    device: &File,
    index: u32,
    flags: u32,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let len = 20 + 4 * fds.len();
    let mut bytes = Vec::with_capacity(len);
    for number in [len as u32, flags, index, 0, fds.len() as u32] {
        bytes.extend_from_slice(&number.to_ne_bytes());
    }
    for fd in fds {
        bytes.extend_from_slice(&fd.as_raw_fd().to_ne_bytes());
    }
    // SAFETY: the buffer is as long as it says, and the call reads no further.
    let had = unsafe { vfio_device_set_irqs(device.as_raw_fd(), bytes.as_ptr()) }?;
    match had {
        0 => Ok(()),
        // None is set then.
        had => Err(io::Error::other(format!(
            "the machine has {had} vectors left of {} wanted; use fewer queues",
            fds.len()
        ))),
    }
}

/// Resets a function.
pub(super) fn reset(device: &File) -> io::Result<()> {
    // SAFETY: takes no argument.
    unsafe { vfio_device_reset(device.as_raw_fd()) }?;
    Ok(())
}

/// Lets the devices of a container reach memory.
///
/// # Safety
/// Devices may write to the memory from now on, until it is unmapped: whoever reaches it in this process does
/// so by raw pointers and atomics, or knows that no device uses the part. The kernel pins the pages, so what
/// lies there outlives the mapping in this process.
pub(super) unsafe fn map_dma(container: &File, map: &vfio_iommu_type1_dma_map) -> io::Result<()> {
    // SAFETY: the call reads the structure; the memory is the caller's to argue.
    unsafe { vfio_iommu_map_dma(container.as_raw_fd(), map) }?;
    Ok(())
}

/// Takes memory away from the devices of a container; how many bytes it was.
pub(super) fn unmap_dma(container: &File, iova: u64, bytes: u64) -> io::Result<u64> {
    let mut unmap = vfio_iommu_type1_dma_unmap {
        argsz: size_of::<vfio_iommu_type1_dma_unmap>() as u32,
        iova,
        size: bytes,
        ..vfio_iommu_type1_dma_unmap::default()
    };
    // SAFETY: the structure is the call's own, with its size in it.
    unsafe { vfio_iommu_unmap_dma(container.as_raw_fd(), &mut unmap) }?;
    Ok(unmap.size)
}
