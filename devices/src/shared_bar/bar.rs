//! A register BAR as plain shared memory: a file that a driver maps, and that the device polls.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use sumac_device::RegisterIo;

use super::SharedBarError;
use super::attach::FileIdentity;
use super::sysfs::BAR_LENGTH;

/// 512 KiB of registers, zeroed at first. The file has no name and ends with its last user.
pub struct BarMemory {
    file: File,
    base: NonNull<AtomicU32>,
}

// SAFETY: the mapping is only ever seen as atomic cells.
unsafe impl Send for BarMemory {}
// SAFETY: as above.
unsafe impl Sync for BarMemory {}

impl BarMemory {
    /// Makes and maps the file.
    ///
    /// # Errors
    /// [`SharedBarError::Map`] when the kernel has no memory for it.
    pub fn new() -> Result<Self, SharedBarError> {
        let failed = |source| SharedBarError::Map {
            what: "a register BAR".to_owned(),
            source,
        };
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = memfd_create(c"sumac-bar", flags).map_err(failed)?;
        nix::unistd::ftruncate(&file, BAR_LENGTH as libc::off_t).map_err(failed)?;
        // Nobody who maps it can take pages away from the others.
        let sealed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(sealed)).map_err(failed)?;
        let length = NonZeroUsize::MIN.saturating_add(BAR_LENGTH - 1);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping, at an address of the kernel's choice, of a file that has this
        // length for good.
        let base = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &file, 0) }
            .map_err(failed)?
            .cast();
        Ok(Self {
            file: file.into(),
            base,
        })
    }

    /// The file, for another process to map.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The registers, in order of their offsets.
    pub fn cells(&self) -> &[AtomicU32] {
        // SAFETY: `BAR_LENGTH` bytes are mapped as long as `self` lives, page-aligned, and whoever
        // else maps them is another process, which the atomics are for.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), BAR_LENGTH / 4) }
    }

    /// A path by which another process may open the file while this one lives.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    pub(super) fn identity(&self) -> std::io::Result<FileIdentity> {
        Ok(FileIdentity::of(&self.file.metadata()?))
    }
}

impl AsRef<[AtomicU32]> for BarMemory {
    fn as_ref(&self) -> &[AtomicU32] {
        self.cells()
    }
}

impl BarMemory {
    fn cell(&self, offset: u32) -> Option<&AtomicU32> {
        let aligned = offset.is_multiple_of(4);
        self.cells().get(offset as usize / 4).filter(|_| aligned)
    }
}

// SAFETY: a cell lies in the mapping, which lives as long as `self`, and others reach it as an atomic.
unsafe impl RegisterIo for BarMemory {
    fn len(&self) -> u32 {
        BAR_LENGTH as u32
    }

    fn read32(&self, offset: u32) -> u32 {
        self.cell(offset)
            .map_or(u32::MAX, |cell| cell.load(Ordering::Acquire))
    }

    fn write32(&self, offset: u32, value: u32) {
        if let Some(cell) = self.cell(offset) {
            cell.store(value, Ordering::Release);
        }
    }

    fn mapped(&self, offset: u32) -> Option<NonNull<AtomicU32>> {
        self.cell(offset).map(NonNull::from)
    }
}

impl Drop for BarMemory {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody can hold any more.
        let _ = unsafe { munmap(self.base.cast(), BAR_LENGTH) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_in_this_process_sees_the_same_cells() {
        let bar = BarMemory::new().unwrap();
        bar.write32(0x1028, 7);
        assert_eq!(bar.cells()[0x1028 / 4].load(Ordering::Relaxed), 7);
        assert_eq!(bar.read32(0x1028), 7);
        assert_eq!(bar.read32(BAR_LENGTH as u32), u32::MAX);
        assert_eq!(bar.read32(0x1029), u32::MAX);
        assert!(bar.mapped(BAR_LENGTH as u32).is_none());
    }
}
