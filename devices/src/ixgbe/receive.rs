//! The receive path (section 7.1): from the wire through the filters into a ring.
//!
//! The plain case, one queue and a frame that fits one buffer, is a loop of its own: payloads
//! first, then write-backs several to a cache line, in ring order. Everything else goes frame by
//! frame.
//!
//! Invariant: descriptors are written back in ring order, each after its payload; a descriptor
//! beyond the tail is never touched.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::descriptor::{self as d, Received, packet_type};
use super::device::{BATCH, Core, Plan, cell};
use super::faults::FaultKind;
use super::filters::Accepted;
use super::registers::{self as r, QueueRegister};
use super::statistics::{Batch, Counter};
use super::strict::{Violation, Violations};
use crate::frame::{L3, L4, Layout, ReceiveChecksums, Verdict, vlan};
use crate::memory::{Access, GuestRing};
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
    /// EICR bit, if the queue's interrupt is allocated.
    pub cause: u32,
    /// Buffer addresses read ahead, from descriptor `head` on, and how many there are.
    cache: [u64; BATCH],
    cached: usize,
    /// How many of them are used.
    used: usize,
    /// A tail beyond the ring was reported already.
    pub bad_tail: bool,
    /// Buffers the device owns, and how far they are known (deep checks).
    owned: HashSet<u64>,
    checked: u32,
}

/// Why the plain loop ended.
enum Stop {
    /// No frame is due.
    Idle,
    /// A full batch.
    Full,
    /// What was read ahead is used up.
    Again,
    /// The next frame, or the ring, needs the long way.
    Special,
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

    fn available(&self) -> u32 {
        distance(self.head, self.tail, self.count)
    }

    fn advance(&mut self, by: u32) {
        self.head = wrapped(self.head + by, self.count);
    }

    fn next_address(&self) -> Option<u64> {
        if self.used < self.cached {
            self.cache.get(self.used).copied()
        } else {
            None
        }
    }

    /// What was read ahead no longer begins at the head.
    fn forget(&mut self) {
        self.cached = 0;
        self.used = 0;
    }

    /// Reads descriptors ahead, as silicon does into its descriptor cache. Call with all used.
    fn read_ahead(&mut self, access: &Access<'_>, ring: &GuestRing<'_>) {
        self.used = 0;
        self.cached = (self.available() as usize).min(BATCH);
        for (ahead, cached) in self.cache[..self.cached].iter_mut().enumerate() {
            let [address, _] = ring.read(wrapped(self.head + ahead as u32, self.count));
            if let Some(buffer) = access.slice(address, 1) {
                buffer.prefetch_write();
            }
            *cached = address;
        }
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
        let plain = self.plan.steering.is_none()
            && self.plan.strip_crc
            && !self.faults.any()
            && !self.strict_deep;
        let mut work = 0;
        while work < BATCH {
            if plain {
                let (frames, stop) = self.receive_plain(access, wire, now_ns, BATCH - work);
                work += frames;
                match stop {
                    Stop::Idle | Stop::Full => break,
                    Stop::Again => continue,
                    Stop::Special => {}
                }
            }
            if !self.receive_one(access, wire, now_ns) {
                break;
            }
            work += 1;
        }
        work
    }

