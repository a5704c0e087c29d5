//! The transmit ring: takes filled buffers as long as it has slots, and gives them back to the pool
//! once the device reported them done, never earlier.
//!
//! The device is asked to report at the last descriptor of every call, so that what was posted
//! before a queue went idle can be reclaimed too. While frames are posted, one report in a group of
//! descriptors is looked at, and buffers are given back by groups.

use alloc::boxed::Box;

use super::slots::{Slots, status, write};
use super::{
    AbortOnUnwind, BufferId, BufferPool, Entry, EntrySource, ForeignPool, NO_BUFFER, NO_POOL,
    RingSize, give_frame,
};
use crate::{DmaError, DmaSpace, Doorbell, Iova, Whole};

/// Descriptors are asked for this far ahead of being written: the device was done with them a lap
/// ago, so their lines only wait to be fetched.
const PREFETCH_AHEAD: u32 = 32;

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

/// What became of a frame that is not plain.
enum Outcome {
    Posted,
    Full,
    Dropped,
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

    /// Slots free for posting: one always stays empty, since head equal to tail means that.
    fn free(&self) -> u32 {
        self.slots.mask() - self.outstanding()
    }

    /// Posts as many of the source's frames as there are slots for, in order, with one doorbell,
    /// and returns how many left the source. The rest stay where they are.
    ///
    /// # Errors
    /// [`ForeignPool`] when the source's buffers are of another pool, or buffers of another pool than
    /// `pool` are still posted.
    #[inline(always)]
    pub fn post<P: BufferPool, S: EntrySource>(
        &mut self,
        pool: &mut P,
        source: &mut S,
    ) -> Result<usize, ForeignPool> {
        if source.pool_key() != self.pool {
            self.bind(source.pool_key(), pool.key())?;
        }
        if pool.key() != self.pool {
            return Err(ForeignPool);
        }
        // SAFETY: bounded by the ring and the batch, and nothing in it fails; a driver's format is trusted.
        let _whole = unsafe { Whole::begin() };
        let entries = source.entries();
        if let [frame] = *entries
            && frame.flags() & (F::OFFLOADS | Entry::CHAINED) == 0
            && self.outstanding() < self.reclaim_at
        {
            self.post_one(pool, frame);
            // SAFETY: the buffer is posted, and will be given back by `reclaim` or `drain`.
            unsafe { source.empty() };
            return Ok(1);
        }
        // Not that it is: but larger batches bear registers spilled for the sake of single frames.
        core::hint::cold_path();
        Ok(self.post_many(pool, source))
    }

    /// Posts a single plain frame, for which there is a slot: the whole of a call in few steps.
    #[inline(always)]
    fn post_one<P: BufferPool>(&mut self, pool: &mut P, frame: Entry) {
        let status = self.format.whole(frame.len()) | F::REPORT;
        // SAFETY: a source's entries name buffers of the pool whose key it has, which is this.
        let address = unsafe { pool.addresses().of(frame.id()) }.to_bits();
        let slot = self.next;
        let (descriptor, holder) = self.slots.slot(slot);
        *holder = frame.id();
        write(descriptor, [address, status]);
        self.next = slot.wrapping_add(1);
        self.counters.frames += 1;
        self.counters.bytes += u64::from(frame.len());
        // SAFETY: one was posted just now.
        unsafe { pool.account(1, 0) };
        self.doorbell.ring(self.next & self.slots.mask());
        if self.next & 3 == 0 {
            self.begin_line(slot);
        }
    }

    /// Where a cache line of descriptors begins after a frame was posted by itself.
    #[inline(never)]
    fn begin_line(&mut self, before: u32) {
        self.note_report(before);
        self.slots
            .table()
            .prefetch_for_write(self.next.wrapping_add(PREFETCH_AHEAD));
    }

    /// Posts any frames.
    #[inline(always)]
    fn post_many<P: BufferPool, S: EntrySource>(&mut self, pool: &mut P, source: &mut S) -> usize {
        let waiting = source.entries().len();
        if self.outstanding() as usize + waiting > self.reclaim_at as usize {
            self.reclaim_ahead(pool, waiting);
        }
        let before = (self.next, self.contexts_posted);
        let uneven = AbortOnUnwind;
        let mut taken = self.post_plain(pool, source.entries());
        if taken < waiting {
            taken = self.post_rest(pool, source.entries(), taken, before.0);
            self.counters.full += u64::from(taken < waiting);
        }
        // SAFETY: the buffers of the first `taken` entries are posted, and will be given back by
        // `reclaim` or `drain`, or were given back at once when the frame was dropped.
        unsafe {
            match taken == waiting {
                true => source.empty(),
                false => source.advance(taken),
            }
        }
        core::mem::forget(uneven);
        self.commit(pool, before);
        taken
    }

