//! Writing transmit descriptors back (sections 7.2.3.5.1 and 8.2.3.9.10): at once where they ask for
//! it, or by threshold.
//!
//! With TXDCTL.WTHRESH zero a descriptor is written back when it is done and has RS. Above zero RS
//! does not matter: descriptors that are done accumulate and are written back in groups of so many.
//! TXDCTL.SWFLSH, disabling the queue, and the end of the interval of the queue's interrupt (EITR) write
//! back the rest.
//!
//! Invariant: descriptors are written back in ring order, once each, and only when they are done.

use std::sync::atomic::{AtomicU64, Ordering};

use super::descriptor as d;
use super::device::{Core, cell};
use super::receive::{distance, wrapped};
use super::registers::{self as r, QueueRegister};
use super::strict::Violation;
use super::transmit::TransmitQueue;
use crate::memory::{Access, GuestRing};

/// Descriptors the device holds of one queue (section 7.2.3.3).
const HELD: u32 = 40;

/// What is done and not written back yet, of one queue.
#[derive(Default)]
pub(super) struct WriteBack {
    /// TXDCTL as last acted upon.
    control: u32,
    /// How many descriptors are written back together; zero is those with RS, at once.
    threshold: u32,
    /// Descriptors that are done, up to the head, and that nobody was told of; none if `threshold`
    /// is zero.
    waiting: u32,
    /// Software waits for a flush.
    asked: bool,
    /// The queue is disabled as soon as it is flushed.
    closing: bool,
    /// When descriptors that wait were first seen by the timer.
    waits_since_ns: Option<u64>,
}

impl WriteBack {
    /// Nothing of the ring is done; what software asked for stays.
    pub fn restart(&mut self) {
        self.waiting = 0;
        self.closing = false;
        self.waits_since_ns = None;
    }
}

impl TransmitQueue {
    /// Consumes the descriptors at the head whose second words are in `done`, and writes back what
    /// is due. Returns whether software may have to be told.
    #[inline(always)]
    pub fn finish(&mut self, ring: &GuestRing<'_>, done: &[[u64; 2]]) -> bool {
        let head = wrapped(self.head + done.len() as u32, self.count);
        if self.write_back.threshold != 0 {
            return self.finish_later(ring, head);
        }
        let first = ring.run(self.head, done.len());
        let (before, after) = done.split_at(first.len());
        report(first, before);
        if !after.is_empty() {
            report(ring.run(0, after.len()), after);
        }
        self.head = head;
        true
    }

    /// Whether descriptors wait for others to be written back with.
    pub fn accumulates(&self) -> bool {
        self.write_back.threshold != 0 && self.head_write_back.is_none()
    }

    /// Consumes descriptors up to `head`; writes back the groups that are full. Returns whether
    /// there was one.
    #[inline(never)]
    pub fn finish_later(&mut self, ring: &GuestRing<'_>, head: u32) -> bool {
        let done = distance(self.head, head, self.count);
        self.head = head;
        let state = &mut self.write_back;
        // A driver that goes on without having been told overwrites what it was not told of.
        state.waiting = (state.waiting + done).min(self.count);
        let full = state.waiting - state.waiting % state.threshold.max(1);
        self.write_back_waiting(ring, full);
        full != 0
    }

    /// Consumes descriptors up to `head` that are never to be written back.
    pub fn skip_to(&mut self, ring: &GuestRing<'_>, head: u32) {
        self.write_back_waiting(ring, self.write_back.waiting);
        self.head = head;
    }

    /// Writes back the first `count` descriptors of those that wait.
    fn write_back_waiting(&mut self, ring: &GuestRing<'_>, count: u32) {
        let first = wrapped(self.head + self.count - self.write_back.waiting, self.count);
        let run = ring.run(first, count as usize);
        mark_done(run);
        mark_done(ring.run(0, count as usize - run.len()));
        self.write_back.waiting -= count;
    }
}

/// Writes back those that ask for it. Most do not: four are looked at together.
#[inline(always)]
fn report(cells: &[[AtomicU64; 2]], done: &[[u64; 2]]) {
    let one = |(cells, words): (&[AtomicU64; 2], &[u64; 2])| {
        if words[1] & d::TX_REPORT != 0 {
            cells[1].store(words[1] | d::TX_DONE, Ordering::Release);
        }
    };
    let (lines, rest) = cells.as_chunks::<4>();
    let (fours, more) = done[..cells.len()].as_chunks::<4>();
    for (line, four) in lines.iter().zip(fours) {
        if (four[0][1] | four[1][1] | four[2][1] | four[3][1]) & d::TX_REPORT != 0 {
            line.iter().zip(four).for_each(one);
        }
    }
    rest.iter().zip(more).for_each(one);
}

fn mark_done(cells: &[[AtomicU64; 2]]) {
    for cells in cells {
        let word = cells[1].load(Ordering::Relaxed);
        cells[1].store(word | d::TX_DONE, Ordering::Release);
    }
}

