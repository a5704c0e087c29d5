//! The right to reach a window's memory, and what is reached: a descriptor address is whatever a driver wrote, so
//! every address is tested before use. What was tested for reading only has no way to write.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::RwLockReadGuard;
use std::sync::atomic::{AtomicU32, Ordering};

use super::copy;
use super::ring::GuestRing;
use super::window::{GuestMemory, PAGE};

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

impl<'a> Access<'a> {
    /// `quiesce` is the lock of `memory` that whoever unmaps takes.
    pub(super) fn new(memory: &'a GuestMemory, quiesce: RwLockReadGuard<'a, ()>) -> Self {
        Self {
            memory,
            _quiesce: quiesce,
        }
    }

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
        ring_at(address, count, |address, len| self.slice(address, len))
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
        ring_at(address, count, |address, len| self.slice(address, len))
    }
}

/// The ring in the bytes that `slice` finds: aligned to a descriptor, and whole.
#[inline(always)]
fn ring_at<'a>(
    address: u64,
    count: u32,
    slice: impl FnOnce(u64, usize) -> Option<GuestSlice<'a>>,
) -> Option<GuestRing<'a>> {
    if !address.is_multiple_of(16) {
        return None;
    }
    let memory = slice(address, count as usize * 16)?;
    Some(GuestRing {
        start: memory.start.cast(),
        count,
        access: PhantomData,
    })
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
