//! The receive ring: every slot always holds a buffer of ours; a filled one leaves only when a
//! fresh one takes its slot in the same step. An exhausted pool therefore stops reaping (frames wait
//! in the ring: back-pressure, counted) and never leaves a hole.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;

use super::slots::{Descriptor, Slots, status, write};
use super::{
    AbortOnUnwind, BufferAddresses, BufferId, BufferPool, Entry, EntrySink, ForeignPool, NO_BUFFER,
    NO_POOL, RingSize, give_frame,
};
use crate::{DmaError, DmaSpace, Doorbell, Iova, Whole};

/// Refilled slots are told to the device in groups of at least this many: eight cache lines.
const DOORBELL_GROUP: u32 = 32;

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

    /// Reaps a complete descriptor, whatever it is: no whole frame, or one of no plausible length.
    #[cold]
    #[inline(never)]
    fn reap_part<P: BufferPool, S: EntrySink>(&mut self, pool: &mut P, sink: &mut S) -> Step {
        if sink.room() == 0 {
            return Step::Nothing;
        }
        // SAFETY: the table knows it from here on.
        let Some(fresh) = (unsafe { pool.take() }) else {
            return self.starve(pool);
        };
        let (descriptor, holder) = self.slots.slot(self.next);
        let state = status(descriptor);
        let annotation = F::annotate(descriptor[0].load(Ordering::Relaxed), state);
        let entry = Entry::new(core::mem::replace(holder, fresh), annotation);
        write(descriptor, [address_of(pool, fresh), 0]);
        self.next = self.next.wrapping_add(1);
        self.assemble(pool, sink, entry, state & F::END == F::END)
    }

    /// Hands a whole frame to the sink. The caller made sure of room; from a sink that refuses all the
    /// same, the buffers go back to the pool.
    fn hand_over<P: BufferPool, S: EntrySink>(
        &mut self,
        pool: &mut P,
        sink: &mut S,
        frame: Entry,
        bytes: u32,
    ) -> Step {
        // SAFETY: the frame's buffers were posted, so this ring's, from the sink's pool; neither the
        // table nor `partial` knows them any more.
        if unsafe { sink.push(frame) } {
            self.counters.bytes += u64::from(bytes);
            Step::Frame
        } else {
            self.counters.refused += 1;
            // SAFETY: as above; the sink did not take them.
            unsafe { give_frame(pool, frame) };
            Step::Buffer
        }
    }

    /// The pool has no buffer to take the place of a completed one. A frame half assembled is given
    /// up, which yields some; else the frames wait.
    #[cold]
    fn starve<P: BufferPool>(&mut self, pool: &mut P) -> Step {
        self.counters.pool_exhausted += 1;
        if let Some(Partial::Assembling { head, .. }) = self.partial {
            // SAFETY: the buffers were posted, so this ring's, from this pool; `partial` forgets them.
            unsafe { give_frame(pool, head) };
            self.partial = Some(Partial::Skipping);
            *self.slots.apart() = NO_BUFFER;
            self.counters.starved += 1;
        }
        Step::Nothing
    }

    /// Takes a buffer that is not a whole frame: adds it to the frame it is part of and hands that
    /// over when it ends, or drops it.
    #[cold]
    fn assemble<P: BufferPool, S: EntrySink>(
        &mut self,
        pool: &mut P,
        sink: &mut S,
        entry: Entry,
        end: bool,
    ) -> Step {
        let step = self.add_part(pool, sink, entry, end);
        *self.slots.apart() = match &self.partial {
            Some(Partial::Assembling { head, last, .. }) => {
                // So that whoever finds the head there finds the whole of it, and no more.
                // SAFETY: it was posted, so this ring's.
                unsafe { pool.end(*last) };
                head.id()
            }
            Some(Partial::Skipping) | None => NO_BUFFER,
        };
        step
    }

    fn add_part<P: BufferPool, S: EntrySink>(
        &mut self,
        pool: &mut P,
        sink: &mut S,
        entry: Entry,
        end: bool,
    ) -> Step {
        let good = plausible(entry, pool.capacity());
        let (head, buffers, bytes) = match self.partial.take() {
            Some(Partial::Skipping) => {
                // SAFETY: the buffer was posted, so this ring's, and the table forgot it.
                unsafe { pool.give(&[entry.id()]) };
                self.partial = (!end).then_some(Partial::Skipping);
                return Step::Buffer;
            }
            None => (entry, 1, u32::from(entry.len())),
            Some(Partial::Assembling {
                head,
                last,
                buffers,
                bytes,
            }) => {
                // SAFETY: both buffers were posted, so this ring's, from this pool.
                unsafe { pool.link(last, entry.id(), entry.len()) };
                // Status, hash and tag of a frame are those of its last descriptor.
                let head = entry
                    .with_id(head.id())
                    .with_len(head.len())
                    .with_flags(entry.flags() | Entry::CHAINED);
                (head, buffers + 1, bytes + u32::from(entry.len()))
            }
        };
        if good && end {
            return self.hand_over(pool, sink, head, bytes);
        }
        if good && buffers < self.scatter.max_buffers {
            self.partial = Some(Partial::Assembling {
                head,
                last: entry.id(),
                buffers,
                bytes,
            });
            return Step::Buffer;
        }
        if good {
            self.counters.missing_end += 1;
        } else {
            self.counters.bad_length += 1;
        }
        // SAFETY: the frame's buffers were posted, so this ring's; `partial` was taken above.
        unsafe { give_frame(pool, head) };
        self.partial = (!end).then_some(Partial::Skipping);
        Step::Buffer
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

/// The address of a buffer that was just taken from `pool`.
#[inline(always)]
fn address_of<P: BufferPool>(pool: &P, taken: BufferId) -> u64 {
    // SAFETY: private to this file, whose callers took the id from this pool.
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
