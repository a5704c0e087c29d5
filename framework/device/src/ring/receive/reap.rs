//! The receive ring's fast path: completed descriptors out, fresh buffers in, a cache line of four at a time where it
//! can be. What is no whole frame is left to [`assemble`](super::assemble).

use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;

use super::{ReceiveFormat, ReceiveRing, Step, address_of, done, plausible};
use crate::Whole;
use crate::ring::slots::{Descriptor, status, write};
use crate::ring::{
    AbortOnUnwind, BufferAddresses, BufferId, BufferPool, Entry, EntrySink, ForeignPool, NO_POOL,
};

/// How far ahead of a complete line of descriptors another is asked for, to be read and refilled: two
/// lines, which the device then has most likely completed too.
const LINES_AHEAD: u32 = 8;

/// Calls for as many frames ask for their beginnings when they reap them: the last are there by the
/// time the first are dealt with. Smaller ones ask for those of the call after.
const PREFETCH_OWN: usize = 16;

/// Where frames are reaped one by one, the frame this far ahead is asked for, if it has come.
const PREFETCH_AHEAD: u32 = 4;

/// Descriptors in a cache line.
const LINE: usize = 4;

impl<F: ReceiveFormat> ReceiveRing<F> {
    /// Moves up to `limit` frames that the device completed into `sink`, refills their slots, and
    /// returns how many frames there were. A call ends after a lap of the ring,
    /// or `limit` frames, even if the device completes slots it has not been given.
    ///
    /// # Errors
    /// [`ForeignPool`] when `sink` takes buffers of another pool, or the ring was filled from
    /// another than `pool`.
    #[inline(always)]
    pub fn reap<P: BufferPool, S: EntrySink>(
        &mut self,
        pool: &mut P,
        sink: &mut S,
        limit: usize,
    ) -> Result<usize, ForeignPool> {
        if sink.pool_key() != self.pool {
            return self.unfilled(sink.pool_key(), pool.key());
        }
        if pool.key() != self.pool {
            return self.unfilled(sink.pool_key(), pool.key());
        }
        // SAFETY: bounded by a lap of the ring, and nothing in it fails; a driver's format is trusted.
        let _whole = unsafe { Whole::begin() };
        if limit == 1 {
            // The whole of such a call in few steps.
            match self.reap_one(pool, sink) {
                Step::Frame => {
                    self.counters.frames += 1;
                    return Ok(1);
                }
                Step::Nothing => return Ok(0),
                Step::Buffer => {}
            }
        }
        Ok(self.reap_many(pool, sink, limit))
    }

    /// What reaping gives without a buffer of the caller's pool in every slot: nothing, whatever the
    /// descriptors say.
    #[cold]
    #[inline(never)]
    fn unfilled(&self, sink: usize, pool: usize) -> Result<usize, ForeignPool> {
        if self.pool == NO_POOL && sink == pool {
            Ok(0)
        } else {
            Err(ForeignPool)
        }
    }

    /// Reaps up to `limit` frames, whole lines at once where it can, within a lap of the ring.
    #[inline(never)]
    fn reap_many<P: BufferPool, S: EntrySink>(
        &mut self,
        pool: &mut P,
        sink: &mut S,
        limit: usize,
    ) -> usize {
        let limit = limit.min(sink.room());
        if self.caught_up && limit >= LINE && self.is_patient(limit) {
            return 0;
        }
        let first = self.next;
        let mut frames = 0;
        while frames < limit {
            let left = limit - frames;
            if left >= LINE && self.next & 3 == 0 {
                let reaped = if left >= 2 * LINE {
                    self.reap_lines(pool, sink, left)
                } else {
                    self.reap_line(pool, sink)
                };
                frames += reaped;
                if reaped != 0 {
                    continue;
                }
            }
            match self.reap_one(pool, sink) {
                Step::Frame => frames += 1,
                Step::Buffer if self.next.wrapping_sub(first) < self.size() => {}
                Step::Buffer | Step::Nothing => break,
            }
        }
        self.caught_up = frames < limit;
        if self.prefetch && (LINE..PREFETCH_OWN).contains(&limit) {
            self.prefetch_for_next_call(pool.addresses(), limit);
        }
        self.counters.frames += frames as u64;
        self.announce_group();
        frames
    }

