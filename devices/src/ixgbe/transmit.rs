//! The transmit path (section 7.2): from a ring through the offloads onto the wire.
//!
//! The plain case, one advanced descriptor a frame and nothing to insert, is a loop of its own
//! ([`transmit_plain`](super::transmit_plain)). Everything else gathers a frame from its descriptors first.
//!
//! Invariant: a frame's descriptors are consumed together, when the wire has taken the frame; a
//! payload is copied once before anything looks at it, since a driver may still change it.

use std::sync::atomic::Ordering;

use super::descriptor::{self as d, Context};
use super::device::{BATCH, Core, cell};
use super::faults::FaultKind;
use super::receive::{MIN_FRAME, distance, wrapped};
use super::registers::{self as r, QueueRegister};
use super::statistics::Batch;
use super::strict::Violation;
use super::write_back::WriteBack;
use crate::frame::{L4, TransmitChecksums, vlan};
use crate::memory::{Access, GuestRing, ReadOnly, Stretch};
use crate::wire::{MAX_FRAME, Wire};

/// Longest packet to be segmented: 18 bits of payload (section 7.2.4.2), and headers.
const MAX_PACKET: usize = (1 << 18) + 512;

/// One transmit queue, as a snapshot of its registers and its place in the ring.
#[derive(Default)]
pub(super) struct TransmitQueue {
    pub enabled: bool,
    /// Stopped by a DMA fault until it is enabled anew.
    pub stopped: bool,
    pub base: u64,
    pub count: u32,
    /// Next descriptor to be fetched.
    pub head: u32,
    /// The tail as last read.
    pub tail: u32,
    /// Where the head is written back instead of DD, if it is.
    pub head_write_back: Option<u64>,
    pub statistics_set: usize,
    /// What the queue's interrupt allocation raises, as a bit.
    pub cause: u64,
    /// A tail beyond the ring was reported already.
    pub bad_tail: bool,
    pub write_back: WriteBack,
    pub contexts: [Option<Context>; 2],
    /// Segments of the packet at the head that have left already.
    pub segments_sent: usize,
    /// Where the ring and the buffers were last.
    ring_stretch: Stretch,
    pub buffers: Stretch<ReadOnly>,
}

impl TransmitQueue {
    /// Forgets contexts and the tail; for a ring that was (re)enabled.
    pub fn restart(&mut self, head: u32) {
        self.stopped = false;
        self.head = head;
        self.tail = head;
        self.bad_tail = false;
        self.write_back.restart();
        self.contexts = [None; 2];
        self.segments_sent = 0;
    }

    /// Software moved the head.
    pub fn restart_at(&mut self, head: u32) {
        if head < self.count {
            self.restart(head);
        }
    }

    pub fn available(&self) -> u32 {
        distance(self.head, self.tail, self.count)
    }
}

/// What became of the frame at a queue's head.
pub(super) enum Outcome {
    /// It left (or was dropped); so many descriptors are done.
    Sent,
    /// Some of it left, the rest follows.
    Goes,
    /// Its last descriptor is not there yet, or the wire has no room.
    Waits,
    /// The queue stopped.
    Stopped,
}

impl Core {
    /// Sends up to a batch of frames of one queue.
    pub(super) fn poll_transmit<W: Wire>(
        &mut self,
        access: &Access<'_>,
        wire: &mut W,
        now_ns: u64,
        queue: usize,
    ) -> usize {
        if self.transmit[queue].stopped {
            return 0;
        }
        self.reload_transmit_tail(queue);
        if self.transmit[queue].available() == 0 {
            return 0;
        }
        let state = &mut self.transmit[queue];
        let (base, count) = (state.base, state.count);
        let near = access.stretch(&mut state.ring_stretch, base);
        let Some(ring) = near.ring(base, count) else {
            self.stop_transmit(queue, base);
            return 0;
        };
        let plain = !self.faults.any() && self.transmit[queue].head_write_back.is_none();
        let mut work = 0;
        while work < BATCH {
            if plain {
                work += self.transmit_plain(access, &ring, wire, now_ns, queue, BATCH - work);
            }
            if work >= BATCH || self.transmit[queue].available() == 0 {
                break;
            }
            match self.transmit_one(access, &ring, wire, now_ns, queue) {
                Outcome::Sent => work += 1,
                Outcome::Goes => return work + 1,
                Outcome::Waits | Outcome::Stopped => break,
            }
        }
        work
    }