impl Core {
    /// TXDCTL was written: takes the thresholds and a flush from it.
    pub(super) fn write_back_written(&mut self, queue: usize, value: u32) {
        let state = &mut self.transmit[queue].write_back;
        let old = std::mem::replace(&mut state.control, value & !r::TXDCTL_FLUSH);
        let threshold = r::txdctl_write_back(value);
        if threshold != state.threshold && state.waiting != 0 {
            state.asked = true;
        }
        state.threshold = threshold;
        if value & r::TXDCTL_FLUSH != 0 {
            state.asked = true;
        }
        if state.asked && !self.flushing.contains(&queue) {
            self.flushing.push(queue);
        }
        if value & r::QUEUE_ENABLE != 0 && (old ^ value) & !r::TXDCTL_FLUSH != 0 {
            self.check_thresholds(queue, value);
        }
    }

    fn check_thresholds(&mut self, queue: usize, txdctl: u32) {
        let (prefetch, write_back) = (txdctl & 0x7F, r::txdctl_write_back(txdctl));
        if prefetch + write_back > HELD {
            self.violations.record(Violation::ThresholdsTooHigh, || {
                format!(
                    "TXDCTL({queue}): PTHRESH {prefetch} and WTHRESH {write_back} are more than \
                     the {HELD} descriptors the device holds"
                )
            });
        }
        let low = self.get(r::transmit_offset(queue, QueueRegister::WriteBackLow));
        if write_back != 0 && low & 1 != 0 {
            let broken = Violation::HeadWriteBackThreshold;
            self.violations.record(broken, || {
                format!("TXDCTL({queue}): WTHRESH {write_back} with head write-back")
            });
        }
    }

    /// Whether `queue`, which is to be disabled, has to be flushed first. ENABLE reads as set until
    /// that is done: then the ring is no longer written to.
    pub(super) fn closes_later(&mut self, queue: usize) -> bool {
        let state = &mut self.transmit[queue];
        if state.write_back.waiting == 0 || state.stopped {
            return false;
        }
        state.write_back.closing = true;
        if !self.flushing.contains(&queue) {
            self.flushing.push(queue);
        }
        let control = r::transmit_offset(queue, QueueRegister::Control);
        if let Some(cell) = cell(&*self.cells, control) {
            cell.fetch_or(r::QUEUE_ENABLE, Ordering::Relaxed);
        }
        true
    }

    /// Has queues flushed whose interrupt's interval is over.
    pub(super) fn write_back_by_timer(&mut self, now_ns: u64) {
        for turn in 0..self.transmitting.len() {
            let queue = self.transmitting[turn];
            let state = &mut self.transmit[queue];
            let cause = state.cause;
            if state.write_back.waiting == 0 || cause == 0 {
                state.write_back.waits_since_ns = None;
                continue;
            }
            let since = *state.write_back.waits_since_ns.get_or_insert(now_ns);
            let interval_ns = self.interval_ns(cause);
            // Without an interval there is no timer.
            if interval_ns != 0 && now_ns >= since + interval_ns && !self.flushing.contains(&queue)
            {
                self.flushing.push(queue);
            }
        }
    }

    /// Does what transmit queues were asked to do with the next poll. For whoever reads TXDCTL, where it shows: drivers
    /// wait for that as long as silicon may take, and who polls may be without a processor for longer.
    pub(crate) fn flush_asked(&mut self, access: &Access<'_>) {
        let works = self.bus_master && !(self.faults.any() && self.gone());
        if works && !self.flushing.is_empty() {
            self.flush_transmit(access);
        }
    }

    /// Writes back whatever is done, of the queues it is due for.
    #[cold]
    pub(super) fn flush_transmit(&mut self, access: &Access<'_>) {
        for queue in std::mem::take(&mut self.flushing) {
            let state = &mut self.transmit[queue];
            state.write_back.asked = false;
            state.write_back.waits_since_ns = None;
            let (waiting, cause) = (state.write_back.waiting, state.cause);
            if waiting != 0 && !state.stopped {
                let base = state.base;
                if let Some(ring) = access.ring(base, state.count) {
                    state.write_back_waiting(&ring, waiting);
                    if cause != 0 {
                        self.raise(cause);
                    }
                } else {
                    state.stopped = true;
                    self.dma_fault("transmit", queue, base);
                }
            }
            self.clear_control(queue, r::TXDCTL_FLUSH);
            if std::mem::take(&mut self.transmit[queue].write_back.closing) {
                self.close_transmit(queue);
                self.clear_control(queue, r::QUEUE_ENABLE);
            }
        }
    }

    fn clear_control(&self, queue: usize, bits: u32) {
        let control = r::transmit_offset(queue, QueueRegister::Control);
        if let Some(cell) = cell(&*self.cells, control) {
            cell.fetch_and(!bits, Ordering::AcqRel);
        }
    }
}