    /// Whether to come back later for a fuller batch: the last call had caught up with the device, not
    /// all of `limit` frames are there, and not many calls came back so far. Looks at the last of them
    /// only, whose descriptor the device is not writing.
    #[inline(always)]
    fn is_patient(&mut self, limit: usize) -> bool {
        let last = (limit as u32).min(self.size() / 2) - 1;
        let last = self.slots.descriptor(self.next.wrapping_add(last));
        if self.waited < self.patience && !done::<F>(status(last)) {
            self.waited += 1;
            return true;
        }
        self.waited = 0;
        false
    }

    /// Reaps the cache line of four whole frames that `next` is at the first of; how many frames that
    /// were: none, and nothing changed, unless all are complete, whole and of plausible length, and
    /// pool and sink have room. [`reap_one`](Self::reap_one) sees to those.
    #[inline(always)]
    fn reap_line<P: BufferPool, S: EntrySink>(&mut self, pool: &mut P, sink: &mut S) -> usize {
        if !self.begins_with_line() {
            return 0;
        }
        let (addresses, capacity) = (pool.addresses(), pool.capacity());
        // The top of the stock: those given back last.
        let fresh = pool.stock(LINE).first_chunk();
        let (Some(fresh), Some(room)) = (fresh, sink.spare(LINE).first_chunk_mut()) else {
            return 0;
        };
        let mut slots = self.slots.table();
        let (line, held) = slots.line(self.next);
        let Some(bytes) = read_line::<F>(line, held, room, capacity) else {
            return 0;
        };
        // SAFETY: the ids came from this pool's stock.
        unsafe { refill_line(line, held, fresh, addresses) };
        // SAFETY: the last four of the stock, all that it showed, are in the table now, and the buffers
        // that were there before, of the same pool, fill the first four of the sink's room.
        unsafe {
            pool.use_stock(LINE);
            sink.filled(LINE);
        }
        self.counters.bytes += bytes;
        self.next = self.next.wrapping_add(LINE as u32);
        LINE
    }

    /// As [`reap_line`](Self::reap_line), line by line up to `limit` frames: more to begin with, less a
    /// line.
    #[inline(always)]
    fn reap_lines<P: BufferPool, S: EntrySink>(
        &mut self,
        pool: &mut P,
        sink: &mut S,
        limit: usize,
    ) -> usize {
        if !self.begins_with_line() {
            return 0;
        }
        let (addresses, capacity) = (pool.addresses(), pool.capacity());
        // From the top of the stock: those given back last.
        let (_, fresh) = pool.stock(limit & !3).as_rchunks::<LINE>();
        let (room, _) = sink.spare(limit & !3).as_chunks_mut::<LINE>();
        let mut slots = self.slots.table();
        let (mut next, mut bytes) = (self.next, 0);
        let uneven = AbortOnUnwind;
        for (fresh, room) in fresh.iter().rev().zip(room) {
            let (line, held) = slots.line(next);
            let Some(line_bytes) = read_line::<F>(line, held, room, capacity) else {
                break;
            };
            if self.prefetch && limit >= PREFETCH_OWN {
                held.iter().for_each(|id| addresses.prefetch(*id));
            }
            // SAFETY: the ids came from this pool's stock.
            unsafe { refill_line(line, held, fresh, addresses) };
            bytes += line_bytes;
            next = next.wrapping_add(LINE as u32);
        }
        let frames = next.wrapping_sub(self.next) as usize;
        // SAFETY: the last `frames` of the stock are in the table now, and the buffers that were
        // there before, of the same pool, fill the first `frames` of the sink's room.
        unsafe {
            pool.use_stock(frames);
            sink.filled(frames);
        }
        core::mem::forget(uneven);
        self.counters.bytes += bytes;
        self.next = next;
        frames
    }

    /// Whether the line that `next` is at the first of is complete and begins a frame. An idle ring
    /// wants no stock: looking for it can take the pool's lock and counts as want.
    #[inline(always)]
    fn begins_with_line(&self) -> bool {
        self.partial.is_none() && done::<F>(status(self.slots.descriptor(self.next | 3)))
    }

    /// Asks for the frames that the next call is likely to reap, as far as they have come.
    #[inline(always)]
    fn prefetch_for_next_call(&mut self, addresses: BufferAddresses, limit: usize) {
        for line in 0..(limit / LINE) as u32 {
            let first = self.next.wrapping_add(LINE as u32 * line);
            if !done::<F>(status(self.slots.descriptor(first | 3))) {
                return;
            }
            let mut slots = self.slots.table();
            let (_, slot) = slots.line(first);
            slot.iter().for_each(|id| addresses.prefetch(*id));
        }
    }

