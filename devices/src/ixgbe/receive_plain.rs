//! The receive path's fast loops: frames that fit one buffer, with nothing to strip and nothing
//! wrong, into one queue or, by RSS, into several.
//!
//! Payloads first, then write-backs, several to a cache line. What a descriptor says comes from
//! [`Verdicts`]; whatever they do not cover ends the loop and goes frame by frame.
//!
//! Invariant: a loop ends before the first frame, descriptor or ring it cannot handle whole.

use std::sync::atomic::{AtomicU64, Ordering};

use super::describe::word;
use super::device::{BATCH, Cells, Core, Plan, cell};
use super::receive::{MIN_FRAME, ReceiveQueue, wrapped};
use super::registers::{self as r, QueueRegister};
use super::statistics::Batch;
use super::verdict::Verdicts;
use crate::memory::{Access, GuestRing, Nearby};
use crate::wire::{Intake, ShortFrame, Wire};

/// Queues RSS spreads over.
const STEERED: usize = 16;

/// Why a fast loop ended.
pub(super) enum Stop {
    /// No frame is due.
    Idle,
    /// A full batch.
    Full,
    /// What was read ahead is used up.
    Again,
    /// There is a frame, but no descriptor.
    Empty,
    /// The next frame, or the ring, needs the long way.
    Special,
}

impl Core {
    /// Up to `limit` frames on the fast way, and why there were no more.
    #[inline(always)]
    pub(super) fn receive_plain<W: Wire>(
        &mut self,
        access: &Access<'_>,
        wire: &mut W,
        now_ns: u64,
        limit: usize,
    ) -> (usize, Stop) {
        if self.plan.spreads {
            self.receive_steered(access, wire, now_ns, limit)
        } else {
            self.receive_single(access, wire, now_ns, limit)
        }
    }

    /// Queue 0 only, with or without a hash.
    #[inline(never)]
    fn receive_single<W: Wire>(
        &mut self,
        access: &Access<'_>,
        wire: &mut W,
        now_ns: u64,
        limit: usize,
    ) -> (usize, Stop) {
        let queue = &mut self.receive[0];
        let Some(ring) = queue.fast_ring(access) else {
            return (0, Stop::Special);
        };
        if queue.used == queue.cached {
            if wire.peek(now_ns).is_none() {
                return (0, Stop::Idle);
            }
            match queue.refill(access, &ring, &self.cells, 0) {
                Refill::Some => {}
                Refill::None => return (0, Stop::Empty),
                Refill::BadTail => return (0, Stop::Special),
            }
        }
        let addresses = &queue.cache[queue.used..queue.cached];
        let full = limit.min(addresses.len());
        let mut intake = Single {
            memory: access.stretch(&mut self.buffers, addresses[0]),
            addresses,
            staged: &mut self.staged,
            frames: 0,
            gate: Gate::new(&self.plan, queue.buffer_size),
            verdicts: &mut self.verdicts,
            batch: Batch::default(),
            shortest: 0,
            special: false,
        };
        let frames = wire.deliver(now_ns, full, &mut intake);
        intake.settle();
        let batch = intake.batch;
        let stop = match (intake.special, frames) {
            (true, _) => Stop::Special,
            (_, frames) if frames == limit => Stop::Full,
            (_, frames) if frames == full => Stop::Again,
            _ => Stop::Idle,
        };
        queue.used += frames;
        if frames > 0 {
            queue.write_back_all(&ring, &self.staged[..frames]);
            let (set, cause) = (queue.statistics_set, queue.cause);
            (self.statistics).received(set, &batch, batch.bytes);
            if cause != 0 {
                self.raise(cause);
            }
        }
        (frames, stop)
    }

    /// The queues RSS selects.
    #[inline(never)]
    fn receive_steered<W: Wire>(
        &mut self,
        access: &Access<'_>,
        wire: &mut W,
        now_ns: u64,
        limit: usize,
    ) -> (usize, Stop) {
        let near = self.receive[0].cache[0];
        let mut intake = Steered {
            access,
            memory: access.stretch(&mut self.buffers, near),
            cells: &self.cells,
            queues: &mut self.receive[..STEERED],
            gate: Gate::new(&self.plan, usize::MAX),
            verdicts: &mut self.verdicts,
            batches: [Batch::default(); STEERED],
            touched: 0,
            stop: None,
        };
        let frames = wire.deliver(now_ns, limit, &mut intake);
        let (batches, mut touched) = (intake.batches, intake.touched);
        let stop = match intake.stop.take() {
            Some(stop) => stop,
            None if frames == limit => Stop::Full,
            None => Stop::Idle,
        };
        while touched != 0 {
            let number = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            let queue = &mut self.receive[number];
            queue.write_back_pending(access);
            let (set, cause) = (queue.statistics_set, queue.cause);
            let batch = &batches[number];
            (self.statistics).received(set, batch, batch.bytes);
            if cause != 0 {
                self.raise(cause);
            }
        }
        (frames, stop)
    }
}

