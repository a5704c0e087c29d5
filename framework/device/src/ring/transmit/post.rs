//! The transmit ring's fast path: frames into slots, a cache line of four descriptors at a time where it can be.

use super::{Part, TransmitFormat, TransmitRing};
use crate::Whole;
use crate::ring::slots::write;
use crate::ring::{
    AbortOnUnwind, BufferId, BufferPool, Entry, EntrySource, ForeignPool, NO_BUFFER, give_frame,
};

/// Descriptors are asked for this far ahead of being written: the device was done with them a lap
/// ago, so their lines only wait to be fetched.
const PREFETCH_AHEAD: u32 = 32;

/// What became of a frame that is not plain.
enum Outcome {
    Posted,
    Full,
    Dropped,
}

impl<F: TransmitFormat> TransmitRing<F> {
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