    /// Posts what [`post_plain`](Self::post_plain) left from `taken` on: frames that are not plain,
    /// and the plain ones between them. Returns how many frames are posted or dropped now.
    #[cold]
    #[inline(never)]
    fn post_rest<P: BufferPool>(
        &mut self,
        pool: &mut P,
        all: &[Entry],
        mut taken: usize,
        told: u32,
    ) -> usize {
        while let Some(frame) = all.get(taken) {
            match self.post_other(pool, *frame, told) {
                Outcome::Posted | Outcome::Dropped => taken += 1,
                Outcome::Full => break,
            }
            taken += self.post_plain(pool, all.get(taken..).unwrap_or(&[]));
        }
        taken
    }

    /// Makes the pool of this key, which the source's must be, the one whose buffers are posted.
    #[cold]
    #[inline(never)]
    fn bind(&mut self, source: usize, key: usize) -> Result<(), ForeignPool> {
        if source != key || self.pool != key && self.outstanding() != 0 {
            return Err(ForeignPool);
        }
        self.pool = key;
        Ok(())
    }

    /// Posts the plain frames at the front of `frames` that there are slots for.
    #[inline(always)]
    fn post_plain<P: BufferPool>(&mut self, pool: &P, frames: &[Entry]) -> usize {
        let addresses = pool.addresses();
        let frames = frames.get(..self.free() as usize).unwrap_or(frames);
        let mut slots = self.slots.table();
        let (mut next, mut bytes) = (self.next, 0);
        let format = &self.format;
        let mut frames = frames;
        loop {
            // A whole cache line of descriptors at once, where four frames are there and plain.
            if next & 3 == 0
                && let Some((four, rest)) = frames.split_first_chunk::<4>()
                && four.iter().fold(0, |all, frame| all | frame.flags())
                    & (F::OFFLOADS | Entry::CHAINED)
                    == 0
            {
                slots.prefetch_for_write(next.wrapping_add(PREFETCH_AHEAD));
                let (line, holders) = slots.line(next);
                for i in 0..4 {
                    holders[i] = four[i].id();
                    // SAFETY: a source's entries name buffers of the pool whose key it has, which is this.
                    let address = unsafe { addresses.of(four[i].id()) }.to_bits();
                    write(&line[i], [address, format.whole(four[i].len())]);
                    bytes += u64::from(four[i].len());
                }
                next = next.wrapping_add(4);
                frames = rest;
                continue;
            }
            let Some((frame, rest)) = frames.split_first() else {
                break;
            };
            if frame.flags() & (F::OFFLOADS | Entry::CHAINED) != 0 {
                break;
            }
            if next & 3 == 0 {
                slots.prefetch_for_write(next.wrapping_add(PREFETCH_AHEAD));
            }
            let (descriptor, holder) = slots.slot(next);
            *holder = frame.id();
            // SAFETY: a source's entries name buffers of the pool whose key it has, which is this.
            let address = unsafe { addresses.of(frame.id()) }.to_bits();
            write(descriptor, [address, format.whole(frame.len())]);
            bytes += u64::from(frame.len());
            next = next.wrapping_add(1);
            frames = rest;
        }
        let posted = next.wrapping_sub(self.next) as usize;
        self.next = next;
        self.counters.frames += posted as u64;
        self.counters.bytes += bytes;
        posted
    }