    /// The long way: the descriptor or descriptors of one frame, or a context.
    #[inline(never)]
    fn transmit_one<W: Wire>(
        &mut self,
        access: &Access<'_>,
        ring: &GuestRing<'_>,
        wire: &mut W,
        now_ns: u64,
        queue: usize,
    ) -> Outcome {
        let mut frame = std::mem::take(&mut self.scratch);
        let mut words = std::mem::take(&mut self.gathered);
        let into = (&mut frame, &mut words);
        let outcome = self.gather_and_send(access, ring, wire, now_ns, queue, into);
        (self.scratch, self.gathered) = (frame, words);
        outcome
    }

    fn gather_and_send<W: Wire>(
        &mut self,
        access: &Access<'_>,
        ring: &GuestRing<'_>,
        wire: &mut W,
        now_ns: u64,
        queue: usize,
        (frame, words): (&mut Vec<u8>, &mut Vec<u64>),
    ) -> Outcome {
        let first = ring.read(self.transmit[queue].head);
        if is_advanced(first[1]) && first[1] & d::TX_TYPE == d::TX_TYPE_CONTEXT {
            self.transmit[queue].contexts[d::context_index(first[1])] = Some(Context::parse(first));
            self.complete(access, ring, queue, 1);
            return Outcome::Sent;
        }
        if self.faults.any() && self.faults.hit(FaultKind::DmaError) {
            // The bus's fault, not the driver's.
            self.transmit[queue].stopped = true;
            return Outcome::Stopped;
        }
        frame.clear();
        let segments = is_advanced(first[1]) && first[1] & d::TX_SEGMENT != 0;
        let limit = if segments { MAX_PACKET } else { MAX_FRAME };
        let available = self.transmit[queue].available();
        let mut descriptors = 0;
        words.clear();
        let last = loop {
            if descriptors == available {
                return Outcome::Waits;
            }
            let state = &self.transmit[queue];
            // The first has been read already, and may be another by now.
            let descriptor = match descriptors {
                0 => first,
                _ => ring.read(wrapped(state.head + descriptors, state.count)),
            };
            descriptors += 1;
            words.push(descriptor[1]);
            let len = d::data_length(descriptor[1]);
            if len > 0 {
                let Some(payload) = access.source(descriptor[0], len) else {
                    return self.stop_transmit(queue, descriptor[0]);
                };
                let start = frame.len();
                // What is beyond any frame is not kept: its length alone is a violation below.
                if start <= limit {
                    frame.resize(start + len, 0);
                    payload.read(&mut frame[start..]);
                }
            }
            if descriptor[1] & d::TX_END != 0 {
                break descriptor;
            }
        };
        let good = self.check_frame(queue, words, frame.len());
        if good && segments {
            let outcome = self.send_segments(first[1], wire, now_ns, queue, frame);
            if !matches!(outcome, Outcome::Sent) {
                return outcome;
            }
        } else if good
            && self.offload(first, last, queue, frame)
            && !self.send(wire, now_ns, queue, frame)
        {
            return Outcome::Waits;
        }
        self.complete(access, ring, queue, descriptors);
        Outcome::Sent
    }

    /// Hands a finished frame to the wire; `false` if there is no room.
    pub(super) fn send<W: Wire>(
        &mut self,
        wire: &mut W,
        now_ns: u64,
        queue: usize,
        frame: &mut Vec<u8>,
    ) -> bool {
        if self.plan.pad && frame.len() < MIN_FRAME {
            frame.resize(MIN_FRAME, 0);
        }
        if !wire.transmit(now_ns, frame) {
            return false;
        }
        let mut batch = Batch::default();
        batch.add(frame);
        let set = self.transmit[queue].statistics_set;
        self.statistics.transmitted(set, &batch);
        true
    }

