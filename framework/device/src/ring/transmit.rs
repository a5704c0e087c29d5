//! The transmit ring: takes filled buffers as long as it has slots, and gives them back to the pool
//! once the device reported them done, never earlier.
//!
//! The device is asked to report at the last descriptor of every call, so that what was posted
//! before a queue went idle can be reclaimed too.

use alloc::boxed::Box;

use super::descriptors::Descriptors;
use super::{
    BufferId, BufferPool, Entry, EntrySource, ForeignPool, NO_BUFFER, RingSize, give_frame,
};
use crate::{DmaError, DmaSpace, Doorbell, Iova};

/// Descriptors are asked for this far ahead of being written: the device was done with them a lap
/// ago, so their lines only wait to be fetched.
const PREFETCH_AHEAD: u32 = 32;

/// Above this many posted descriptors, finished ones are looked for at each call.
const RECLAIM_ABOVE: u32 = 64;

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
    /// Their bytes.
    pub bytes: u64,
    /// Times a source kept frames because no slot was free.
    pub full: u64,
    /// Frames dropped because they span more buffers than the ring has slots.
    pub too_long: u64,
    /// Buffers reported done, or drained, and given back to the pool.
    pub reclaimed: u64,
}

/// What became of a frame that is not plain.
enum Outcome {
    Posted,
    Full,
    Dropped,
}