    /// Posts a frame of several buffers, or one that asks for offloads. The device knows of the slots
    /// before `told`.
    #[cold]
    fn post_other<P: BufferPool>(&mut self, pool: &mut P, frame: Entry, told: u32) -> Outcome {
        let (buffers, frame_bytes) = measure(pool, frame);
        let needed = buffers + 1;
        if needed > self.slots.mask() {
            // SAFETY: `post` takes the frame from its source; it is posted nowhere.
            unsafe { give_frame(pool, frame) };
            self.counters.too_long += 1;
            return Outcome::Dropped;
        }
        if needed > self.free() {
            // `post` reckoned with one slot a frame.
            self.reclaim_all(pool, told);
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
            // SAFETY: the frame's buffers are of this pool, whose key its source has.
            let address = unsafe { pool.addresses().of(id) }.to_bits();
            self.write(id, [address, self.format.part(part)]);
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
        let (descriptor, holder) = self.slots.slot(self.next);
        *holder = id;
        write(descriptor, words);
        self.next = self.next.wrapping_add(1);
    }

    /// Asks for a report at the last descriptor written since (`next`, `contexts_posted`) were as given,
    /// and tells the device.
    #[inline(always)]
    fn commit<P: BufferPool>(&mut self, pool: &mut P, before: (u32, u32)) {
        let posted = self.next.wrapping_sub(before.0);
        if posted == 0 {
            return;
        }
        self.slots
            .add_to_status(self.next.wrapping_sub(1), F::REPORT);
        self.note_report(before.0);
        let contexts = self.contexts_posted.wrapping_sub(before.1);
        // SAFETY: so many were posted just now.
        unsafe { pool.account(posted.wrapping_sub(contexts), 0) };
        self.doorbell.ring(self.next & self.slots.mask());
    }

    /// Notes the report asked for at the last slot posted, if a group ended since `next` was `before`.
    #[inline(always)]
    fn note_report(&mut self, before: u32) {
        if (self.next ^ before) & !(self.group - 1) == 0 {
            return;
        }
        let place = (self.next_report & self.slots.mask()) as usize;
        if let Some(report) = self.reports.get_mut(place) {
            *report = self.next.wrapping_sub(1);
        }
        self.next_report = self.next_report.wrapping_add(1);
    }

    /// Gives back every buffer the device reported done. For idle moments: while frames are posted,
    /// [`post`](Self::post) does it by itself. Nothing comes back to a pool the buffers are not of.
    pub fn reclaim<P: BufferPool>(&mut self, pool: &mut P) {
        // SAFETY: bounded by the ring, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        if self.pool == pool.key() {
            self.reclaim_all(pool, self.next);
        }
    }

    /// Gives back finished buffers in time for `waiting` frames, and sets when to look again: not
    /// at every call while the device has finished nothing.
    #[cold]
    #[inline(never)]
    fn reclaim_ahead<P: BufferPool>(&mut self, pool: &mut P, waiting: usize) {
        if (self.free() as usize) < waiting {
            self.reclaim_all(pool, self.next);
        } else {
            self.reclaim_groups(pool, self.group);
        }
        let next_look = self.outstanding() + self.group;
        self.reclaim_at = next_look.max(RECLAIM_ABOVE).min(self.slots.mask());
    }

    /// Gives back all finished buffers: those of each group, or, when the last report asked for is in,
    /// those of every slot. `end` is what `next` was when the device was last told of it.
    fn reclaim_all<P: BufferPool>(&mut self, pool: &mut P, end: u32) {
        let last = self.slots.descriptor(end.wrapping_sub(1));
        if self.oldest != end && status(last) & F::DONE == F::DONE {
            self.first_report = self.next_report;
            self.release(pool, end);
        } else {
            self.reclaim_groups(pool, 0);
        }
    }

    /// Gives back finished buffers by groups until at most `keep` descriptors are outstanding or the
    /// device reported no more.
    #[inline]
    fn reclaim_groups<P: BufferPool>(&mut self, pool: &mut P, keep: u32) {
        let mut done = self.oldest;
        while self.first_report != self.next_report && self.next.wrapping_sub(done) > keep {
            let slot = self.report(self.first_report);
            if status(self.slots.descriptor(slot)) & F::DONE != F::DONE {
                break;
            }
            self.first_report = self.first_report.wrapping_add(1);
            done = slot.wrapping_add(1);
        }
        self.release(pool, done);
    }

    /// The slot of a report asked for.
    fn report(&self, report: u32) -> u32 {
        let index = (report & self.slots.mask()) as usize;
        self.reports.get(index).copied().unwrap_or(0)
    }

    /// Gives back the buffers of the slots before `end`. `pool` is the one they are of.
    #[inline]
    fn release<P: BufferPool>(&mut self, pool: &mut P, end: u32) {
        let count = end.wrapping_sub(self.oldest);
        if count == 0 {
            return;
        }
        let mask = self.slots.mask();
        let start = (self.oldest & mask) as usize;
        let size = self.slots.size() as usize;
        let contexts = self.contexts;
        let whole = start..(start + count as usize).min(size);
        let wrapped = 0..(start + count as usize).saturating_sub(size);
        for range in [whole, wrapped] {
            let Some(slots) = self.slots.posted().get_mut(range) else {
                continue;
            };
            if self.contexts == 0 {
                // SAFETY: these slots were posted since they were last released, each with a buffer
                // of this pool, and are released now: `oldest` moves past them below.
                unsafe { pool.give(slots) };
            } else {
                for id in &*slots {
                    if *id == NO_BUFFER {
                        self.contexts -= 1;
                    } else {
                        // SAFETY: as above.
                        unsafe { pool.give(core::slice::from_ref(id)) };
                    }
                }
            }
            slots.fill(NO_BUFFER);
        }
        let buffers = count - (contexts - self.contexts);
        // SAFETY: so many came back just now.
        unsafe { pool.account(0, buffers) };
        self.counters.reclaimed += u64::from(buffers);
        self.oldest = end;
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
