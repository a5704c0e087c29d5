//! The DMA window: how a software device reaches the memory a driver gave it.
//!
//! One large address range is reserved, with nothing behind it; a region at bus address `A` is
//! mapped at `base + A`. Translation is one addition and one bit test ([`access`](super::access)). Bit maps say,
//! per 4 KiB page, which bus addresses exist, and which of them may be written.
//!
//! Invariant: while an [`Access`] lives, no mapped page goes away. [`GuestMemory::unmap`] takes the
//! other side of that lock. It is to come soon: devices, which take their side again and again, stand back.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard, TryLockError};

use super::access::{Access, ReadOnly, ReadWrite, Right};
use super::pages::PageMap;

/// Granularity of what exists and what does not.
pub const PAGE: u64 = 4096;
/// The unit regions are placed at; also the size of a huge page.
pub const CHUNK: u64 = 2 << 20;

/// The file system of huge pages, as `fstatfs` tells it (linux/magic.h).
const HUGETLBFS_MAGIC: u32 = 0x9584_58F6;

/// Why memory could not be placed in the window.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// The process may not reserve so large an address range.
    #[error(
        "cannot reserve {bytes} bytes of address space for DMA: {source}; raise `ulimit -v` or ask for a smaller window"
    )]
    Reserve {
        /// Size asked for.
        bytes: u64,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A region lies outside the window, is empty, or is not page aligned.
    #[error(
        "DMA region of {len} bytes at {iova:#x} does not fit a window of {limit:#x} in whole pages"
    )]
    Placement {
        /// Bus address of the region.
        iova: u64,
        /// Its length.
        len: u64,
        /// Size of the window.
        limit: u64,
    },
    /// Something is already mapped there.
    #[error("DMA region of {len} bytes at {iova:#x} overlaps one that is mapped already")]
    Overlap {
        /// Bus address of the region.
        iova: u64,
        /// Its length.
        len: u64,
    },
    /// A file of huge pages of which the region is no whole ones, or whose pages are too large.
    #[error(
        "DMA region of {len} bytes at {iova:#x}, {offset:#x} into its file, is not in whole pages of the file's {page} bytes, which are 2 MiB at most"
    )]
    HugePages {
        /// Bus address of the region.
        iova: u64,
        /// Its length.
        len: u64,
        /// Where it starts in the file.
        offset: u64,
        /// Size of the file's pages.
        page: u64,
    },
    /// The system would not map the file.
    #[error("cannot map {len} bytes of DMA memory at {iova:#x}: {source}")]
    Map {
        /// Bus address of the region.
        iova: u64,
        /// Its length.
        len: u64,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// All memory one group of devices can reach, by bus address.
pub struct GuestMemory {
    pub(super) base: NonNull<u8>,
    limit: u64,
    /// The reservation as the system gave it: address and length.
    reserved: (usize, usize),
    /// Pages that devices may read.
    readable: PageMap,
    /// Those among them that they may write as well.
    writable: PageMap,
    /// Read while a device works, written while a region is made unreachable.
    quiesce: RwLock<()>,
    /// How many want to make one unreachable.
    wanted: AtomicU32,
    /// Number of the maps' present state: no other state of any window's has it.
    pub(super) version: AtomicU64,
}

/// Numbers for states of maps; zero is none.
static VERSIONS: AtomicU64 = AtomicU64::new(1);
/// Tries at the lock before a thread gives way to others: some 20 microseconds.
const TRIES: u32 = 1000;

// SAFETY: `base` is an address range this value owns; what lies in it is only reached by the
// opaque copies and atomics of this module.
unsafe impl Send for GuestMemory {}
// SAFETY: as above; placement is serialised by `quiesce`.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// Reserves a window for bus addresses below `limit` (rounded up to 2 MiB).
    ///
    /// # Errors
    /// [`WindowError::Reserve`] when the address space is limited.
    pub fn new(limit: u64) -> Result<Self, WindowError> {
        let limit = limit.max(CHUNK).next_multiple_of(CHUNK);
        // Room to align the base to 2 MiB, as huge pages need it.
        let bytes = limit + CHUNK;
        // SAFETY: a fresh reservation at an address of the kernel's choosing touches nothing.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes as usize,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        let reserve = |source| WindowError::Reserve { bytes, source };
        if address == libc::MAP_FAILED {
            return Err(reserve(std::io::Error::last_os_error()));
        }
        let aligned = (address as usize).next_multiple_of(CHUNK as usize);
        let Some(base) = NonNull::new(aligned as *mut u8) else {
            return Err(reserve(std::io::ErrorKind::OutOfMemory.into()));
        };
        Ok(Self {
            base,
            limit,
            reserved: (address as usize, bytes as usize),
            readable: PageMap::new(limit),
            writable: PageMap::new(limit),
            quiesce: RwLock::new(()),
            wanted: AtomicU32::new(0),
            version: AtomicU64::new(VERSIONS.fetch_add(1, Ordering::Relaxed)),
        })
    }

    /// First bus address beyond the window.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Maps `len` bytes of `file` from `offset` at bus address `iova` and makes them reachable for
    /// devices. Length, offset and address are whole pages of the file (2 MiB for huge pages).
    ///
    /// # Errors
    /// [`WindowError`] when the region does not fit, overlaps another, or the system refuses.
    pub fn map(&self, iova: u64, len: u64, file: &File, offset: u64) -> Result<(), WindowError> {
        self.map_for::<ReadWrite>(iova, len, file, offset)
    }

    /// As [`map`](Self::map), for devices to read: what one writes there is a DMA fault.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn map_to_read(
        &self,
        iova: u64,
        len: u64,
        file: &File,
        offset: u64,
    ) -> Result<(), WindowError> {
        self.map_for::<ReadOnly>(iova, len, file, offset)
    }

    fn map_for<R: Right>(
        &self,
        iova: u64,
        len: u64,
        file: &File,
        offset: u64,
    ) -> Result<(), WindowError> {
        let page = page_size(file).map_err(|source| WindowError::Map { iova, len, source })?;
        if !in_whole_pages(page, iova, len, offset) {
            return Err(WindowError::HugePages {
                iova,
                len,
                offset,
                page,
            });
        }
        let _alone = self.no_device_at_work();
        self.placement(iova, len)?;
        if self.readable.any(iova, len) {
            return Err(WindowError::Overlap { iova, len });
        }
        self.replace(iova, len, Some((file, offset, R::PROTECTION)))?;
        self.set_pages(iova, len, true, R::WRITES);
        Ok(())
    }

    /// Takes a region away: when this returns no device can reach it and its pages are given back.
    ///
    /// # Errors
    /// [`WindowError`] when the region is not one of whole pages inside the window.
    pub fn unmap(&self, iova: u64, len: u64) -> Result<(), WindowError> {
        let _alone = self.no_device_at_work();
        self.placement(iova, len)?;
        self.set_pages(iova, len, false, false);
        self.replace(iova, len, None)
    }

    /// Makes whole pages of a mapped region reachable or not, without touching the mapping.
    pub(super) fn set_reachable(&self, iova: u64, len: u64, reachable: bool) {
        // What devices can reach already stays as it is where there is more.
        let _alone = (!reachable).then(|| self.no_device_at_work());
        if self.placement(iova, len).is_ok() {
            self.set_pages(iova, len, reachable, reachable);
        }
    }

    /// Waits for devices to end the polls they are in. One takes microseconds, which is less than this thread
    /// would sleep.
    fn no_device_at_work(&self) -> RwLockWriteGuard<'_, ()> {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        let mut tries = 0;
        let alone = loop {
            match self.quiesce.try_write() {
                Ok(alone) => break alone,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if tries < TRIES => std::hint::spin_loop(),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
            tries += 1;
        };
        self.wanted.fetch_sub(1, Ordering::Relaxed);
        alone
    }

    /// Where the processor sees bus address `iova`.
    pub(super) fn host_address(&self, iova: u64) -> NonNull<u8> {
        assert!(iova < self.limit, "bus address outside the window");
        // SAFETY: inside the reservation, by the assertion.
        unsafe { self.base.add(iova as usize) }
    }

    /// The right to reach memory; held for one poll of a device.
    pub fn access(&self) -> Access<'_> {
        while self.wanted.load(Ordering::Relaxed) != 0 {
            std::thread::yield_now();
        }
        let quiesce = self.quiesce.read();
        Access::new(self, quiesce.unwrap_or_else(PoisonError::into_inner))
    }

    fn placement(&self, iova: u64, len: u64) -> Result<(), WindowError> {
        let fits = len > 0
            && iova.is_multiple_of(PAGE)
            && len.is_multiple_of(PAGE)
            && iova.checked_add(len).is_some_and(|end| end <= self.limit);
        if fits {
            Ok(())
        } else {
            Err(WindowError::Placement {
                iova,
                len,
                limit: self.limit,
            })
        }
    }

    /// Puts a part of a file into the window, with this protection, or nothing.
    fn replace(
        &self,
        iova: u64,
        len: u64,
        file: Option<(&File, u64, libc::c_int)>,
    ) -> Result<(), WindowError> {
        let (protection, flags, fd, offset) = match file {
            Some((file, offset, protection)) => (
                protection,
                libc::MAP_SHARED | libc::MAP_FIXED,
                file.as_raw_fd(),
                offset,
            ),
            None => (
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            ),
        };
        let map = |source| WindowError::Map { iova, len, source };
        let offset = libc::off_t::try_from(offset)
            .map_err(|_| map(std::io::ErrorKind::InvalidInput.into()))?;
        // A mapping at a fixed address that fails has taken away what was there, and leaves a gap in
        // the reservation for anybody's memory: so it is tried elsewhere first. As long as the trial
        // lives, the pages that the file needs are there.
        let trial = file.map(|_| Trial::new(len as usize, protection, fd, offset));
        let _trial = trial.transpose().map_err(map)?;
        // SAFETY: the range lies inside the window's own reservation (`placement`), and no device
        // is at work on it: `quiesce` is held for writing. The system rounds a length up to the file's
        // pages, of which this is whole ones (`in_whole_pages`).
        let result = unsafe {
            libc::mmap(
                self.host_address(iova).as_ptr().cast(),
                len as usize,
                protection,
                flags,
                fd,
                offset,
            )
        };
        if result == libc::MAP_FAILED {
            Err(map(std::io::Error::last_os_error()))
        } else {
            Ok(())
        }
    }

    /// Call with `quiesce` held for writing, unless pages are added.
    fn set_pages(&self, iova: u64, len: u64, readable: bool, writable: bool) {
        self.readable.set(iova, len, readable);
        self.writable.set(iova, len, writable);
        // Last, so that who looked around meanwhile looks again.
        (self.version).store(VERSIONS.fetch_add(1, Ordering::Relaxed), Ordering::Release);
    }

    /// The pages that devices may use so.
    #[inline(always)]
    pub(super) fn pages<R: Right>(&self) -> &PageMap {
        match R::WRITES {
            true => &self.writable,
            false => &self.readable,
        }
    }
}