    /// The plain loop: queue 0, one buffer a frame, nothing to strip or to look up.
    #[inline(always)]
    fn receive_plain<W: Wire>(
        &mut self,
        access: &Access<'_>,
        wire: &mut W,
        now_ns: u64,
        limit: usize,
    ) -> (usize, Stop) {
        let queue = &mut self.receive[0];
        if !queue.enabled || queue.stopped || !queue.advanced {
            return (0, Stop::Special);
        }
        let Some(ring) = access.ring(queue.base, queue.count) else {
            return (0, Stop::Special);
        };
        let longest = queue.buffer_size.min(self.plan.max_frame);
        let staged = &mut self.staged;
        let mut batch = Batch::default();
        let mut frames = 0;
        let stop = loop {
            if frames == limit {
                break Stop::Full;
            }
            let Some(frame) = wire.peek(now_ns) else {
                break Stop::Idle;
            };
            let Some(address) = queue.next_address() else {
                if frames > 0 {
                    // Write back what there is, then read ahead from the new head.
                    break Stop::Again;
                }
                let tail = r::receive_offset(0, QueueRegister::Tail);
                if let Some(tail) = cell(&*self.cells, tail) {
                    let tail = tail.load(Ordering::Acquire);
                    if tail < queue.count {
                        queue.tail = tail;
                    }
                }
                queue.read_ahead(access, &ring);
                if queue.cached == 0 {
                    break Stop::Special;
                }
                continue;
            };
            let Some(words) = plain_frame(frame, &self.plan, longest) else {
                break Stop::Special;
            };
            let Some(buffer) = access.slice(address, frame.len()) else {
                break Stop::Special;
            };
            buffer.write(frame);
            batch.add(frame);
            staged[frames] = words;
            frames += 1;
            queue.used += 1;
            wire.consume();
        };
        for (index, words) in staged[..frames].iter().enumerate() {
            ring.write(wrapped(queue.head + index as u32, queue.count), *words);
        }
        if frames > 0 {
            queue.advance(frames as u32);
            (self.statistics).received(queue.statistics_set, &batch, batch.bytes);
            if queue.cause != 0 {
                let cause = queue.cause;
                self.raise(cause);
            }
        }
        (frames, stop)
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
        if report.errors != 0 {
            self.statistics.add(Counter::ChecksumErrors, 1);
        }
        if !self.receive[queue].enabled || self.receive[queue].stopped {
            let set = self.receive[queue].statistics_set;
            self.statistics.dropped(set);
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
            Delivery::Done => self.count_received(queue, frame, stored.len()),
            Delivery::Dropped => {}
            Delivery::Waits => return false,
        }
        true
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
        self.raise(r::EICR_MISSED);
        Delivery::Dropped
    }

    fn stop_receive(&mut self, queue: usize, address: u64) -> Delivery {
        self.receive[queue].stopped = true;
        self.dma_fault("receive", queue, address);
        Delivery::Dropped
    }

