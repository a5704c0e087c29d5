//! The transmit ring: takes filled buffers as long as it has slots, and gives them back to the pool
//! once the device reported them done, never earlier.
//!
//! The device is asked to report at the last descriptor of every call, so that what was posted
//! before a queue went idle can be reclaimed too. While frames are posted, one report in a group of
//! descriptors is looked at, and buffers are given back by groups.
//!
//! Here is a ring's beginning and end; `post` is the way of frames into it, `reclaim` of buffers back to the pool.

mod post;
mod reclaim;

use alloc::boxed::Box;

use super::slots::Slots;
#[cfg(test)]
use super::slots::status;
use super::{BufferPool, Entry, NO_POOL, RingSize};
use crate::{DmaError, DmaSpace, Doorbell, Iova, Whole};

/// From this many outstanding descriptors on, finished ones are looked for while posting.
const RECLAIM_ABOVE: u32 = 64;

/// Of the reports asked for, one in so many slots is noted and looked at while frames are posted.
const GROUP: u32 = 32;

/// How the bits of a transmit descriptor are made and read.
pub trait TransmitFormat {
    /// Bits of the status word that are all set once the device is done with the descriptor.
    const DONE: u64;
    /// Bits of the status word that ask the device to report.
    const REPORT: u64;
    /// Flags of an [`Entry`] that ask for more than a plain frame.
    const OFFLOADS: u32;
    /// Which bits of a status word tell a context descriptor from others, and their value in one.
    /// A format may write both words of such descriptors only: their first is no address.
    const CONTEXT: (u64, u64);

    /// The status word of a frame of `len` bytes in one buffer that asks for no offload.
    fn whole(&self, len: u16) -> u64;

    /// The status word of one buffer of any other frame.
    fn part(&self, part: Part) -> u64;

    /// The context descriptor that must precede `frame`, if the device needs one.
    fn context(&mut self, frame: Entry) -> Option<[u64; 2]>;

    /// The device was reset and knows no context any more.
    fn forget_context(&mut self);
}

/// One buffer of a frame, for [`TransmitFormat::part`].
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The frame's entry: its flags ask for offloads.
    pub frame: Entry,
    /// Bytes of the whole frame.
    pub frame_bytes: u32,
    /// Bytes in this buffer.
    pub len: u16,
    /// Whether the frame ends here.
    pub last: bool,
}

/// What a transmit ring counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransmitCounters {
    /// Frames taken over from sources.
    pub frames: u64,
    /// Times a source kept frames because no slot was free.
    pub full: u64,
    /// Bytes of the frames taken over.
    pub bytes: u64,
    /// Frames dropped because they span more buffers than the ring has slots.
    pub too_long: u64,
    /// Buffers reported done, or drained, and given back to the pool.
    pub reclaimed: u64,
}

/// Filled buffers out to the device.
pub struct TransmitRing<F> {
    /// Slots `oldest..next` are posted; a context has [`NO_BUFFER`].
    slots: Slots,
    /// The pool ([`BufferPool::key`]) whose buffers are posted; changes only when none is.
    pool: usize,
    /// Slots at which the device was asked to report, one a group: a queue, `first_report..next_report`.
    /// Where all is reported, the slot before `next` is, whether it is noted here or not.
    reports: Box<[u32]>,
    first_report: u32,
    next_report: u32,
    /// Next slot to write. Free running; masked on use.
    next: u32,
    /// Oldest slot not reclaimed. Free running.
    oldest: u32,
    /// Context descriptors not reclaimed: slots without a buffer.
    contexts: u32,
    /// Context descriptors ever posted. Free running.
    contexts_posted: u32,
    /// Slots of a group; a power of two.
    group: u32,
    /// At how many outstanding descriptors finished ones are looked for again; there is a slot for each
    /// below.
    reclaim_at: u32,
    doorbell: Doorbell,
    counters: TransmitCounters,
    format: F,
}

impl<F: TransmitFormat> TransmitRing<F> {
    /// An empty ring of `size` descriptors.
    ///
    /// # Errors
    /// [`DmaError`] when there is no memory for the descriptors.
    pub fn new(
        dma: &dyn DmaSpace,
        size: RingSize,
        doorbell: Doorbell,
        format: F,
    ) -> Result<Self, DmaError> {
        Ok(Self {
            slots: Slots::allocate(dma, size)?,
            pool: NO_POOL,
            reports: (0..size.get()).collect(),
            first_report: 0,
            next_report: 0,
            next: 0,
            oldest: 0,
            contexts: 0,
            contexts_posted: 0,
            group: GROUP.min(size.get() / 4),
            reclaim_at: RECLAIM_ABOVE.min(size.get() - 1),
            doorbell,
            counters: TransmitCounters::default(),
            format,
        })
    }

    /// As if `index` descriptors, and as many reports, had come and gone; `index` is a multiple of
    /// the size.
    #[cfg(test)]
    pub(super) fn start_at(&mut self, index: u32) {
        self.next = index;
        self.oldest = index;
        self.first_report = index;
        self.next_report = index;
        self.contexts_posted = u32::MAX;
    }

    /// The device is done with what it was asked to report in this slot.
    #[cfg(test)]
    pub(super) fn finish_reported(&self, slot: u32) {
        if status(self.slots.descriptor(slot)) & F::REPORT != 0 {
            self.slots.add_to_status(slot, F::DONE);
        }
    }

    /// Where the device finds the descriptors.
    pub fn iova(&self) -> Iova {
        self.slots.iova()
    }

    /// How many descriptors there are.
    pub fn size(&self) -> u32 {
        self.slots.size()
    }

    /// What was counted so far.
    pub fn counters(&self) -> TransmitCounters {
        self.counters
    }

    /// Descriptors posted and not reclaimed.
    pub fn outstanding(&self) -> u32 {
        self.next.wrapping_sub(self.oldest)
    }

    /// For a device that may not stand still: this ring's memory is not given back when it is dropped, nor is
    /// what is posted, since the device may still write to both.
    pub fn withhold(&mut self) {
        self.slots.withhold();
    }

    /// Slots free for posting: one always stays empty, since head equal to tail means that.
    fn free(&self) -> u32 {
        self.slots.mask() - self.outstanding()
    }

    /// Gives every posted buffer back. The device must have been stopped.
    ///
    /// Returns how many came back: none where `pool` is not the one they are of.
    pub fn drain<P: BufferPool>(&mut self, pool: &mut P) -> u32 {
        // SAFETY: bounded by the ring, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        if self.outstanding() != 0 && self.pool != pool.key() {
            return 0;
        }
        let before = self.counters.reclaimed;
        self.release(pool, self.next);
        self.next = 0;
        self.oldest = 0;
        self.first_report = 0;
        self.next_report = 0;
        self.format.forget_context();
        self.pool = NO_POOL;
        (self.counters.reclaimed - before) as u32
    }
}
