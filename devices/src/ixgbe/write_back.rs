//! Writing transmit descriptors back (sections 7.2.3.5.1 and 8.2.3.9.10): at once where they ask for
//! it, or by threshold.
//!
//! With TXDCTL.WTHRESH zero a descriptor is written back when it is done and has RS. Above zero RS
//! does not matter: descriptors that are done accumulate and are written back in groups of so many.
//! TXDCTL.SWFLSH, and disabling the queue, write back the rest. No timer does (EITR), as on a queue
//! without interrupts.
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
}

impl WriteBack {
    /// Nothing of the ring is done; what software asked for stays.
    pub fn restart(&mut self) {
        self.waiting = 0;
        self.closing = false;
    }
}

impl TransmitQueue {
    /// Consumes the descriptors at the head whose second words are in `done`, and writes back what
    /// is due. Returns whether software may have to be told.
    #[inline(always)]
    pub fn finish(&mut self, ring: &GuestRing<'_>, done: &[[u64; 2]]) -> bool {
        let first = ring.run(self.head, done.len());
        let rest = ring.run(0, done.len() - first.len());
        let head = wrapped(self.head + done.len() as u32, self.count);
        if self.write_back.threshold != 0 {
            return self.finish_later(ring, head);
        }
        let (before, after) = done.split_at(first.len());
        for (cells, words) in first.iter().chain(rest).zip(before.iter().chain(after)) {
            if words[1] & d::TX_REPORT != 0 {
                cells[1].store(words[1] | d::TX_DONE, Ordering::Release);
            }
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

    /// Writes back whatever is done, of the queues software asked it for.
    #[cold]
    pub(super) fn flush_transmit(&mut self, access: &Access<'_>) {
        for queue in std::mem::take(&mut self.flushing) {
            let state = &mut self.transmit[queue];
            state.write_back.asked = false;
            let waiting = state.write_back.waiting;
            if waiting != 0 && !state.stopped {
                let base = state.base;
                if let Some(ring) = access.ring(base, state.count) {
                    state.write_back_waiting(&ring, waiting);
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
