//! The plain case of the transmit path: one advanced descriptor a frame, and nothing to insert.
//!
//! Whole batches of descriptors are fetched at once, and their payloads brought nearer, before any is looked at.

use std::sync::atomic::{AtomicU64, Ordering};

use super::descriptor as d;
use super::device::{Core, PLAIN_FRAME};
use super::receive::MIN_FRAME;
use super::statistics::{BROADCAST, Batch};
use crate::memory::{Access, GuestRing, Nearby, ReadOnly};
use crate::wire::{SHORT_FRAME, ShortFrame, Wire};

impl Core {
    /// The plain loop. Returns how many frames were sent; it ends before anything special.
    #[inline(always)]
    pub(super) fn transmit_plain<W: Wire>(
        &mut self,
        access: &Access<'_>,
        ring: &GuestRing<'_>,
        wire: &mut W,
        now_ns: u64,
        queue: usize,
        limit: usize,
    ) -> usize {
        let state = &mut self.transmit[queue];
        let count = (state.available() as usize).min(limit);
        let descriptors = &mut self.staged[..count];
        let first = ring.run(state.head, count);
        let rest = ring.run(0, count - first.len());
        let (before, after) = descriptors.split_at_mut(first.len());
        fetch(access, first, before);
        fetch(access, rest, after);
        let Some(&[near, _]) = descriptors.first() else {
            return 0;
        };
        let memory = access.stretch(&mut state.buffers, near);
        let mut batch = Batch::default();
        let mut sent = 0;
        while let Some(left @ [next, ..]) = descriptors.get(sent..)
            && let Some(len) = plain_length(next[1])
        {
            let payload = &mut self.payload;
            let mut some = 0;
            if len == SHORT_FRAME {
                some = send_short(&memory, left, payload, wire, now_ns, &mut batch);
            }
            if some == 0 {
                some = send_long(&memory, next, &mut payload[..len], wire, now_ns, &mut batch);
            }
            sent += some;
            if some == 0 {
                break;
            }
        }
        if sent == 0 {
            return 0;
        }
        let report = state.finish(ring, &descriptors[..sent]);
        let cause = state.cause;
        self.statistics.transmitted(state.statistics_set, &batch);
        if report && cause != 0 {
            self.raise(cause);
        }
        sent
    }
}

/// Bytes of the frame that an advanced descriptor holds whole and that is to be sent as it is.
#[inline(always)]
fn plain_length(word: u64) -> Option<usize> {
    let len = d::data_length(word);
    let plain = word & d::TX_PLAIN_MASK == d::TX_PLAIN
        && (MIN_FRAME..=PLAIN_FRAME).contains(&len)
        && d::payload_length(word) == len;
    plain.then_some(len)
}

/// Copies descriptors, and has their payloads brought nearer.
#[inline(always)]
fn fetch(access: &Access<'_>, ring: &[[AtomicU64; 2]], descriptors: &mut [[u64; 2]]) {
    let prefetch = access.prefetch();
    let one = |(cells, words): (&[AtomicU64; 2], &mut [u64; 2])| {
        let address = cells[0].load(Ordering::Relaxed);
        *words = [address, cells[1].load(Ordering::Relaxed)];
        prefetch.read(address);
    };
    let (lines, rest) = ring.as_chunks::<4>();
    let (fours, more) = descriptors[..ring.len()].as_chunks_mut::<4>();
    for (line, four) in lines.iter().zip(fours) {
        line.iter().zip(four).for_each(one);
    }
    rest.iter().zip(more).for_each(one);
}

/// Sends frames of the shortest length, as long as descriptors are the same as the first and
/// payloads are in `memory`'s stretch. Returns how many the wire took.
///
/// All payloads are fetched before the wire looks at the first: it looks with narrow loads at what
/// wide stores wrote, and would have to wait for each to leave the store buffer.
#[inline(always)]
fn send_short<W: Wire>(
    memory: &Nearby<'_, ReadOnly>,
    descriptors: &[[u64; 2]],
    payloads: &mut [u8; PLAIN_FRAME],
    wire: &mut W,
    now_ns: u64,
    batch: &mut Batch,
) -> usize {
    let (slots, _) = payloads.as_chunks_mut::<64>();
    let asked = descriptors.first().map_or(0, |words| words[1]);
    let mut fetched = 0;
    // Bits that are set in all, or any, of the frames' beginnings.
    let (mut all, mut any) = (u64::MAX, 0);
    for (words, slot) in descriptors.iter().zip(slots.iter_mut()) {
        if (words[1] ^ asked) & !d::TX_REPORT != 0 {
            break;
        }
        let Some(payload) = memory.within(words[0], SHORT_FRAME) else {
            break;
        };
        payload.read(&mut slot[..SHORT_FRAME]);
        all &= start(slot);
        any |= start(slot);
        fetched += 1;
    }
    let sent = wire.transmit_short(now_ns, &slots[..fetched]);
    let frames = &slots[..sent.min(fetched)];
    batch.frames += frames.len() as u64;
    batch.bytes += (frames.len() * SHORT_FRAME) as u64;
    if (all ^ any) & BROADCAST == 0 {
        batch.add_destination(any, frames.len() as u64);
    } else {
        for frame in frames {
            batch.add_destination(start(frame), 1);
        }
    }
    frames.len()
}

/// The first eight bytes, byte 0 lowest.
#[inline(always)]
fn start(frame: &ShortFrame) -> u64 {
    frame
        .first_chunk()
        .map_or(0, |&bytes| u64::from_le_bytes(bytes))
}

/// Sends one frame; returns how many the wire took.
#[inline(never)]
fn send_long<W: Wire>(
    memory: &Nearby<'_, ReadOnly>,
    descriptor: &[u64; 2],
    frame: &mut [u8],
    wire: &mut W,
    now_ns: u64,
    batch: &mut Batch,
) -> usize {
    let Some(payload) = memory.slice(descriptor[0], frame.len()) else {
        return 0;
    };
    payload.read(frame);
    if !wire.transmit(now_ns, frame) {
        return 0;
    }
    batch.add(frame);
    1
}
