//! The receive path (section 7.1): from the wire through the filters into a ring.
//!
//! Frames that fit one buffer, with nothing to strip, have loops of their own (`receive_plain`).
//! Everything else goes frame by frame, here.
//!
//! Invariant: descriptors are written back in ring order, each after its payload; a descriptor
//! beyond the tail is never touched.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::describe::describe;
use super::descriptor::{self as d, Received};
use super::device::{BATCH, Core, PerFrame, cell};
use super::faults::FaultKind;
use super::filters::Accepted;
use super::receive_plain::Stop;
use super::registers::{self as r, QueueRegister};
use super::statistics::{Batch, Counter};
use super::strict::{Violation, Violations};
use crate::frame::{Layout, vlan};
use crate::memory::{Access, GuestRing, Stretch};
use crate::wire::Wire;

/// Shortest frame on a cable, without frame check sequence.
pub(super) const MIN_FRAME: usize = 60;

/// One receive queue, as a snapshot of its registers and its place in the ring.
#[derive(Default)]
pub(super) struct ReceiveQueue {
    pub enabled: bool,
    /// Stopped by a DMA fault until it is enabled anew.
    pub stopped: bool,
    pub base: u64,
    pub count: u32,
    /// Next descriptor to be written back.
    pub head: u32,
    /// The tail as last read.
    pub tail: u32,
    pub advanced: bool,
    pub buffer_size: usize,
    pub drop_enable: bool,
    pub strip_vlan: bool,
    pub statistics_set: usize,
    /// What the queue's interrupt allocation raises, as a bit.
    pub cause: u64,
    /// Buffer addresses read ahead, from descriptor `head` on, and how many there are.
    pub cache: PerFrame<u64>,
    pub cached: usize,
    /// How many of them are used.
    pub used: usize,
    /// Write-backs of the loop over several queues, and how many there are; none between polls.
    pub staged: PerFrame<[u64; 2]>,
    pub pending: usize,
    /// Where the ring is.
    pub ring_stretch: Stretch,
    /// A tail beyond the ring was reported already.
    pub bad_tail: bool,
    /// Buffers the device owns, and how far they are known (deep checks).
    owned: HashSet<u64>,
    checked: u32,
}

impl ReceiveQueue {
    /// Forgets what was read ahead; for a ring that was (re)enabled.
    pub fn restart(&mut self, head: u32) {
        self.stopped = false;
        self.bad_tail = false;
        self.head = head;
        self.tail = head;
        self.checked = head;
        self.forget();
        self.owned.clear();
    }

    /// Software moved the head.
    pub fn restart_at(&mut self, head: u32) {
        if head < self.count {
            self.restart(head);
        }
    }

    #[inline(always)]
    pub fn available(&self) -> u32 {
        distance(self.head, self.tail, self.count)
    }

    #[inline(always)]
    pub fn advance(&mut self, by: u32) {
        self.head = wrapped(self.head + by, self.count);
    }

    /// What was read ahead no longer begins at the head.
    fn forget(&mut self) {
        self.cached = 0;
        self.used = 0;
    }
}

/// Descriptors from `head` up to `tail` in a ring of `count`.
#[inline(always)]
pub(super) fn distance(head: u32, tail: u32, count: u32) -> u32 {
    if tail >= head {
        tail - head
    } else {
        tail + count - head
    }
}

/// `index` brought back into the ring; it is less than twice `count`.
#[inline(always)]
pub(super) fn wrapped(index: u32, count: u32) -> u32 {
    if index >= count { index - count } else { index }
}

impl Core {
    /// Takes up to a batch of frames from the wire.
    pub(super) fn poll_receive<W: Wire>(
        &mut self,
        access: &Access<'_>,
        wire: &mut W,
        now_ns: u64,
    ) -> usize {
        let plain =
            self.plan.strip_crc && self.plan.crc_agrees && !self.faults.any() && !self.strict_deep;
        let mut work = 0;
        while work < BATCH {
            if plain {
                let (frames, stop) = self.receive_plain(access, wire, now_ns, BATCH - work);
                work += frames;
                match stop {
                    Stop::Idle | Stop::Full => break,
                    Stop::Again => continue,
                    Stop::Empty if !wire.drops_when_full() => break,
                    Stop::Empty | Stop::Special => {}
                }
            }
            if !self.receive_one(access, wire, now_ns) {
                break;
            }
            work += 1;
        }
        work
    }

    /// The long way, for one frame. `false`: there is none, or it has to wait.
    #[inline(never)]
    fn receive_one<W: Wire>(&mut self, access: &Access<'_>, wire: &mut W, now_ns: u64) -> bool {
        let drops = wire.drops_when_full();
        let Some(frame) = wire.peek(now_ns) else {
            return false;
        };
        // A sender pads to the minimum; wires fed from files or taps have not.
        let len = frame.len().max(MIN_FRAME);
        self.scratch.resize(frame.len(), 0);
        self.scratch.copy_from_slice(frame);
        self.scratch.resize(len, 0);
        let frame = std::mem::take(&mut self.scratch);
        let taken = self.receive_frame(access, &frame, drops);
        self.scratch = frame;
        if taken {
            wire.consume();
        }
        taken
    }