    /// Reaps one descriptor: a whole frame, or a part of one.
    #[inline(always)]
    fn reap_one<P: BufferPool, S: EntrySink>(&mut self, pool: &mut P, sink: &mut S) -> Step {
        if self.prefetch {
            let (ahead, id) = self.slots.slot(self.next.wrapping_add(PREFETCH_AHEAD));
            if done::<F>(status(ahead)) {
                pool.addresses().prefetch(*id);
            }
        }
        let next = self.next;
        let (descriptor, holder) = self.slots.slot(next);
        let state = status(descriptor);
        if !done::<F>(state) {
            return Step::Nothing;
        }
        let annotation = F::annotate(descriptor[0].load(Ordering::Relaxed), state);
        let entry = Entry::new(*holder, annotation);
        if state & F::END != F::END || self.partial.is_some() || !plausible(entry, pool.capacity())
        {
            return self.reap_part(pool, sink);
        }
        // SAFETY: the table knows it from here on, or it is given back.
        let Some(fresh) = (unsafe { pool.take() }) else {
            return self.starve(pool);
        };
        // SAFETY: the buffer was posted, so this ring's, from the sink's pool; the table knows another in
        // its place before anything else happens.
        if !unsafe { sink.push(entry) } {
            // SAFETY: it was just taken.
            unsafe { pool.give(&[fresh]) };
            return Step::Nothing;
        }
        *holder = fresh;
        write(descriptor, [address_of(pool, fresh), 0]);
        self.counters.bytes += u64::from(entry.len());
        self.next = next.wrapping_add(1);
        if self.next & 3 == 0 {
            self.begin_line();
        }
        Step::Frame
    }

    /// At the first descriptor of a cache line: tells the device of a group that is refilled, and asks
    /// for a line further on if this one is complete.
    #[inline(never)]
    fn begin_line(&mut self) {
        self.announce_group();
        if done::<F>(status(self.slots.descriptor(self.next | 3))) {
            let ahead = self.next.wrapping_add(LINES_AHEAD);
            self.slots.table().prefetch_for_write(ahead);
        }
    }

    /// Tells the device of refilled slots once they are a group.
    #[inline(always)]
    fn announce_group(&mut self) {
        if self.next.wrapping_sub(self.announced) >= self.announce_after {
            self.announce();
        }
    }
}

/// Reads a line of four completed descriptors into the sink's room, and returns the bytes in their
/// buffers; none unless they are four whole frames of plausible length.
#[inline(always)]
fn read_line<F: ReceiveFormat>(
    line: &[Descriptor; LINE],
    held: &[BufferId; LINE],
    room: &mut [MaybeUninit<Entry>; LINE],
    capacity: u16,
) -> Option<u64> {
    // The last of the line first: while the line is not complete, one load tells.
    let s3 = status(&line[3]);
    if !done::<F>(s3) {
        return None;
    }
    let states = [status(&line[0]), status(&line[1]), status(&line[2]), s3];
    // What is written to the room counts only once the line is found good.
    let (mut all, mut good, mut bytes) = (u64::MAX, true, 0);
    for i in 0..LINE {
        let detail = line[i][0].load(Ordering::Relaxed);
        let entry = Entry::new(held[i], F::annotate(detail, states[i]));
        all &= states[i];
        good &= plausible(entry, capacity);
        bytes += u64::from(entry.len());
        room[i].write(entry);
    }
    let whole = F::DONE | F::END;
    (good && all & whole == whole).then_some(bytes)
}

/// Posts fresh buffers in a line of descriptors, in the place of those held.
///
/// # Safety
/// The ids came from the pool whose addresses these are.
#[inline(always)]
unsafe fn refill_line(
    line: &[Descriptor; LINE],
    held: &mut [BufferId; LINE],
    fresh: &[BufferId; LINE],
    addresses: BufferAddresses,
) {
    for (descriptor, id) in line.iter().zip(fresh) {
        // SAFETY: the caller's promise.
        let address = unsafe { addresses.of(*id) };
        write(descriptor, [address.to_bits(), 0]);
    }
    *held = *fresh;
}