    /// The rules of section 7.2.3 for one frame's descriptors, whose second words as they were gathered are `words`;
    /// `false` if it cannot be sent.
    fn check_frame(&mut self, queue: usize, words: &[u64], total: usize) -> bool {
        let state = &self.transmit[queue];
        let (head, count) = (state.head, state.count);
        let Some(&first) = words.first() else {
            return false;
        };
        let mut broken = None;
        for (number, &word) in (0..).zip(words) {
            let index = wrapped(head + number, count);
            let violation = descriptor_violation(word, first);
            if let Some(violation) = violation {
                let record = || format!("transmit queue {queue}, descriptor {index}: {word:#018x}");
                self.violations.record(violation, record);
                broken = Some(violation);
            }
        }
        if broken == Some(Violation::DescriptorType) || total == 0 {
            return false;
        }
        let declared = d::payload_length(first);
        if is_advanced(first) && first & d::TX_SEGMENT == 0 && declared != total {
            self.violations.record(Violation::PayloadLength, || {
                format!("transmit queue {queue}: PAYLEN {declared}, buffers hold {total}")
            });
        }
        let limit = if is_advanced(first) && first & d::TX_SEGMENT != 0 {
            MAX_PACKET
        } else {
            MAX_FRAME
        };
        if total > limit {
            self.violations.record(Violation::FrameTooLong, || {
                format!("transmit queue {queue}: frame of {total} bytes or more")
            });
            return false;
        }
        true
    }

    /// Inserts checksums and tag; `false` if the frame cannot be sent.
    fn offload(
        &mut self,
        first: [u64; 2],
        last: [u64; 2],
        queue: usize,
        frame: &mut Vec<u8>,
    ) -> bool {
        let word = first[1];
        let tag = word & d::TX_VLAN != 0;
        if !is_advanced(word) {
            if word & d::TX_LEGACY_CHECKSUM != 0 {
                self.legacy_checksum(word, frame);
            }
            if last[1] & d::TX_VLAN != 0 {
                vlan::insert(frame, self.plan.transmit_vlan_type, (last[1] >> 48) as u16);
            }
            return true;
        }
        let wants = word & (d::TX_IP_CHECKSUM | d::TX_L4_CHECKSUM) != 0;
        if !wants && !tag {
            return true;
        }
        let Some(context) = self.transmit[queue].contexts[d::context_index(word)] else {
            self.violations.record(Violation::MissingContext, || {
                format!("transmit queue {queue}: {word:#018x} needs a context, none was written")
            });
            return true;
        };
        if wants {
            self.advanced_checksums(word, &context, queue, frame);
        }
        if tag {
            vlan::insert(frame, self.plan.transmit_vlan_type, context.vlan);
        }
        true
    }

    fn advanced_checksums(&mut self, word: u64, context: &Context, queue: usize, frame: &mut [u8]) {
        let l4 = match context.transport {
            0 => L4::Udp,
            1 => L4::Tcp,
            _ => L4::Sctp,
        };
        let checksums = TransmitChecksums {
            mac_len: context.mac_length,
            ip_len: context.ip_length,
            ip: word & d::TX_IP_CHECKSUM != 0 && context.ipv4,
            l4: (word & d::TX_L4_CHECKSUM != 0).then_some(l4),
        };
        if let Err(error) = checksums.insert(frame) {
            self.violations.record(Violation::ChecksumContext, || {
                format!(
                    "transmit queue {queue}: {error:?} for a frame of {} bytes",
                    frame.len()
                )
            });
        }
    }

    /// Legacy checksum insertion: from CSS to the end, into CSO.
    fn legacy_checksum(&mut self, word: u64, frame: &mut [u8]) {
        let (offset, start) = ((word >> 16 & 0xFF) as usize, (word >> 40 & 0xFF) as usize);
        if start >= frame.len() || offset + 2 > frame.len() {
            self.violations.record(Violation::ChecksumContext, || {
                format!(
                    "legacy checksum from {start} to {offset} in {} bytes",
                    frame.len()
                )
            });
            return;
        }
        let sum = (frame[start..].chunks(2)).fold(0_u32, |sum, pair| {
            sum + (u32::from(pair[0]) << 8) + pair.get(1).map_or(0, |&low| u32::from(low))
        });
        let folded = (sum & 0xFFFF) + (sum >> 16);
        let folded = (folded & 0xFFFF) + (folded >> 16);
        frame[offset..offset + 2].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    }

