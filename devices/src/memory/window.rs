//! The DMA window: how a software device reaches the memory a driver gave it.
//!
//! One large address range is reserved, with nothing behind it; a region at bus address `A` is
//! mapped at `base + A`. Translation is one addition and one bit test. Bit maps say, per 4 KiB page,
//! which bus addresses exist, and which of them may be written; a descriptor address is whatever a driver
//! wrote, so every address is tested before use. What was tested for reading only has no way to write.
//!
//! Invariant: while an [`Access`] lives, no mapped page goes away. [`GuestMemory::unmap`] takes the
//! other side of that lock. It is to come soon: devices, which take their side again and again, stand back.

use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use super::copy;
use super::pages::PageMap;

/// Granularity of what exists and what does not.
pub const PAGE: u64 = 4096;
/// The unit regions are placed at; also the size of a huge page.
pub const CHUNK: u64 = 2 << 20;

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
    base: NonNull<u8>,
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
    version: AtomicU64,
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
        let _alone = self.no_device_at_work();
        self.placement(iova, len)?;
        if (iova / PAGE..(iova + len) / PAGE).any(|page| self.readable.has(page)) {
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
        Access {
            memory: self,
            _quiesce: self.quiesce.read().unwrap_or_else(PoisonError::into_inner),
        }
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
        // is at work on it: `quiesce` is held for writing.
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
    fn pages<R: Right>(&self) -> &PageMap {
        match R::WRITES {
            true => &self.writable,
            false => &self.readable,
        }
    }
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

/// What memory was tested for.
pub trait Right: sealed::Sealed + Copy {
    /// Whether it may be written.
    #[doc(hidden)]
    const WRITES: bool;
    /// How the processor may reach it.
    #[doc(hidden)]
    const PROTECTION: libc::c_int;
}

/// It may be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnly;

/// It may be read and written.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadWrite;

impl Right for ReadOnly {
    const WRITES: bool = false;
    const PROTECTION: libc::c_int = libc::PROT_READ;
}

impl Right for ReadWrite {
    const WRITES: bool = true;
    const PROTECTION: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ReadOnly {}
    impl Sealed for super::ReadWrite {}
}

/// The right to reach a window's memory: while it lives, what is mapped stays mapped.
pub struct Access<'a> {
    memory: &'a GuestMemory,
    _quiesce: RwLockReadGuard<'a, ()>,
}

impl Access<'_> {
    /// The memory at `address..address + len`, if all of it exists and may be written. `len` is above zero.
    #[inline(always)]
    pub fn slice(&self, address: u64, len: usize) -> Option<GuestSlice<'_>> {
        self.find(address, len)
    }

    /// The memory at `address..address + len`, if all of it exists, to be read. `len` is above zero.
    #[inline(always)]
    pub fn source(&self, address: u64, len: usize) -> Option<GuestSlice<'_, ReadOnly>> {
        self.find(address, len)
    }

    #[inline(always)]
    fn find<R: Right>(&self, address: u64, len: usize) -> Option<GuestSlice<'_, R>> {
        let in_one_page = len != 0 && (address % PAGE).saturating_add(len as u64) <= PAGE;
        let exists = if in_one_page {
            self.memory.pages::<R>().has(address / PAGE)
        } else {
            self.pages_exist::<R>(address, len)
        };
        if !exists {
            return None;
        }
        // SAFETY: the page of `address` exists, so `address` is below the window's limit.
        let start = unsafe { self.memory.base.add(address as usize) };
        Some(GuestSlice {
            start,
            len,
            access: PhantomData,
        })
    }

    /// Memory around `address`, for many accesses near each other. What `remembered` holds from an
    /// earlier call is used again while it is still true.
    #[inline(always)]
    pub fn stretch<R: Right>(&self, remembered: &mut Stretch<R>, address: u64) -> Nearby<'_, R> {
        let version = self.memory.version.load(Ordering::Acquire);
        let known = version == remembered.version
            && address.wrapping_sub(remembered.start) < remembered.len;
        if !known {
            self.look_around(remembered, version, address);
        }
        Nearby {
            access: self,
            base: self.memory.base,
            start: remembered.start,
            len: remembered.len,
            right: PhantomData,
        }
    }

    #[inline(never)]
    fn look_around<R: Right>(&self, remembered: &mut Stretch<R>, version: u64, address: u64) {
        let (first, pages) = self.memory.pages::<R>().around(address / PAGE);
        *remembered = Stretch {
            version,
            start: first * PAGE,
            len: pages * PAGE,
            right: PhantomData,
        };
    }

    #[inline(never)]
    fn pages_exist<R: Right>(&self, address: u64, len: usize) -> bool {
        let Some(end) = address.checked_add(len as u64).filter(|_| len != 0) else {
            return false;
        };
        (address / PAGE..=(end - 1) / PAGE).all(|page| self.memory.pages::<R>().has(page))
    }

    /// Tells the processor which lines are needed next.
    #[inline(always)]
    pub fn prefetch(&self) -> Prefetch {
        Prefetch(self.memory.base)
    }

    /// A ring of `count` descriptors of 16 bytes at `address`, if all of it exists and may be written.
    #[inline(always)]
    pub fn ring(&self, address: u64, count: u32) -> Option<GuestRing<'_>> {
        if !address.is_multiple_of(16) {
            return None;
        }
        let memory = self.slice(address, count as usize * 16)?;
        Some(GuestRing {
            start: memory.start.cast(),
            count,
            access: PhantomData,
        })
    }

    /// Stores a 32-bit word (head write-back); `false` if there is no aligned word.
    pub fn store32(&self, address: u64, value: u32) -> bool {
        if !address.is_multiple_of(4) {
            return false;
        }
        let Some(memory) = self.slice(address, 4) else {
            return false;
        };
        // SAFETY: four aligned bytes that exist while `self` lives; both sides use atomics.
        let cell = unsafe { memory.start.cast::<AtomicU32>().as_ref() };
        cell.store(value, Ordering::Release);
        true
    }
}

