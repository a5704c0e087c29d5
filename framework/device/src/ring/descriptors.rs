//! Descriptor memory: 16-byte descriptors that a device reads and writes, as pairs of atomic words.
//! Indices are masked here, so that no index reaches beyond the ring.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{DmaError, DmaMemory, DmaSpace, Iova};

/// Bytes a descriptor has.
const DESCRIPTOR_BYTES: usize = 16;

/// How many descriptors a ring has: a power of two from 8 to 32,768.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize(u32);

impl RingSize {
    /// A ring of `descriptors`; none unless a power of two from 8 to 32,768.
    pub const fn new(descriptors: u32) -> Option<Self> {
        if descriptors.is_power_of_two() && descriptors >= 8 && descriptors <= 32_768 {
            Some(Self(descriptors))
        } else {
            None
        }
    }

    /// The number of descriptors.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The bytes they take.
    pub const fn bytes(self) -> u32 {
        self.0 * DESCRIPTOR_BYTES as u32
    }
}

/// The descriptors of one ring.
pub(super) struct Descriptors {
    /// First descriptor; `mask + 1` of them live in `memory`.
    first: NonNull<[AtomicU64; 2]>,
    mask: u32,
    memory: DmaMemory,
}

// SAFETY: descriptors are only reached through atomics, in memory that `memory` keeps.
unsafe impl Send for Descriptors {}

impl Descriptors {
    /// Zeroed descriptors in memory of the device's.
    pub(super) fn allocate(dma: &dyn DmaSpace, size: RingSize) -> Result<Self, DmaError> {
        let memory = dma.allocate(size.bytes() as usize, 4096)?;
        memory.check(size.bytes() as usize, 4096)?;
        for cell in memory.cells() {
            cell.store(0, Ordering::Relaxed);
        }
        Ok(Self {
            first: memory.base().cast(),
            mask: size.get() - 1,
            memory,
        })
    }

    pub(super) fn iova(&self) -> Iova {
        self.memory.iova()
    }

    #[inline(always)]
    pub(super) fn mask(&self) -> u32 {
        self.mask
    }

    #[inline(always)]
    fn at(&self, index: u32) -> &[AtomicU64; 2] {
        // SAFETY: `allocate` checked that there are at least `mask + 1` descriptors at `first`, 4 KiB
        // aligned, and `self.memory` keeps them; the masked index is at most `mask`.
        unsafe { self.first.add((index & self.mask) as usize).as_ref() }
    }

    /// The word a device completes last; what it wrote before is visible after this.
    #[inline(always)]
    pub(super) fn status(&self, index: u32) -> u64 {
        self.at(index)[1].load(Ordering::Acquire)
    }

    /// The other word of a descriptor whose [`status`](Self::status) was seen complete.
    #[inline(always)]
    pub(super) fn detail(&self, index: u32) -> u64 {
        self.at(index)[0].load(Ordering::Relaxed)
    }

    /// Writes a descriptor; the device sees it at the next doorbell.
    #[inline(always)]
    pub(super) fn write(&self, index: u32, words: [u64; 2]) {
        let cell = self.at(index);
        cell[0].store(words[0], Ordering::Relaxed);
        cell[1].store(words[1], Ordering::Relaxed);
    }

    /// Sets bits in the status word of a descriptor the device has not been told of yet.
    #[inline(always)]
    pub(super) fn add_to_status(&self, index: u32, bits: u64) {
        let status = &self.at(index)[1];
        status.store(status.load(Ordering::Relaxed) | bits, Ordering::Relaxed);
    }

    /// Asks for the cache line of descriptor `index`, to be written soon: one transfer between
    /// cores where a read followed by a write costs two.
    #[inline(always)]
    pub(super) fn prefetch_for_write(&self, index: u32) {
        let line: *const u8 = core::ptr::from_ref(self.at(index)).cast();
        super::prefetch_for_write(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(RingSize::new(512).map(RingSize::bytes), Some(8192));
        assert_eq!(RingSize::new(4), None);
        assert_eq!(RingSize::new(500), None);
        assert_eq!(RingSize::new(65_536), None);
    }
}