/// What came of reading descriptors ahead.
enum Refill {
    Some,
    None,
    BadTail,
}

impl ReceiveQueue {
    /// The ring, if the queue is one for the fast loops.
    #[inline(always)]
    fn fast_ring<'a>(&mut self, access: &'a Access<'_>) -> Option<GuestRing<'a>> {
        if !self.enabled || self.stopped || !self.advanced {
            return None;
        }
        let near = access.stretch(&mut self.ring_stretch, self.base);
        near.ring(self.base, self.count)
    }

    /// Reads descriptors ahead when all that were are used. The tail's register is looked at only
    /// when less than a batch is known of: its cache line is the driver's.
    #[inline(always)]
    fn refill(
        &mut self,
        access: &Access<'_>,
        ring: &GuestRing<'_>,
        cells: &Cells,
        number: usize,
    ) -> Refill {
        if self.available() < BATCH as u32 {
            let offset = r::receive_offset(number, QueueRegister::Tail);
            let tail = cell(&**cells, offset).map_or(0, |tail| tail.load(Ordering::Acquire));
            if tail >= self.count {
                return Refill::BadTail;
            }
            self.tail = tail;
        }
        self.read_ahead(access, ring);
        if self.cached == 0 {
            Refill::None
        } else {
            Refill::Some
        }
    }

    /// Reads descriptors ahead, as silicon does into its descriptor cache. Call with all used.
    #[inline(always)]
    fn read_ahead(&mut self, access: &Access<'_>, ring: &GuestRing<'_>) {
        let available = self.available() as usize;
        self.used = 0;
        self.cached = available.min(BATCH);
        if available >= 2 * BATCH {
            // The driver wrote these long ago; they will be written back next.
            ring.prefetch(wrapped(self.head + BATCH as u32, self.count), BATCH);
        }
        let first = ring.run(self.head, self.cached);
        let (before, after) = self.cache.split_at_mut(first.len());
        read_addresses(access, first, before);
        if self.cached > first.len() {
            read_addresses(access, ring.run(0, self.cached - first.len()), after);
        }
    }

    /// Writes back descriptors from the head on.
    #[inline(always)]
    fn write_back_all(&mut self, ring: &GuestRing<'_>, words: &[[u64; 2]]) {
        ring.write_all(self.head, words);
        self.advance(words.len() as u32);
    }

    /// Writes back what the loop over several queues staged.
    fn write_back_pending(&mut self, access: &Access<'_>) {
        let Some(ring) = self.fast_ring(access) else {
            return;
        };
        let staged = *self.staged;
        self.write_back_all(&ring, &staged[..self.pending]);
        self.pending = 0;
    }
}

/// Copies buffer addresses, and has the buffers brought nearer.
#[inline(always)]
fn read_addresses(access: &Access<'_>, ring: &[[AtomicU64; 2]], addresses: &mut [u64]) {
    let prefetch = access.prefetch();
    let (lines, rest) = ring.as_chunks::<4>();
    let (places, more) = addresses[..ring.len()].as_chunks_mut::<4>();
    for (line, places) in lines.iter().zip(places) {
        for (words, place) in line.iter().zip(places) {
            *place = words[0].load(Ordering::Relaxed);
            prefetch.write(*place);
        }
    }
    for (words, place) in rest.iter().zip(more) {
        *place = words[0].load(Ordering::Relaxed);
        prefetch.write(*place);
    }
}

/// Which frames pass at all.
struct Gate<'a> {
    plan: &'a Plan,
    longest: usize,
}

impl<'a> Gate<'a> {
    fn new(plan: &'a Plan, buffer_size: usize) -> Self {
        Self {
            plan,
            longest: plan.max_frame.min(buffer_size),
        }
    }

    /// Whether a frame passes the filters plainly.
    #[inline(always)]
    fn passes(&self, verdicts: &mut Verdicts, head: &[u8; MIN_FRAME], len: usize) -> bool {
        let start = word(head, 0);
        let passes = len <= self.longest && self.plan.filters.plainly(start);
        if passes {
            verdicts.passed = start << 16;
        }
        passes
    }
}