/// Prefetches by bus address; an address that leads nowhere has no effect.
#[derive(Clone, Copy)]
pub struct Prefetch(NonNull<u8>);

impl Prefetch {
    /// The line at `address` is about to be written.
    #[inline(always)]
    pub fn write(self, address: u64) {
        copy::prefetch_write(self.0.as_ptr(), address as usize);
    }

    /// The line at `address` is about to be read.
    #[inline(always)]
    pub fn read(self, address: u64) {
        copy::prefetch_read(self.0.as_ptr().wrapping_add(address as usize));
    }
}

/// A stretch of bus addresses that all existed, for the right `R`, when it was looked at. Worth keeping
/// from poll to poll: whether it is still true costs one comparison.
#[derive(Clone, Copy, Default)]
pub struct Stretch<R = ReadWrite> {
    /// State of the maps it was found in.
    version: u64,
    start: u64,
    len: u64,
    right: PhantomData<R>,
}

/// The memory of an [`Access`], with a stretch of it known to exist: addresses in there are
/// translated without a look at the map.
#[derive(Clone, Copy)]
pub struct Nearby<'a, R = ReadWrite> {
    access: &'a Access<'a>,
    /// The window's.
    base: NonNull<u8>,
    /// The stretch: true for as long as the access lives, since the map does not change meanwhile.
    start: u64,
    len: u64,
    right: PhantomData<R>,
}

impl<'a, R: Right> Nearby<'a, R> {
    /// What [`Access::slice`] gives, or [`Access::source`], by the right.
    #[inline(always)]
    pub fn slice(&self, address: u64, len: usize) -> Option<GuestSlice<'a, R>> {
        match self.within(address, len) {
            None => self.elsewhere(address, len),
            within => within,
        }
    }

    /// The same for memory in the stretch only.
    #[inline(always)]
    pub fn within(&self, address: u64, len: usize) -> Option<GuestSlice<'a, R>> {
        let offset = address.wrapping_sub(self.start);
        let bytes = len as u64;
        if bytes == 0 || bytes > self.len || offset > self.len - bytes {
            return None;
        }
        // SAFETY: `len` bytes at `address` are in the stretch, all of which exists in the window.
        let start = unsafe { self.base.add(address as usize) };
        Some(GuestSlice {
            start,
            len,
            access: PhantomData,
        })
    }

    #[inline(never)]
    fn elsewhere(&self, address: u64, len: usize) -> Option<GuestSlice<'a, R>> {
        self.access.find(address, len)
    }
}

impl<'a> Nearby<'a> {
    /// What [`Access::ring`] gives.
    #[inline(always)]
    pub fn ring(&self, address: u64, count: u32) -> Option<GuestRing<'a>> {
        if !address.is_multiple_of(16) {
            return None;
        }
        let memory = self.slice(address, count as usize * 16)?;
        Some(GuestRing {
            start: memory.start.cast(),
            count,
            access: PhantomData,
        })
    }
}

/// Bytes of a driver's memory: copied in and out, never borrowed.
#[derive(Clone, Copy)]
pub struct GuestSlice<'a, R = ReadWrite> {
    start: NonNull<u8>,
    len: usize,
    access: PhantomData<(&'a GuestMemory, R)>,
}

