//! A region of memory that other processes and devices can be given: a sealed memory file, mapped here.
//!
//! Invariant: the mapping lives as long as the [`Region`]; its file can be neither shortened nor
//! lengthened, by nobody, so no access to the mapping can fault. Whoever has a file of 2 MiB pages could punch holes
//! into it, which nothing forbids and which fault when no page is free: other processes get files of ordinary pages,
//! whose holes fill with zeros.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use sumac_devices::memory::CHUNK;

/// Times an address is looked for that no other thread takes meanwhile.
const ATTEMPTS: usize = 16;

/// Zeroed memory in 2 MiB pages where they are reserved, else in ordinary ones; aligned to 2 MiB.
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    file: File,
    huge: bool,
}

// SAFETY: the region is plain memory that this value owns; who may touch it is argued where it is handed out.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// A region of `len` bytes, a multiple of 2 MiB.
    ///
    /// # Errors
    /// What Linux says when there is no memory.
    pub fn new(len: usize) -> io::Result<Self> {
        Self::huge(len).or_else(|_| Self::ordinary(len))
    }

    /// A region of `len` bytes in ordinary pages, whose file may be given to other processes.
    ///
    /// # Errors
    /// What Linux says when there is no memory.
    pub fn ordinary(len: usize) -> io::Result<Self> {
        Self::of_pages(len, MFdFlags::empty())
    }

    /// A region of `len` bytes in reserved 2 MiB pages.
    ///
    /// # Errors
    /// What Linux says when there are too few.
    pub fn huge(len: usize) -> io::Result<Self> {
        Self::of_pages(len, MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB)
    }

    /// Of a region in 2 MiB pages, those of these numbers, in this order; the others are given back. The file keeps
    /// its own order, and is of no use to others.
    ///
    /// # Errors
    /// What Linux says.
    pub fn chosen(self, pages: &[usize]) -> io::Result<Self> {
        let bytes = CHUNK as usize;
        let file = self.file.try_clone()?;
        let base = map_aligned(pages.len() * bytes, |at| {
            let page = pages.get(at / bytes).copied().unwrap_or(0);
            (&file, page * bytes, bytes)
        })?;
        let region = Self {
            base,
            len: pages.len() * bytes,
            file,
            huge: true,
        };
        let all = self.len / bytes;
        drop(self);
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for page in (0..all).filter(|page| !pages.contains(page)) {
            let (at, len) = ((page * bytes) as libc::off_t, bytes as libc::off_t);
            fallocate(&region.file, hole, at, len)?;
        }
        Ok(region)
    }

    fn of_pages(len: usize, pages: MFdFlags) -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | pages;
        let file = File::from(memfd_create(c"sumac-dma", flags)?);
        file.set_len(len as u64)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let huge = !pages.is_empty();
        let base = map_aligned(len, |_| (&file, 0, len))?;
        let region = Self {
            base,
            len,
            file,
            huge,
        };
        if !huge {
            // Fewer, larger pages if Linux has some to spare; if not, so be it.
            // SAFETY: the region was mapped just now; the advice changes no contents.
            let _ = unsafe { madvise(base.cast(), len, MmapAdvise::MADV_HUGEPAGE) };
        }
        region.populate()?;
        Ok(region)
    }

    /// Takes the pages from Linux now: a lack of memory is an error here, not a fault later.
    fn populate(&self) -> io::Result<()> {
        // SAFETY: the region's own mapping; touching its pages changes nothing.
        let result =
            unsafe { madvise(self.base.cast(), self.len, MmapAdvise::MADV_POPULATE_WRITE) };
        match result {
            // Linux before 5.14: pages come as they are touched.
            Err(Errno::EINVAL) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The file behind it, to be handed to others or mapped again.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether reserved 2 MiB pages hold it.
    pub fn huge_pages(&self) -> bool {
        self.huge
    }

    /// Where the processor sees the first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Where the processor sees byte `offset`, which the region has.
    pub fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.len, "an offset beyond the region");
        // SAFETY: inside the mapping, by the assertion.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and whoever was handed a part of it gave that back.
        let _ = unsafe { munmap(self.base.cast::<c_void>(), self.len) };
    }
}

/// Maps `len` bytes at an address aligned to 2 MiB; `part` says what is at an offset: a file, where in it, and how
/// many bytes, which divide `len`.
fn map_aligned<'a>(
    len: usize,
    part: impl Fn(usize) -> (&'a File, usize, usize),
) -> io::Result<NonNull<u8>> {
    let bad = || io::Error::from(io::ErrorKind::InvalidInput);
    let length = NonZeroUsize::new(len).ok_or_else(bad)?;
    for _ in 0..ATTEMPTS {
        let address = free_address(length.checked_add(CHUNK as usize).ok_or_else(bad)?)?;
        let mut mapped = 0;
        let mut map = || -> Result<(), Errno> {
            while mapped < len {
                let (file, position, bytes) = part(mapped);
                map_part(address, mapped, file, position, bytes)?;
                mapped += bytes;
            }
            Ok(())
        };
        let result = map();
        match result {
            Ok(()) => return NonNull::new(address as *mut u8).ok_or_else(bad),
            Err(error) => {
                let parts = NonNull::new(address as *mut c_void).filter(|_| mapped > 0);
                if let Some(parts) = parts {
                    // SAFETY: what was mapped just now; nobody was told of it.
                    unsafe { munmap(parts, mapped) }?;
                }
                // Another thread was faster.
                if error != Errno::EEXIST {
                    return Err(error.into());
                }
            }
        }
    }
    Err(Errno::EEXIST.into())
}

/// Maps `bytes` bytes of a file, `at` bytes behind an address where nothing is.
fn map_part(
    address: usize,
    at: usize,
    file: &File,
    position: usize,
    bytes: usize,
) -> Result<(), Errno> {
    let place = NonZeroUsize::new(address + at);
    let bytes = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
    let position = libc::off_t::try_from(position).map_err(|_| Errno::EINVAL)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED_NOREPLACE;
    // SAFETY: a mapping that replaces none.
    unsafe { mmap(place, bytes, protection, flags, file, position) }.map(drop)
}

/// An address aligned to 2 MiB where `room` bytes less 2 MiB were free a moment ago.
fn free_address(room: NonZeroUsize) -> io::Result<usize> {
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a fresh reservation at an address of the kernel's choosing touches nothing.
    let reserved = unsafe { mmap_anonymous(None, room, ProtFlags::PROT_NONE, flags) }?;
    // SAFETY: what was reserved just now; nobody was told of it.
    unsafe { munmap(reserved, room.get()) }?;
    Ok((reserved.as_ptr() as usize).next_multiple_of(CHUNK as usize))
}