/// Filled buffers out to the device.
pub struct TransmitRing<F> {
    descriptors: Descriptors,
    /// The buffer posted in each slot ([`NO_BUFFER`] for a context); the device cannot touch this.
    posted: Box<[BufferId]>,
    /// The pool ([`BufferPool::key`]) whose buffers are posted; changes only when none is.
    pool: Option<usize>,
    /// Slots at which the device was asked to report: a queue, `first_report..next_report`.
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
            descriptors: Descriptors::allocate(dma, size)?,
            posted: (0..size.get()).map(|_| NO_BUFFER).collect(),
            pool: None,
            reports: (0..size.get()).collect(),
            first_report: 0,
            next_report: 0,
            next: 0,
            oldest: 0,
            contexts: 0,
            contexts_posted: 0,
            doorbell,
            counters: TransmitCounters::default(),
            format,
        })
    }

    /// Where the device finds the descriptors.
    pub fn iova(&self) -> Iova {
        self.descriptors.iova()
    }

    /// How many descriptors there are.
    pub fn size(&self) -> u32 {
        self.descriptors.mask() + 1
    }

    /// What was counted so far.
    pub fn counters(&self) -> TransmitCounters {
        self.counters
    }

    /// Descriptors posted and not reclaimed.
    pub fn outstanding(&self) -> u32 {
        self.next.wrapping_sub(self.oldest)
    }

    /// Slots free for posting: one always stays empty, since head equal to tail means that.
    fn free(&self) -> u32 {
        self.descriptors.mask() - self.outstanding()
    }

    /// Posts as many of the source's frames as there are slots for, in order, with one doorbell,
    /// and returns how many left the source. The rest stay where they are.
    ///
    /// # Errors
    /// [`ForeignPool`] when the source's buffers are of another pool, or buffers of another pool than
    /// `pool` are still posted.
    #[inline]
    pub fn post<P: BufferPool, S: EntrySource>(
        &mut self,
        pool: &mut P,
        source: &mut S,
    ) -> Result<usize, ForeignPool> {
        if source.pool_key() != pool.key() {
            return Err(ForeignPool);
        }
        if self.pool != Some(pool.key()) {
            self.bind(pool.key())?;
        }
        let waiting = source.entries().len();
        if self.outstanding() > RECLAIM_ABOVE || (self.free() as usize) < waiting {
            let keep = if (self.free() as usize) < waiting {
                0
            } else {
                RECLAIM_ABOVE / 2
            };
            self.reclaim_down_to(pool, keep);
        }
        let before = (self.next, self.contexts_posted);
        let mut taken = 0;
        while taken < waiting {
            let plain = self.post_plain(pool, source.entries().get(taken..).unwrap_or(&[]));
            taken += plain;
            let Some(frame) = source.entries().get(taken).copied() else {
                break;
            };
            match self.post_other(pool, frame) {
                Outcome::Posted | Outcome::Dropped => taken += 1,
                Outcome::Full => break,
            }
        }
        // SAFETY: the buffers of the first `taken` entries are posted, and will be given back by
        // `reclaim` or `drain`, or were given back at once when the frame was dropped.
        unsafe { source.advance(taken) };
        self.counters.full += u64::from(taken < waiting);
        self.commit(pool, before);
        Ok(taken)
    }

    /// Makes the pool of this key the one whose buffers are posted.
    #[cold]
    fn bind(&mut self, key: usize) -> Result<(), ForeignPool> {
        if self.outstanding() != 0 {
            return Err(ForeignPool);
        }
        self.pool = Some(key);
        Ok(())
    }

    /// Posts the plain frames at the front of `frames` that there are slots for.
    #[inline(always)]
    fn post_plain<P: BufferPool>(&mut self, pool: &P, frames: &[Entry]) -> usize {
        let mut posted = 0;
        let mut bytes = 0;
        while posted < frames.len() {
            let slot = self.next & self.descriptors.mask();
            let free = self.free() as usize;
            // Up to the end of the ring, then again from its beginning.
            let slots = self.posted.get_mut(slot as usize..).unwrap_or(&mut []);
            let run = slots.iter_mut().zip(&frames[posted..]).take(free);
            let mut done = 0;
            for (holder, frame) in run {
                if frame.flags() & (F::OFFLOADS | Entry::CHAINED) != 0 {
                    break;
                }
                let index = slot + done;
                if index & 3 == 0 {
                    self.descriptors.prefetch_for_write(index + PREFETCH_AHEAD);
                }
                *holder = frame.id();
                let status = self.format.whole(frame.len());
                self.descriptors
                    .write(index, [pool.iova(frame.id()).to_bits(), status]);
                bytes += u64::from(frame.len());
                done += 1;
            }
            if done == 0 {
                break;
            }
            self.next = self.next.wrapping_add(done);
            posted += done as usize;
        }
        self.counters.frames += posted as u64;
        self.counters.bytes += bytes;
        posted
    }

    /// Posts a frame of several buffers, or one that asks for offloads.
    #[cold]
    fn post_other<P: BufferPool>(&mut self, pool: &mut P, frame: Entry) -> Outcome {
        let (buffers, frame_bytes) = measure(pool, frame);
        let needed = buffers + 1;
        if needed > self.descriptors.mask() {
            // SAFETY: `post` takes the frame from its source; it is posted nowhere.
            unsafe { give_frame(pool, frame) };
            self.counters.too_long += 1;
            return Outcome::Dropped;
        }
        if needed > self.free() {
            // `post` reckoned with one slot a frame.
            self.reclaim_down_to(pool, 0);
        }
        if needed > self.free() {
            return Outcome::Full;
        }
        if frame.flags() & F::OFFLOADS != 0
            && let Some(words) = self.format.context(frame)
            && words[1] & F::CONTEXT.0 == F::CONTEXT.1
        {
            self.write(NO_BUFFER, words);
            self.contexts += 1;
            self.contexts_posted = self.contexts_posted.wrapping_add(1);
        }
        let mut buffer = Some((frame.id(), frame.len()));
        let mut left = buffers;
        while let Some((id, len)) = buffer {
            left -= 1;
            let part = Part {
                frame,
                frame_bytes,
                len,
                last: left == 0,
            };
            self.write(id, [pool.iova(id).to_bits(), self.format.part(part)]);
            buffer = if left == 0 {
                None
            } else {
                pool.continuation(id)
            };
        }
        self.counters.frames += 1;
        self.counters.bytes += u64::from(frame_bytes);
        Outcome::Posted
    }

    fn write(&mut self, id: BufferId, words: [u64; 2]) {
        let slot = self.next & self.descriptors.mask();
        if let Some(holder) = self.posted.get_mut(slot as usize) {
            *holder = id;
            self.descriptors.write(slot, words);
            self.next = self.next.wrapping_add(1);
        }
    }

    /// Asks for a report at the last descriptor written since (`next`, `contexts_posted`) were as given,
    /// and rings the doorbell: the only place that does.
    #[inline(always)]
    fn commit<P: BufferPool>(&mut self, pool: &mut P, before: (u32, u32)) {
        let posted = self.next.wrapping_sub(before.0);
        if posted == 0 {
            return;
        }
        let last = self.next.wrapping_sub(1);
        self.descriptors.add_to_status(last, F::REPORT);
        let mask = self.descriptors.mask();
        if let Some(report) = self.reports.get_mut((self.next_report & mask) as usize) {
            *report = last;
        }
        self.next_report = self.next_report.wrapping_add(1);
        let contexts = self.contexts_posted.wrapping_sub(before.1);
        pool.account(posted.wrapping_sub(contexts), 0);
        self.doorbell.ring(self.next & mask);
    }

    /// Gives back every buffer the device reported done. For idle moments: while frames are posted,
    /// [`post`](Self::post) does it by itself. Nothing comes back to a pool the buffers are not of.
    pub fn reclaim<P: BufferPool>(&mut self, pool: &mut P) {
        if self.pool == Some(pool.key()) {
            self.reclaim_down_to(pool, 0);
        }
    }

    /// Gives back finished buffers until at most `keep` descriptors are outstanding or the device
    /// reported no more.
    #[inline]
    fn reclaim_down_to<P: BufferPool>(&mut self, pool: &mut P, keep: u32) {
        let mask = self.descriptors.mask();
        let mut done = self.oldest;
        while self.first_report != self.next_report && self.next.wrapping_sub(done) > keep {
            let slot = self.reports.get((self.first_report & mask) as usize);
            let Some(slot) = slot.copied() else { break };
            if self.descriptors.status(slot) & F::DONE != F::DONE {
                break;
            }
            self.first_report = self.first_report.wrapping_add(1);
            done = slot.wrapping_add(1);
        }
        self.release(pool, done);
    }

    /// Gives back the buffers of the slots before `end`. `pool` is the one they are of.
    #[inline]
    fn release<P: BufferPool>(&mut self, pool: &mut P, end: u32) {
        let count = end.wrapping_sub(self.oldest);
        if count == 0 {
            return;
        }
        let mask = self.descriptors.mask();
        let start = (self.oldest & mask) as usize;
        let size = self.posted.len();
        let contexts = self.contexts;
        let whole = start..(start + count as usize).min(size);
        let wrapped = 0..(start + count as usize).saturating_sub(size);
        for range in [whole, wrapped] {
            let Some(slots) = self.posted.get(range) else {
                continue;
            };
            if self.contexts == 0 {
                // SAFETY: these slots were posted since they were last released, each with a buffer
                // of this pool, and are released now: `oldest` moves past them below.
                unsafe { pool.give(slots) };
                continue;
            }
            for id in slots {
                if *id == NO_BUFFER {
                    self.contexts -= 1;
                } else {
                    // SAFETY: as above.
                    unsafe { pool.give(core::slice::from_ref(id)) };
                }
            }
        }
        let buffers = count - (contexts - self.contexts);
        pool.account(0, buffers);
        self.counters.reclaimed += u64::from(buffers);
        self.oldest = end;
    }

    /// Gives every posted buffer back. The device must have been stopped.
    ///
    /// Returns how many came back: none where `pool` is not the one they are of.
    pub fn drain<P: BufferPool>(&mut self, pool: &mut P) -> u32 {
        if self.outstanding() != 0 && self.pool != Some(pool.key()) {
            return 0;
        }
        let before = self.counters.reclaimed;
        self.release(pool, self.next);
        self.next = 0;
        self.oldest = 0;
        self.first_report = 0;
        self.next_report = 0;
        self.format.forget_context();
        self.pool = None;
        (self.counters.reclaimed - before) as u32
    }
}

/// Buffers and bytes of a frame.
fn measure<P: BufferPool>(pool: &P, frame: Entry) -> (u32, u32) {
    let mut buffers = 1;
    let mut bytes = u32::from(frame.len());
    let mut id = frame.id();
    while frame.flags() & Entry::CHAINED != 0
        && let Some((next, len)) = pool.continuation(id)
    {
        buffers += 1;
        bytes += u32::from(len);
        id = next;
    }
    (buffers, bytes)
}