impl<R: Right> GuestSlice<'_, R> {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none; a slice of an [`Access`] has at least one.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the start into `bytes`; returns how many bytes there were.
    #[inline(always)]
    pub fn read(&self, bytes: &mut [u8]) -> usize {
        let len = bytes.len().min(self.len);
        // SAFETY: `len` bytes exist at `start` while the access lives, and in `bytes`.
        unsafe { copy::opaque(self.start.as_ptr(), bytes.as_mut_ptr(), len) };
        len
    }
}

impl GuestSlice<'_> {
    /// Copies `bytes` to the start; what does not fit is left out.
    #[inline(always)]
    pub fn write(&self, bytes: &[u8]) {
        let len = bytes.len().min(self.len);
        // SAFETY: as in `read`, the other way round; it may be written.
        unsafe { copy::opaque(bytes.as_ptr(), self.start.as_ptr(), len) };
    }
}

/// Descriptors in a cache line.
const PER_LINE: usize = 4;

/// A descriptor ring in a driver's memory: 16-byte descriptors as two 64-bit words each.
#[derive(Clone, Copy)]
pub struct GuestRing<'a> {
    start: NonNull<[AtomicU64; 2]>,
    count: u32,
    access: PhantomData<&'a GuestMemory>,
}

impl<'a> GuestRing<'a> {
    /// Descriptors from `index` on: `limit`, or as many as come before the ring's end.
    #[inline(always)]
    pub fn run(&self, index: u32, limit: usize) -> &'a [[AtomicU64; 2]] {
        let count = ((self.count.saturating_sub(index)) as usize).min(limit);
        if count == 0 {
            return &[];
        }
        // SAFETY: `Access::ring` checked `self.count` aligned descriptors, which exist while the
        // access lives; `index + count` is no more. Both sides use atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(index as usize), count) }
    }

    /// How many descriptors the ring has.
    #[inline(always)]
    pub fn count(&self) -> u32 {
        self.count
    }

    #[inline(always)]
    fn words(&self, index: u32) -> &[AtomicU64; 2] {
        assert!(index < self.count, "descriptor index beyond the ring");
        // SAFETY: `Access::ring` checked `count` aligned descriptors; the index is below it.
        unsafe { self.start.add(index as usize).as_ref() }
    }

    /// Reads descriptor `index`.
    #[inline(always)]
    pub fn read(&self, index: u32) -> [u64; 2] {
        let words = self.words(index);
        [
            words[0].load(Ordering::Relaxed),
            words[1].load(Ordering::Relaxed),
        ]
    }

    /// Writes descriptor `index`; the second word, which holds DD, becomes visible last.
    #[inline(always)]
    pub fn write(&self, index: u32, descriptor: [u64; 2]) {
        let words = self.words(index);
        words[0].store(descriptor[0], Ordering::Relaxed);
        words[1].store(descriptor[1], Ordering::Release);
    }

    /// Writes `descriptors` from `index` on, round the ring's end; no more than the ring has. Each
    /// descriptor becomes visible after those before it, its second word not before its first.
    #[inline(always)]
    pub fn write_all(&self, index: u32, descriptors: &[[u64; 2]]) {
        let first = self.run(index, descriptors.len());
        let (before, after) = descriptors.split_at(first.len());
        write_run(first, before);
        if !after.is_empty() {
            write_run(self.run(0, after.len()), after);
        }
    }

    /// Writes only the second word of descriptor `index`, after everything written before.
    #[inline(always)]
    pub fn write_status(&self, index: u32, word: u64) {
        self.words(index)[1].store(word, Ordering::Release);
    }

    /// Tells the processor that `count` descriptors from `index` on are about to be written, as far
    /// as the ring's end.
    #[inline(always)]
    pub fn prefetch(&self, index: u32, count: usize) {
        for line in self.run(index, count).iter().step_by(PER_LINE) {
            copy::prefetch_write(std::ptr::from_ref(line).cast(), 0);
        }
    }
}

#[inline(always)]
fn write_run(cells: &[[AtomicU64; 2]], descriptors: &[[u64; 2]]) {
    let (mut cells, mut descriptors) = (cells, &descriptors[..cells.len()]);
    if copy::stores_descriptors() {
        let (lines, rest) = cells.as_chunks::<PER_LINE>();
        let (staged, more) = descriptors.as_chunks::<PER_LINE>();
        for (line, staged) in lines.iter().zip(staged) {
            let to = std::ptr::from_ref(line).cast_mut().cast();
            // SAFETY: the processor can; the atomics are 64 writable bytes of a ring, whose address
            // `ring` found to be a multiple of 16.
            unsafe { copy::store_line(staged, to) };
        }
        (cells, descriptors) = (rest, more);
    }
    for (cells, words) in cells.iter().zip(descriptors) {
        cells[0].store(words[0], Ordering::Relaxed);
        cells[1].store(words[1], Ordering::Release);
    }
}
