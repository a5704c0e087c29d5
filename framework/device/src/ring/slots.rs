//! A ring's slots: 16-byte descriptors that a device reads and writes, as pairs of atomic words.
//! Indices are masked here, so that no index reaches beyond the ring.

use core::marker::PhantomData;
use core::mem::forget;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::BufferId;
use crate::{DmaError, DmaMemory, DmaSpace, Iova, Table};

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

/// A descriptor: two words, the second completed last by the device.
pub(super) type Descriptor = [AtomicU64; 2];

/// The word a device completes last; what it wrote before is visible after this.
#[inline(always)]
pub(super) fn status(descriptor: &Descriptor) -> u64 {
    descriptor[1].load(Ordering::Acquire)
}

/// Writes a descriptor; the device sees it at the next doorbell.
#[inline(always)]
pub(super) fn write(descriptor: &Descriptor, words: [u64; 2]) {
    descriptor[0].store(words[0], Ordering::Relaxed);
    descriptor[1].store(words[1], Ordering::Relaxed);
}

/// The slots of one ring: descriptors, shared with the device, and on our side the buffer posted in
/// each, which the device cannot touch.
pub(super) struct Slots {
    /// First descriptor; `mask + 1` of them are in the memory kept.
    first: NonNull<Descriptor>,
    mask: u32,
    /// First of `mask + 2` numbers in the table kept, `NO_BUFFER` where no buffer is posted; the last is apart.
    posted: NonNull<BufferId>,
    iova: Iova,
    /// What goes back when this is dropped: nothing once it is withheld, and then nobody frees it.
    kept: Option<(DmaMemory, Table)>,
}

// SAFETY: descriptors are only reached through atomics, in memory that is kept; `posted` is reached
// through this alone, in a table that is kept.
unsafe impl Send for Slots {}

impl Slots {
    /// Zeroed descriptors in memory of the device's, and no buffer posted.
    pub(super) fn allocate(dma: &dyn DmaSpace, size: RingSize) -> Result<Self, DmaError> {
        let memory = dma.allocate(size.bytes() as usize, 4096)?;
        memory.check(size.bytes() as usize, 4096)?;
        for cell in memory.cells() {
            cell.store(0, Ordering::Relaxed);
        }
        let wanted = size.get() as usize + 1;
        let mut table = dma.table(wanted)?;
        let (posted, len) = table.parts();
        if len < wanted {
            return Err(DmaError::BadMemory {
                bytes: 4 * wanted,
                align: 4,
            });
        }
        Ok(Self {
            first: memory.base().cast(),
            mask: size.get() - 1,
            posted,
            iova: memory.iova(),
            kept: Some((memory, table)),
        })
    }

    pub(super) fn iova(&self) -> Iova {
        self.iova
    }

    /// Gives memory and table up for good: a device may still write here. A host that outlives its driver finds
    /// both, and what was posted, once it has the device stand still.
    pub(super) fn withhold(&mut self) {
        forget(self.kept.take());
    }

    #[inline(always)]
    pub(super) fn mask(&self) -> u32 {
        self.mask
    }

    /// How many slots there are.
    #[inline(always)]
    pub(super) fn size(&self) -> u32 {
        self.mask + 1
    }

    #[inline(always)]
    pub(super) fn descriptor(&self, index: u32) -> &Descriptor {
        // SAFETY: `allocate` checked that there are `mask + 1` descriptors at `first`, 4 KiB aligned;
        // they are kept, or freed by nobody, everybody reaches them through atomics, and the masked
        // index is at most `mask`.
        unsafe { self.first.add((index & self.mask) as usize).as_ref() }
    }

    /// A descriptor and the buffer posted there.
    #[inline(always)]
    pub(super) fn slot(&mut self, index: u32) -> (&Descriptor, &mut BufferId) {
        let index = (index & self.mask) as usize;
        // SAFETY: as in `descriptor`; there are more than `mask + 1` numbers at `posted`, in memory that
        // the table keeps and that is reached through `self` alone.
        unsafe {
            (
                self.first.add(index).as_ref(),
                self.posted.add(index).as_mut(),
            )
        }
    }

    /// The slots for a loop over many of them.
    #[inline(always)]
    pub(super) fn table(&mut self) -> SlotTable<'_> {
        SlotTable {
            first: self.first,
            posted: self.posted,
            mask: self.mask,
            slots: PhantomData,
        }
    }

    /// The buffers posted, slot by slot.
    pub(super) fn posted(&mut self) -> &mut [BufferId] {
        let size = self.size() as usize;
        // SAFETY: as in `slot`.
        unsafe { core::slice::from_raw_parts_mut(self.posted.as_ptr(), size) }
    }

    /// The buffer that is in no slot any more and not yet anywhere else: the first of a frame under way.
    pub(super) fn apart(&mut self) -> &mut BufferId {
        let size = self.size() as usize;
        // SAFETY: as in `slot`; the number after those of the slots is there too.
        unsafe { self.posted.add(size).as_mut() }
    }

    /// Sets bits in the status word of a descriptor the device has not been told of yet.
    #[inline(always)]
    pub(super) fn add_to_status(&self, index: u32, bits: u64) {
        let status = &self.descriptor(index)[1];
        status.store(status.load(Ordering::Relaxed) | bits, Ordering::Relaxed);
    }
}

/// The slots of a ring, by value: in a loop its fields stay in registers, whatever is stored through
/// them.
pub(super) struct SlotTable<'a> {
    /// As in [`Slots`], with as many buffers at `posted`; all borrowed mutably for `'a`.
    first: NonNull<Descriptor>,
    posted: NonNull<BufferId>,
    mask: u32,
    slots: PhantomData<&'a mut Slots>,
}

impl SlotTable<'_> {
    /// A descriptor and the buffer posted there.
    #[inline(always)]
    pub(super) fn slot(&mut self, index: u32) -> (&Descriptor, &mut BufferId) {
        let index = (index & self.mask) as usize;
        // SAFETY: as in `Slots::descriptor`; there are `mask + 1` buffers at `posted` too, borrowed
        // mutably through `self`.
        unsafe {
            (
                self.first.add(index).as_ref(),
                self.posted.add(index).as_mut(),
            )
        }
    }

    /// The cache line of four descriptors that `index` is in, and the buffers posted there.
    #[inline(always)]
    pub(super) fn line(&mut self, index: u32) -> (&[Descriptor; 4], &mut [BufferId; 4]) {
        let index = (index & self.mask & !3) as usize;
        // SAFETY: as in `slot`; the size is a power of two of at least 8, so the four from an index
        // that is a multiple of four are all there.
        unsafe {
            (
                self.first.add(index).cast().as_ref(),
                self.posted.add(index).cast().as_mut(),
            )
        }
    }

    /// Asks for the cache line of descriptor `index`, to be written soon: one transfer between
    /// cores where a read followed by a write costs two.
    #[inline(always)]
    pub(super) fn prefetch_for_write(&self, index: u32) {
        let index = (index & self.mask) as usize;
        super::prefetch_for_write(self.first.as_ptr().wrapping_add(index).cast());
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