/// In what pages `file` is mapped.
fn page_size(file: &File) -> std::io::Result<u64> {
    let system = rustix::fs::fstatfs(file)?;
    // Its type is an integer of a different size on each architecture.
    if system.f_type as u32 == HUGETLBFS_MAGIC {
        Ok(system.f_bsize as u64)
    } else {
        Ok(PAGE)
    }
}

/// Whether a region is made of whole pages of `page` bytes, in its file and in the window, whose base is a multiple of
/// [`CHUNK`] and of nothing larger.
fn in_whole_pages(page: u64, iova: u64, len: u64, offset: u64) -> bool {
    page != 0
        && page <= CHUNK
        && [iova, len, offset]
            .iter()
            .all(|part| part.is_multiple_of(page))
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        let (address, bytes) = self.reserved;
        // SAFETY: the reservation is this value's; nobody can hold an `Access` or a mapping of the
        // allocator's (each keeps the window alive).
        unsafe { libc::munmap(address as *mut libc::c_void, bytes) };
    }
}

/// A mapping of a file where the kernel likes, of which nothing is used; gone when dropped.
struct Trial(*mut libc::c_void, usize);

impl Trial {
    fn new(
        len: usize,
        protection: libc::c_int,
        fd: libc::c_int,
        offset: libc::off_t,
    ) -> std::io::Result<Self> {
        let (anywhere, flags) = (std::ptr::null_mut(), libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choosing touches nothing.
        let address = unsafe { libc::mmap(anywhere, len, protection, flags, fd, offset) };
        if address == libc::MAP_FAILED {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(Self(address, len))
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // SAFETY: this value's own mapping, to which no reference was ever made.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    fn memory(flags: MemfdFlags, bytes: u64) -> File {
        let file = memfd_create("client", flags | MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, bytes).unwrap();
        file.into()
    }

    #[test]
    fn regions_are_whole_pages_of_their_file() {
        for (page, iova, len, offset, whole) in [
            (PAGE, PAGE, 3 * PAGE, 5 * PAGE, true),
            (PAGE, PAGE, PAGE, 1, false),
            (CHUNK, 0, CHUNK, 0, true),
            (CHUNK, 3 * CHUNK, 2 * CHUNK, CHUNK, true),
            (CHUNK, 0xC0000, CHUNK, 0, false),
            (CHUNK, CHUNK, CHUNK - PAGE, 0, false),
            (CHUNK, CHUNK, CHUNK, PAGE, false),
            (1 << 30, 1 << 30, 1 << 30, 0, false),
            (0, CHUNK, CHUNK, 0, false),
        ] {
            let found = in_whole_pages(page, iova, len, offset);
            assert_eq!(found, whole, "{page:#x}: {iova:#x}, {len:#x}, {offset:#x}");
        }
    }

    /// What the system would round up covers nothing beside it.
    #[test]
    fn a_part_of_a_huge_page_is_not_mapped() {
        let window = GuestMemory::new(16 * CHUNK).unwrap();
        let neighbour = memory(MemfdFlags::empty(), CHUNK);
        window.map(5 * CHUNK, CHUNK, &neighbour, 0).unwrap();
        let at = 5 * CHUNK + PAGE;
        window.access().slice(at, 4).unwrap().write(b"mine");
        let huge = memory(MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB, 4 * CHUNK);
        for (iova, len, offset) in [
            (4 * CHUNK, CHUNK + PAGE, 0),
            (4 * CHUNK, PAGE, 0),
            (4 * CHUNK + PAGE, CHUNK - PAGE, 0),
            (4 * CHUNK, CHUNK, PAGE),
        ] {
            let refused = window.map(iova, len, &huge, offset);
            assert!(
                matches!(refused, Err(WindowError::HugePages { page: CHUNK, .. })),
                "{iova:#x}, {len:#x}, {offset:#x}: {refused:?}"
            );
        }
        let mut found = [0; 4];
        window.access().source(at, 4).unwrap().read(&mut found);
        assert_eq!(&found, b"mine");
        // Of whole pages it is taken, if the machine has any.
        match window.map_to_read(2 * CHUNK, 2 * CHUNK, &huge, CHUNK) {
            Ok(()) => {
                window
                    .access()
                    .source(3 * CHUNK, 4)
                    .unwrap()
                    .read(&mut found);
                assert_eq!(found, [0; 4]);
                window.unmap(2 * CHUNK, 2 * CHUNK).unwrap();
            }
            Err(WindowError::Map { source, .. }) => {
                assert_eq!(source.raw_os_error(), Some(libc::ENOMEM));
                eprintln!("not all tested: no two huge pages are free");
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn pages_larger_than_the_windows_alignment_are_refused() {
        // Only where the processor has them.
        let flags = MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB | MemfdFlags::CLOEXEC;
        let Ok(file) = memfd_create("client", flags) else {
            return eprintln!("not tested: no pages of 1 GiB");
        };
        ftruncate(&file, 1 << 30).unwrap();
        let window = GuestMemory::new(2 << 30).unwrap();
        let refused = window.map(0, 1 << 30, &file.into(), 0);
        assert!(matches!(refused, Err(WindowError::HugePages { .. })));
    }
}