/// Takes frames into one queue.
struct Single<'a> {
    memory: Nearby<'a>,
    /// Where frames go, and what is said of them.
    addresses: &'a [u64],
    staged: &'a mut [[u64; 2]; BATCH],
    frames: usize,
    gate: Gate<'a>,
    verdicts: &'a mut Verdicts,
    batch: Batch,
    /// Frames of the shortest length to the last destination that passed, which are not in `batch` yet.
    shortest: u64,
    special: bool,
}

impl Single<'_> {
    /// Counts what was not counted frame by frame.
    fn settle(&mut self) {
        self.batch.frames += self.shortest;
        self.batch.bytes += self.shortest * MIN_FRAME as u64;
        self.batch
            .add_destination(self.verdicts.passed >> 16, self.shortest);
        self.shortest = 0;
    }

    fn try_take(&mut self, frame: &[u8]) -> Option<()> {
        self.settle();
        let head = frame.first_chunk::<MIN_FRAME>()?;
        if !self.gate.passes(self.verdicts, head, frame.len()) {
            return None;
        }
        let verdict = self.verdicts.of(head, frame, self.gate.plan)?;
        let &address = self.addresses.get(self.frames)?;
        let staged = self.staged.get_mut(self.frames)?;
        self.memory.slice(address, frame.len())?.write(frame);
        *staged = verdict.words;
        self.batch.add(frame);
        self.frames += 1;
        Some(())
    }
}

impl Intake for Single<'_> {
    #[inline]
    fn take(&mut self, frame: &[u8]) -> bool {
        let taken = self.try_take(frame).is_some();
        self.special |= !taken;
        taken
    }

    /// Frames like those before: to the same port, with a verdict that is known.
    #[inline(always)]
    fn take_short(&mut self, frames: &[ShortFrame]) -> usize {
        let (memory, known) = (self.memory, self.verdicts.known());
        let addresses = self.addresses.get(self.frames..).unwrap_or_default();
        let staged = self.staged.get_mut(self.frames..).unwrap_or_default();
        let mut taken = 0;
        for ((frame, &address), staged) in frames.iter().zip(addresses).zip(staged) {
            let Some(frame) = frame.first_chunk::<MIN_FRAME>() else {
                break;
            };
            let (Some(words), Some(buffer)) =
                (known.words(frame), memory.within(address, MIN_FRAME))
            else {
                break;
            };
            buffer.write(frame);
            *staged = *words;
            taken += 1;
        }
        self.frames += taken;
        self.shortest += taken as u64;
        taken
    }
}

/// Takes frames into the queues their hashes select.
struct Steered<'a> {
    access: &'a Access<'a>,
    memory: Nearby<'a>,
    cells: &'a Cells,
    queues: &'a mut [ReceiveQueue],
    gate: Gate<'a>,
    verdicts: &'a mut Verdicts,
    batches: [Batch; STEERED],
    /// Queues with something staged, a bit each.
    touched: u32,
    stop: Option<Stop>,
}

impl Steered<'_> {
    #[inline(always)]
    fn try_take(&mut self, frame: &[u8]) -> Result<(), Stop> {
        let head = frame.first_chunk::<MIN_FRAME>().ok_or(Stop::Special)?;
        if !self.gate.passes(self.verdicts, head, frame.len()) {
            return Err(Stop::Special);
        }
        let verdict = self.verdicts.of(head, frame, self.gate.plan);
        let verdict = verdict.ok_or(Stop::Special)?;
        let number = verdict.queue as usize;
        let queue = self.queues.get_mut(number).ok_or(Stop::Special)?;
        if frame.len() > queue.buffer_size {
            return Err(Stop::Special);
        }
        if self.touched >> number & 1 == 0 || queue.used == queue.cached {
            let ring = queue.fast_ring(self.access).ok_or(Stop::Special)?;
            if queue.used == queue.cached {
                queue.write_back_pending(self.access);
                match queue.refill(self.access, &ring, self.cells, number) {
                    Refill::Some => {}
                    Refill::None => return Err(Stop::Empty),
                    Refill::BadTail => return Err(Stop::Special),
                }
            }
            self.touched |= 1 << number;
        }
        let address = queue.cache[queue.used];
        let buffer = self.memory.slice(address, frame.len());
        buffer.ok_or(Stop::Special)?.write(frame);
        queue.staged[queue.pending] = verdict.words;
        queue.pending += 1;
        queue.used += 1;
        self.batches[number].add(frame);
        Ok(())
    }
}

impl Intake for Steered<'_> {
    #[inline(always)]
    fn take(&mut self, frame: &[u8]) -> bool {
        match self.try_take(frame) {
            Ok(()) => true,
            Err(stop) => {
                self.stop = Some(stop);
                false
            }
        }
    }
}