    fn count_received(&mut self, queue: usize, frame: &[u8], stored: usize) {
        let mut batch = Batch::default();
        batch.add(frame);
        let set = self.receive[queue].statistics_set;
        self.statistics.received(set, &batch, stored as u64);
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

/// What a descriptor says of `frame`, and the queue it goes to.
fn describe(frame: &[u8], layout: &Layout, plan: &Plan) -> (Received, usize) {
    let (hash, queue) = match &plan.steering {
        Some(steering) => steering.queue(frame, layout),
        None => (None, 0),
    };
    let checksums = ReceiveChecksums::verify(frame, layout);
    let mut report = Received {
        packet_type: packet_kind(layout),
        ..Received::default()
    };
    if let Some(hash) = hash.filter(|_| plan.report_hash) {
        report.rss_type = hash.kind as u32;
        report.hash = hash.value;
    }
    if checksums.ip != Verdict::Unchecked {
        report.status |= d::RX_IP;
    }
    if checksums.l4 != Verdict::Unchecked {
        report.status |= d::RX_L4;
        if layout.l4 == L4::Udp {
            report.status |= d::RX_UDP;
        }
    }
    if checksums.ip == Verdict::Bad {
        report.errors |= d::RX_ERROR_IP;
    }
    if checksums.l4 == Verdict::Bad {
        report.errors |= d::RX_ERROR_L4;
    }
    (report, queue)
}

fn packet_kind(layout: &Layout) -> u32 {
    let l3 = match (layout.l3, layout.extended) {
        (L3::Ipv4, false) => packet_type::IPV4,
        (L3::Ipv4, true) => packet_type::IPV4 | packet_type::IPV4_OPTIONS,
        (L3::Ipv6, false) => packet_type::IPV6,
        (L3::Ipv6, true) => packet_type::IPV6 | packet_type::IPV6_EXTENSIONS,
        _ => return 0,
    };
    l3 | match layout.l4 {
        L4::Tcp => packet_type::TCP,
        L4::Udp => packet_type::UDP,
        L4::Sctp => packet_type::SCTP,
        L4::Other => 0,
    }
}

/// The write-back of a frame that needs no closer look, or `None` if it does.
#[inline(always)]
fn plain_frame(frame: &[u8], plan: &Plan, longest: usize) -> Option<[u64; 2]> {
    let len = frame.len();
    let head = frame.first_chunk::<MIN_FRAME>()?;
    if len > longest || !plan.filters.plainly(word(head, 0)) {
        return None;
    }
    if let Some(words) = plain_udp(head, len) {
        return Some(words);
    }
    closer_look(frame, plan)
}

/// What the long way says of a frame without tag and without errors.
#[inline(never)]
fn closer_look(frame: &[u8], plan: &Plan) -> Option<[u64; 2]> {
    if vlan::tag(frame, plan.vlan_type).is_some() {
        return None;
    }
    let (report, _) = describe(frame, &Layout::of(frame), plan);
    if report.errors != 0 {
        return None;
    }
    Some(
        Received {
            status: report.status | d::RX_DONE | d::RX_END,
            length: frame.len() as u16,
            ..report
        }
        .advanced(),
    )
}

/// The write-back of the frame that generators like best: UDP without a checksum, in IPv4 without
/// options, whole and correct. What [`describe`] says of it, in a few steps.
#[inline(always)]
fn plain_udp(head: &[u8; MIN_FRAME], len: usize) -> Option<[u64; 2]> {
    // EtherType IPv4, version 4, five words of header; neither fragment nor offset; UDP; no
    // checksum.
    let kind = (word(head, 12) ^ 0x0045_0008) & 0x00FF_FFFF
        | (word(head, 20) ^ 0x1100_0000) & 0xFF00_FF3F
        | word(head, 40) & 0xFFFF;
    let total = usize::from(u16::from_be_bytes([head[16], head[17]]));
    // The ones' complement sum does not care for byte order; halves are added crosswise.
    let c = u64::from(u32::from_le_bytes([head[30], head[31], head[32], head[33]]));
    let sum = carried(carried(word(head, 14), word(head, 22)), c);
    let sum = (carried(sum, sum.rotate_left(32)) >> 32) as u32;
    let (sum, carry) = sum.overflowing_add(sum.rotate_left(16));
    let bad = (sum.wrapping_add(u32::from(carry))) >> 16 != 0xFFFF;
    if kind != 0 || total < 28 || total + 14 > len || bad {
        return None;
    }
    Some(
        Received {
            packet_type: packet_type::IPV4 | packet_type::UDP,
            status: d::RX_DONE | d::RX_END | d::RX_IP,
            length: len as u16,
            ..Received::default()
        }
        .advanced(),
    )
}

/// The ones' complement sum of two words.
#[inline(always)]
fn carried(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

/// Eight bytes at `at`, in the processor's favourite order.
#[inline(always)]
fn word(head: &[u8; MIN_FRAME], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The short cut says what the long way says, or nothing.
        #[test]
        fn the_short_cut_agrees_with_the_long_way(
            mut frame in proptest::collection::vec(any::<u8>(), 60..200),
            lengths in any::<bool>(),
            flip in proptest::option::of((12_usize..42, any::<u8>())),
        ) {
            frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
            if lengths {
                let total = frame.len() as u16 - 14;
                frame[16..18].copy_from_slice(&total.to_be_bytes());
            }
            frame[20..22].copy_from_slice(&[0x40, 0x00]);
            frame[23] = 17;
            frame[24..26].fill(0);
            let udp = (frame.len() - 34) as u16;
            frame[38..40].copy_from_slice(&udp.to_be_bytes());
            frame[40..42].fill(0);
            let sum = (frame[14..34].chunks(2))
                .fold(0_u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
            let sum = (sum & 0xFFFF) + (sum >> 16);
            let sum = (sum & 0xFFFF) + (sum >> 16);
            frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
            if let Some((at, mask)) = flip {
                frame[at] ^= mask;
            }
            let plan = Plan::of_zeros();
            let head = frame.first_chunk().unwrap();
            let short = plain_udp(head, frame.len());
            let (report, _) = describe(&frame, &Layout::of(&frame), &plan);
            let long = Received {
                status: report.status | d::RX_DONE | d::RX_END,
                length: frame.len() as u16,
                ..report
            };
            if let Some(short) = short {
                prop_assert_eq!(short, long.advanced());
            } else if lengths && flip.is_none() {
                prop_assert!(false, "the short cut missed the plain frame");
            }
        }
    }
}