    /// Filters, steers and delivers `frame`. `false`: it waits for descriptors.
    fn receive_frame(&mut self, access: &Access<'_>, frame: &[u8], drops: bool) -> bool {
        let tag = vlan::tag(frame, self.plan.vlan_type);
        let limit = self.plan.max_frame + if tag.is_some() { vlan::TAG_LEN } else { 0 };
        if frame.len() > limit {
            self.refuse(frame, Some(Counter::Oversize));
            return true;
        }
        let Some(destination) = frame.first_chunk::<6>() else {
            return true;
        };
        let accepted = self.plan.filters.accept(destination);
        let wanted = tag.is_none_or(|control| self.plan.filters.accept_vlan(control));
        let (Some(accepted), true) = (accepted, wanted) else {
            self.refuse(frame, None);
            return true;
        };
        let layout = Layout::of(frame);
        let (mut report, queue) = describe(frame, &layout, &self.plan);
        if accepted == Accepted::Inexactly {
            report.status |= d::RX_INEXACT;
        }
        // A frame that waits comes here again.
        let wrong = u64::from(report.errors != 0);
        if !self.receive[queue].enabled || self.receive[queue].stopped {
            let set = self.receive[queue].statistics_set;
            self.statistics.dropped(set);
            self.statistics.arrived(&Batch::of(frame));
            self.statistics.add(Counter::ChecksumErrors, wrong);
            return true;
        }
        let strip = self.receive[queue].strip_vlan && tag.is_some();
        if strip {
            report.status |= d::RX_VLAN;
            report.vlan = tag.unwrap_or(0);
        }
        let stored = self.as_stored(frame, strip);
        let stored = stored.as_deref().unwrap_or(frame);
        match self.deliver(access, queue, stored, report, drops) {
            Delivery::Done => {
                self.check_crc_strip();
                self.count_received(queue, frame, stored.len());
            }
            Delivery::Dropped => self.statistics.arrived(&Batch::of(frame)),
            Delivery::Waits => return false,
        }
        self.statistics.add(Counter::ChecksumErrors, wrong);
        true
    }

    /// RDRXCTL.CRCStrip is to be what HLREG0.RXCRCSTRP is (section 8.2.3.8.8); it matters with the first
    /// frame that comes over the cable.
    fn check_crc_strip(&mut self) {
        if !self.plan.crc_agrees {
            let mac = self.plan.strip_crc;
            self.violations.record(Violation::CrcStripMismatch, || {
                format!("HLREG0.RXCRCSTRP is {mac}, RDRXCTL.CRCStrip is {}", !mac)
            });
        }
    }

    /// The bytes that go to memory, where they are not the frame's: without its tag, with its
    /// frame check sequence.
    fn as_stored(&self, frame: &[u8], strip_tag: bool) -> Option<Vec<u8>> {
        if !strip_tag && self.plan.strip_crc {
            return None;
        }
        let mut stored = match vlan::stripped(frame, self.plan.vlan_type) {
            Some((_, pieces)) if strip_tag => pieces.concat(),
            _ => frame.to_vec(),
        };
        if !self.plan.strip_crc {
            stored.extend_from_slice(&crc32fast::hash(frame).to_le_bytes());
        }
        Some(stored)
    }

    /// A frame that goes nowhere.
    fn refuse(&mut self, frame: &[u8], counter: Option<Counter>) {
        self.statistics.add(Counter::TotalReceived, 1);
        (self.statistics).add(Counter::TotalBytesReceived, frame.len() as u64 + 4);
        if let Some(counter) = counter {
            self.statistics.add(counter, 1);
        }
    }

    /// Writes one frame into `queue`'s buffers.
    fn deliver(
        &mut self,
        access: &Access<'_>,
        queue: usize,
        frame: &[u8],
        report: Received,
        drops: bool,
    ) -> Delivery {
        let total = frame.len();
        let buffer_size = self.receive[queue].buffer_size;
        let needed = total.div_ceil(buffer_size) as u32;
        self.reload_receive_tail(access, queue, needed);
        if self.receive[queue].available() < needed {
            return self.no_descriptor(queue, drops);
        }
        let Some(ring) = access.ring(self.receive[queue].base, self.receive[queue].count) else {
            let base = self.receive[queue].base;
            return self.stop_receive(queue, base);
        };
        if self.faults.any() && self.faults.hit(FaultKind::DmaError) {
            // The bus's fault, not the driver's.
            self.receive[queue].stopped = true;
            return Delivery::Dropped;
        }
        for (number, piece) in frame.chunks(buffer_size).enumerate() {
            let state = &self.receive[queue];
            let address = ring.read(wrapped(state.head + number as u32, state.count))[0];
            let Some(buffer) = access.slice(address, piece.len()) else {
                return self.stop_receive(queue, address);
            };
            buffer.write(piece);
        }
        self.write_back(&ring, queue, needed, total, report);
        Delivery::Done
    }