    /// Consumes `descriptors` at the head: status where it was asked for.
    fn complete(
        &mut self,
        access: &Access<'_>,
        ring: &GuestRing<'_>,
        queue: usize,
        descriptors: u32,
    ) {
        let (head, count) = (self.transmit[queue].head, self.transmit[queue].count);
        let next = wrapped(head + descriptors, count);
        let silent = self.faults.any() && self.faults.hit(FaultKind::TransmitNeverDone);
        let state = &self.transmit[queue];
        let at_once = state.head_write_back.is_none() && !state.accumulates();
        let mut report = false;
        for number in 0..descriptors {
            let index = wrapped(head + number, count);
            let word = ring.read(index)[1];
            if word & d::TX_REPORT != 0 && !silent {
                report = true;
                if at_once {
                    ring.write_status(index, word | d::TX_DONE);
                }
            }
        }
        if self.faults.any() && self.faults.hit(FaultKind::CompletesUnposted) {
            let tail = self.get(r::transmit_offset(queue, QueueRegister::Tail));
            ring.write_status(tail % count, d::TX_DONE);
        }
        let state = &mut self.transmit[queue];
        if !state.accumulates() {
            state.head = next;
        } else if silent {
            state.skip_to(ring, next);
        } else {
            report = state.finish_later(ring, next);
        }
        if let Some(address) = self.transmit[queue].head_write_back.filter(|_| report) {
            let wrong = self.faults.any() && self.faults.hit(FaultKind::HeadBeyondRing);
            let value = if wrong { next + count } else { next };
            if !access.store32(address, value) {
                self.stop_transmit(queue, address);
            }
        }
        let cause = self.transmit[queue].cause;
        if report && cause != 0 {
            self.raise(cause);
        }
    }

    fn stop_transmit(&mut self, queue: usize, address: u64) -> Outcome {
        self.transmit[queue].stopped = true;
        self.dma_fault("transmit", queue, address);
        Outcome::Stopped
    }

    /// Reads the tail again if less than a batch is known to be there.
    #[inline(always)]
    fn reload_transmit_tail(&mut self, queue: usize) {
        let state = &mut self.transmit[queue];
        if state.available() >= BATCH as u32 {
            return;
        }
        let offset = r::transmit_offset(queue, QueueRegister::Tail);
        let tail = cell(&*self.cells, offset).map_or(0, |cell| cell.load(Ordering::Acquire));
        if tail < state.count {
            state.tail = tail;
        } else if !state.bad_tail {
            state.bad_tail = true;
            let count = state.count;
            self.violations.record(Violation::TailBeyondRing, || {
                format!("TDT({queue}) = {tail} in a ring of {count}")
            });
        }
    }
}

fn is_advanced(word: u64) -> bool {
    word & d::TX_ADVANCED != 0
}

/// What is wrong with the second word of a data descriptor, whose frame began with `first`.
fn descriptor_violation(word: u64, first: u64) -> Option<Violation> {
    if is_advanced(word) != is_advanced(first) {
        return Some(Violation::DescriptorType);
    }
    if is_advanced(word) && word & d::TX_TYPE != d::TX_TYPE_DATA {
        return Some(Violation::DescriptorType);
    }
    let reserved = if is_advanced(word) {
        d::TX_DATA_RESERVED
    } else {
        d::TX_LEGACY_RESERVED
    };
    if word & reserved != 0 {
        return Some(Violation::DescriptorReserved);
    }
    if d::data_length(word) == 0 {
        return Some(Violation::ZeroLength);
    }
    if word & d::TX_END != 0 && (word | first) & d::TX_FCS == 0 {
        return Some(Violation::FrameCheckSequence);
    }
    None
}
