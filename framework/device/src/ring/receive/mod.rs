//! The receive ring: every slot always holds a buffer of ours; a filled one leaves only when a
//! fresh one takes its slot in the same step. An exhausted pool therefore stops reaping (frames wait
//! in the ring: back-pressure, counted) and never leaves a hole.
//!
//! Here is a ring's beginning and end; `reap` is the way of frames out of it, `assemble` of those of several buffers.

mod assemble;
mod reap;

use core::marker::PhantomData;

use super::slots::{Slots, status, write};
use super::{BufferId, BufferPool, Entry, NO_BUFFER, NO_POOL, RingSize, give_frame};
use crate::{DmaError, DmaSpace, Doorbell, Iova, Whole};

/// Refilled slots are told to the device in groups of at least this many: eight cache lines.
const DOORBELL_GROUP: u32 = 32;

/// What the bits of a completed receive descriptor mean. The device writes both words, the status
/// word last; of what they say only the length is acted on here, and it is checked.
pub trait ReceiveFormat {
    /// Bits of the status word that are all set when the descriptor is complete.
    const DONE: u64;
    /// Bits of the status word that are all set when a frame ends in this buffer.
    const END: u64;

    /// An entry's words ([`Entry::new`]) from a completed descriptor's.
    fn annotate(detail: u64, status: u64) -> [u64; 2];
}

/// What to do with frames longer than one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scatter {
    /// The most buffers a frame may span; one that does not end by then is dropped and counted.
    pub max_buffers: u16,
}

/// What a receive ring counted. Nothing it drops is dropped without one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveCounters {
    /// Frames handed over.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames dropped because the device reported a buffer with no byte, or with more than it has.
    pub bad_length: u64,
    /// Frames dropped because they did not end within [`Scatter::max_buffers`].
    pub missing_end: u64,
    /// Frames of several buffers dropped half assembled because the pool had no buffer to take the
    /// place of the next. Were they kept, rings that wait for each other's buffers, or one ring
    /// whose pool is small, would wait for good.
    pub starved: u64,
    /// Frames dropped because the sink refused them after it had said that it had room.
    pub refused: u64,
    /// Times reaping stopped because the pool had no buffer; the frames wait in the ring.
    pub pool_exhausted: u64,
}

/// A frame of several buffers under way.
enum Partial {
    /// Began but has not ended yet.
    Assembling {
        head: Entry,
        last: BufferId,
        buffers: u16,
        bytes: u32,
    },
    /// Was dropped; what follows up to its end goes too.
    Skipping,
}

/// What one descriptor gave.
enum Step {
    /// The end of a frame that was handed over.
    Frame,
    /// A buffer, but no frame.
    Buffer,
    /// Nothing: not complete, or no fresh buffer to take its place.
    Nothing,
}

/// Empty buffers out to the device, filled ones back.
pub struct ReceiveRing<F> {
    /// A buffer in every slot once filled.
    slots: Slots,
    /// The pool ([`BufferPool::key`]) whose buffers are posted; none posted, [`NO_POOL`].
    pool: usize,
    /// Next slot the device completes. Free running; masked on use.
    next: u32,
    /// `next` as it was when the tail was last told to the device.
    announced: u32,
    /// How many refilled slots the device is told of together.
    announce_after: u32,
    doorbell: Doorbell,
    /// Whether the last call found fewer frames than it asked for.
    caught_up: bool,
    /// How many calls may come back with nothing while a batch is not full yet, and how many did.
    patience: u8,
    waited: u8,
    /// Whether frames are looked into soon after they are reaped.
    prefetch: bool,
    partial: Option<Partial>,
    scatter: Scatter,
    counters: ReceiveCounters,
    format: PhantomData<fn() -> F>,
}

impl<F: ReceiveFormat> ReceiveRing<F> {
    /// A ring of `size` descriptors, no buffer posted yet.
    ///
    /// # Errors
    /// [`DmaError`] when there is no memory for the descriptors.
    pub fn new(
        dma: &dyn DmaSpace,
        size: RingSize,
        doorbell: Doorbell,
        scatter: Scatter,
    ) -> Result<Self, DmaError> {
        Ok(Self {
            slots: Slots::allocate(dma, size)?,
            pool: NO_POOL,
            next: 0,
            announced: 0,
            announce_after: DOORBELL_GROUP.min(size.get() / 4),
            doorbell,
            caught_up: false,
            patience: 0,
            waited: 0,
            prefetch: false,
            partial: None,
            scatter,
            counters: ReceiveCounters::default(),
            format: PhantomData,
        })
    }