    /// Writes back the `needed` descriptors of one frame, faults included.
    fn write_back(
        &mut self,
        ring: &GuestRing<'_>,
        queue: usize,
        needed: u32,
        total: usize,
        report: Received,
    ) {
        let (buffer_size, advanced) = {
            let queue = &self.receive[queue];
            (queue.buffer_size, queue.advanced)
        };
        for number in 0..needed {
            let index = wrapped(self.receive[queue].head + number, self.receive[queue].count);
            let last = number + 1 == needed;
            let mut words = if last {
                Received {
                    status: report.status | d::RX_DONE | d::RX_END,
                    length: (total - number as usize * buffer_size) as u16,
                    ..report
                }
            } else {
                Received {
                    status: d::RX_DONE,
                    length: buffer_size as u16,
                    ..Received::default()
                }
            };
            let address = ring.read(index)[0];
            if self.strict_deep {
                self.receive[queue].owned.remove(&address);
            }
            if self.faults.any() && !self.receive_faults(&mut words, last) {
                continue;
            }
            let words = match (words.status == u32::MAX, advanced) {
                (true, _) => [u64::MAX; 2],
                (false, true) => words.advanced(),
                (false, false) => words.legacy(address),
            };
            ring.write(index, words);
        }
        if self.faults.any() && self.faults.hit(FaultKind::CompletesUnposted) {
            let unposted = Received {
                status: d::RX_DONE | d::RX_END,
                length: MIN_FRAME as u16,
                ..Received::default()
            };
            let tail = self.get(r::receive_offset(queue, QueueRegister::Tail));
            let slot = tail % self.receive[queue].count;
            ring.write_status(slot, unposted.advanced()[1]);
        }
        let queue = &mut self.receive[queue];
        queue.advance(needed);
        queue.forget();
        let cause = queue.cause;
        if cause != 0 {
            self.raise(cause);
        }
    }

    /// Changes a write-back as the faults have it; `false` if it does not happen.
    fn receive_faults(&mut self, words: &mut Received, last: bool) -> bool {
        if self.faults.hit(FaultKind::ReceiveNeverDone) {
            return false;
        }
        if self.faults.hit(FaultKind::ReceiveGarbage) {
            words.status = u32::MAX;
            return true;
        }
        let length = |kind| match kind {
            FaultKind::ReceiveLength(length) => Some(length),
            _ => None,
        };
        if let Some(length) = self.faults.pick(length) {
            words.length = length;
        }
        if last && self.faults.hit(FaultKind::MissingEndOfPacket) {
            words.status &= !d::RX_END;
        }
        true
    }

    fn no_descriptor(&mut self, queue: usize, drops: bool) -> Delivery {
        if !drops {
            return Delivery::Waits;
        }
        let set = self.receive[queue].statistics_set;
        if self.receive[queue].drop_enable {
            self.statistics.dropped(set);
        } else {
            self.statistics.add(Counter::Missed, 1);
        }
        self.raise_other(r::EICR_MISSED);
        Delivery::Dropped
    }

    fn stop_receive(&mut self, queue: usize, address: u64) -> Delivery {
        self.receive[queue].stopped = true;
        self.dma_fault("receive", queue, address);
        Delivery::Dropped
    }

    fn count_received(&mut self, queue: usize, frame: &[u8], stored: usize) {
        let set = self.receive[queue].statistics_set;
        (self.statistics).received(set, &Batch::of(frame), stored as u64);
    }

    /// Reads the tail again if fewer than `needed` descriptors are known to be there.
    fn reload_receive_tail(&mut self, access: &Access<'_>, queue: usize, needed: u32) {
        if self.receive[queue].available() >= needed {
            return;
        }
        let offset = r::receive_offset(queue, QueueRegister::Tail);
        let tail = cell(&*self.cells, offset).map_or(0, |cell| cell.load(Ordering::Acquire));
        let state = &mut self.receive[queue];
        if tail >= state.count {
            if !state.bad_tail {
                state.bad_tail = true;
                let count = state.count;
                self.violations.record(Violation::TailBeyondRing, || {
                    format!("RDT({queue}) = {tail} in a ring of {count}")
                });
            }
            return;
        }
        state.tail = tail;
        if self.strict_deep {
            state.check_posted(access, queue, &mut self.violations);
        }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Done,
    Dropped,
    Waits,
}

impl ReceiveQueue {
    /// Looks at every newly posted buffer: none may be the device's already.
    fn check_posted(&mut self, access: &Access<'_>, number: usize, violations: &mut Violations) {
        let Some(ring) = access.ring(self.base, self.count) else {
            return;
        };
        while self.checked != self.tail {
            let [address, _] = ring.read(self.checked);
            if !self.owned.insert(address) {
                violations.record(Violation::PostedTwice, || {
                    format!("receive queue {number}: buffer {address:#x} is the device's already")
                });
            }
            if access.slice(address, self.buffer_size).is_none() {
                violations.record(Violation::DmaFault, || {
                    format!(
                        "receive queue {number}: no {} bytes at {address:#x}",
                        self.buffer_size
                    )
                });
            }
            self.checked = wrapped(self.checked + 1, self.count);
        }
    }
}