    /// As if `index` descriptors had come and gone; `index` is a multiple of the size.
    #[cfg(test)]
    pub(super) fn start_at(&mut self, index: u32) -> &Slots {
        self.next = index;
        self.announced = index;
        &self.slots
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
    pub fn counters(&self) -> ReceiveCounters {
        self.counters
    }

    /// The next slot the device is to complete, as an index into the ring.
    pub fn next_index(&self) -> u32 {
        self.next & self.slots.mask()
    }

    /// Whether to ask for the first cache line of frames as they are reaped: for users who look into
    /// frames. Those who only pass them on are faster without.
    pub fn set_prefetch(&mut self, on: bool) {
        self.prefetch = on;
    }

    /// How many calls for four frames or more may come back with nothing although some have come,
    /// for a batch to fill, once the device has been caught up with: the device, whose cache lines
    /// are left alone meanwhile, and everything after it do better with full batches. Zero at first:
    /// what has come is taken at once.
    pub fn set_patience(&mut self, calls: u8) {
        self.patience = calls;
    }

    /// For a device that may not stand still: this ring's memory is not given back when it is dropped, nor is
    /// what is posted, since the device may still write to both.
    pub fn withhold(&mut self) {
        self.slots.withhold();
    }

    /// How many completed descriptors wait, looking at `limit` of them at most.
    pub fn completed(&self, limit: u32) -> u32 {
        (0..limit.min(self.size()))
            .take_while(|i| done::<F>(status(self.slots.descriptor(self.next.wrapping_add(*i)))))
            .count() as u32
    }

    /// Puts a buffer into every slot. The device starts at slot 0; it is told of them by
    /// [`announce`](Self::announce), once its queue is enabled.
    ///
    /// # Errors
    /// How many buffers the pool lacked; then none is posted. All of them, where buffers of another
    /// pool are still posted: they stay, [`drain`](Self::drain) them into their own pool.
    pub fn fill<P: BufferPool>(&mut self, pool: &mut P) -> Result<(), u32> {
        // SAFETY: bounded by the ring, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        self.drain(pool);
        if self.pool != NO_POOL {
            return Err(self.size());
        }
        for slot in 0..self.size() {
            // SAFETY: the slot below knows it, or it is given back.
            let Some(id) = (unsafe { pool.take() }) else {
                let (taken, _) = self.slots.posted().split_at_mut(slot as usize);
                // SAFETY: they were just taken from this pool, and the table forgets them next.
                unsafe { pool.give(taken) };
                taken.fill(NO_BUFFER);
                return Err(self.size() - slot);
            };
            let (descriptor, holder) = self.slots.slot(slot);
            *holder = id;
            write(descriptor, [address_of(pool, id), 0]);
        }
        self.pool = pool.key();
        // SAFETY: so many were posted just now.
        unsafe { pool.account(self.size(), 0) };
        Ok(())
    }

    /// Tells the device of every refilled slot but the one before the next to complete: a head
    /// equal to the tail means an empty ring.
    pub fn announce(&mut self) {
        self.announced = self.next;
        self.doorbell
            .ring(self.next.wrapping_sub(1) & self.slots.mask());
    }

    /// Gives every posted buffer back, and those of a frame that has not ended. The device must
    /// have been stopped: what it still wrote would land in buffers that others use.
    ///
    /// Returns how many buffers came back: none where `pool` is not the one they are of.
    pub fn drain<P: BufferPool>(&mut self, pool: &mut P) -> u32 {
        // SAFETY: bounded by the ring, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        if self.pool != pool.key() {
            return 0;
        }
        let mut returned = 0;
        if let Some(Partial::Assembling { head, buffers, .. }) = self.partial.take() {
            // SAFETY: the buffers were posted, so this ring's, from this pool; the frame is gone.
            unsafe { give_frame(pool, head) };
            returned += u32::from(buffers);
        }
        self.partial = None;
        *self.slots.apart() = NO_BUFFER;
        // SAFETY: `pool` is set, so each slot holds a buffer of this pool; the table forgets them.
        unsafe { pool.give(self.slots.posted()) };
        self.slots.posted().fill(NO_BUFFER);
        self.pool = NO_POOL;
        // SAFETY: so many came back just now.
        unsafe { pool.account(0, self.size()) };
        self.next = 0;
        self.announced = 0;
        returned + self.size()
    }
}

/// The address of a buffer that was just taken from `pool`.
#[inline(always)]
fn address_of<P: BufferPool>(pool: &P, taken: BufferId) -> u64 {
    // SAFETY: private to this module, whose callers took the id from this pool.
    unsafe { pool.addresses().of(taken) }.to_bits()
}

#[inline(always)]
fn done<F: ReceiveFormat>(status: u64) -> bool {
    status & F::DONE == F::DONE
}

/// At least one byte and no more than the buffer has: a zero wraps to the largest value.
#[inline(always)]
fn plausible(entry: Entry, capacity: u16) -> bool {
    entry.len().wrapping_sub(1) < capacity
}
