//! The core of the software 82599: its state, and one poll of it.
//!
//! A front (in-process, plain shared BAR) owns the core, tells it of register writes and polls it
//! with a wire. Registers are cells, so that a front may share them with a driver; everything the
//! hot loops need is a snapshot, made anew when a register it comes from was written.
//!
//! Invariant: nothing in a cell, a descriptor or a frame is trusted; a poll does bounded work.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::eeprom::Eeprom;
use super::faults::{FaultKind, Faults};
use super::filters::Filters;
use super::i2c::I2c;
use super::interrupts::Interrupts;
use super::loopback::Loopback;
use super::receive::ReceiveQueue;
use super::registers::{self as r, QUEUES, QueueRegister};
use super::rss::Steering;
use super::statistics::Statistics;
use super::strict::{Violation, Violations};
use super::transmit::TransmitQueue;
use super::verdict::Verdicts;
use super::{Fault, Identity};
use crate::memory::{Access, Stretch};
use crate::wire::{MAX_FRAME, Wire};

/// Frames a queue handles before the next gets its turn.
pub(super) const BATCH: usize = 64;
/// Between two looks at timers.
const TIMER_NS: u64 = 2_000;
/// Longest frame the plain transmit loop sends.
pub(super) const PLAIN_FRAME: usize = 2048;

/// One of something for each frame of a batch.
pub(super) struct PerFrame<T>([T; BATCH]);

impl<T: Copy + Default> Default for PerFrame<T> {
    fn default() -> Self {
        Self([T::default(); BATCH])
    }
}

impl<T> Deref for PerFrame<T> {
    type Target = [T; BATCH];

    #[inline(always)]
    fn deref(&self) -> &[T; BATCH] {
        &self.0
    }
}

impl<T> DerefMut for PerFrame<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T; BATCH] {
        &mut self.0
    }
}

/// A BAR's cells: `BAR_BYTES / 4` of them, inside the device or shared with another process.
pub type Cells = Arc<dyn AsRef<[AtomicU32]> + Send + Sync>;

/// How a driver reaches the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access32 {
    /// Every access but a tail's is a call: side effects happen at once.
    Trapped,
    /// Plain memory: the device looks for changes ([`Core::poll_control`]).
    Shared,
}

/// One software 82599, without its wire and without its front.
pub struct Core {
    pub(super) cells: Cells,
    pub(super) access: Access32,
    pub(super) identity: Identity,
    pub(super) receive: Vec<ReceiveQueue>,
    pub(super) transmit: Vec<TransmitQueue>,
    /// Numbers of the queues that are enabled.
    pub(super) receiving: Vec<usize>,
    pub(super) transmitting: Vec<usize>,
    /// Whether the device may do DMA: bus master enable in its PCI command register.
    pub(super) bus_master: bool,
    /// Whether RXCTRL.RXEN was seen set. Not what the register holds by now: a driver that shares it
    /// sets it after it enabled its queues, and they must have been seen too.
    pub(super) receive_on: bool,
    /// Transmit queues to be flushed with the next poll.
    pub(super) flushing: Vec<usize>,
    pub(super) plan: Plan,
    pub(super) plan_stale: bool,
    pub(super) statistics: Statistics,
    pub(super) violations: Violations,
    pub(super) faults: Faults,
    pub(super) eeprom: Eeprom,
    pub(super) i2c: I2c,
    pub(super) strict_deep: bool,
    pub(super) link_up: bool,
    /// Whether a driver wrote where no register is.
    pub(super) wrote_beyond: bool,
    /// Register values as last acted upon, for [`Core::poll_control`].
    pub(super) seen: Vec<(u32, u32)>,
    /// A frame on the long way, and what its descriptors said as it was gathered.
    pub(super) scratch: Vec<u8>,
    pub(super) gathered: Vec<u64>,
    /// Write-backs, or descriptors, of a batch; and a payload: kept so as not to be cleared anew.
    pub(super) staged: [[u64; 2]; BATCH],
    pub(super) payload: [u8; PLAIN_FRAME],
    /// What was said of frames lately, under the present plan.
    pub(super) verdicts: Verdicts,
    /// Where receive buffers were last.
    pub(super) buffers: Stretch,
    pub(super) interrupts: Interrupts,
    /// When timers are looked at again.
    timers_due_ns: u64,
    /// What is sent in loopback and not yet received.
    pub(super) inside: Loopback,
    returns: u64,
}

/// What the hot loops need to know of the registers.
pub(super) struct Plan {
    /// RXCTRL.RXEN.
    pub receive: bool,
    /// DMATXCTL.TE.
    pub transmit: bool,
    pub filters: Filters,
    pub steering: Option<Steering>,
    /// Whether it sends frames to several queues.
    pub spreads: bool,
    /// Longest frame without frame check sequence and without VLAN tag.
    pub max_frame: usize,
    pub strip_crc: bool,
    /// HLREG0 and RDRXCTL agree on that, or no frame has one (in loopback).
    pub crc_agrees: bool,
    pub pad: bool,
    /// EtherType of VLAN tags, receive and transmit.
    pub vlan_type: u16,
    pub transmit_vlan_type: u16,
    pub report_hash: bool,
    /// HLREG0.LPBK.
    pub loopback: bool,
}

impl Core {
    /// A device fresh from power-on.
    pub fn new(
        cells: Cells,
        access: Access32,
        identity: Identity,
        faults: Vec<Fault>,
        strict_deep: bool,
    ) -> Self {
        let plan = Plan::snapshot(|_| 0, None);
        let mut core = Self {
            cells,
            access,
            eeprom: Eeprom::new(&identity),
            i2c: I2c::new(identity.module),
            identity,
            receive: (0..QUEUES).map(|_| ReceiveQueue::default()).collect(),
            transmit: (0..QUEUES).map(|_| TransmitQueue::default()).collect(),
            receiving: Vec::new(),
            transmitting: Vec::new(),
            bus_master: true,
            receive_on: false,
            flushing: Vec::new(),
            plan,
            plan_stale: true,
            statistics: Statistics::new(),
            violations: Violations::new(),
            faults: Faults::new(faults),
            strict_deep,
            link_up: true,
            wrote_beyond: access == Access32::Shared,
            seen: Vec::new(),
            scratch: vec![0; 2 * MAX_FRAME],
            gathered: Vec::new(),
            staged: [[0; 2]; BATCH],
            payload: [0; PLAIN_FRAME],
            verdicts: Verdicts::new(),
            buffers: Stretch::default(),
            interrupts: Interrupts::new(),
            timers_due_ns: 0,
            inside: Loopback::default(),
            returns: 0,
        };
        core.reset();
        core
    }

    /// What a cell holds. Offsets are the model's own, inside the BAR.
    #[inline(always)]
    pub(super) fn get(&self, offset: u32) -> u32 {
        cell(&*self.cells, offset).map_or(u32::MAX, |cell| cell.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(super) fn set(&self, offset: u32, value: u32) {
        if let Some(cell) = cell(&*self.cells, offset) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Bus master enable of the PCI command register (section 9.3.3): without it the device does no DMA.
    pub fn set_bus_master(&mut self, on: bool) {
        self.bus_master = on;
    }

    /// A function level reset (section 4.2.1.4): as at power-on, whatever the driver had set.
    pub fn function_reset(&mut self) {
        self.reset();
    }

    /// One poll: at most a batch out of every transmit queue and a batch in. Returns how many
    /// frames and context descriptors were handled.
    pub fn poll<W: Wire>(&mut self, access: &Access<'_>, wire: &mut W, now_ns: u64) -> usize {
        if self.faults.any() && self.faults_stop() {
            return 0;
        }
        if !self.bus_master {
            return wire.pass_by(now_ns, BATCH);
        }
        self.interrupt_clock(now_ns);
        if self.interrupts.waiting != 0 {
            self.deliver_waiting();
        }
        if self.plan_stale && self.stands_still() {
            // On its way up: what is written now is looked at when there is something to move.
            self.look_at_link(wire);
            return wire.pass_by(now_ns, BATCH);
        }
        if self.plan_stale {
            self.refresh_plan();
        }
        if !self.flushing.is_empty() {
            self.flush_transmit(access);
        }
        if now_ns >= self.timers_due_ns {
            self.timers_due_ns = now_ns + TIMER_NS;
            self.write_back_by_timer(now_ns);
        }
        if self.plan.loopback {
            // The cable, if there is one, is not connected to anything.
            let mut inside = std::mem::take(&mut self.inside);
            let work = self.move_frames(access, &mut inside, now_ns);
            self.inside = inside;
            return work + wire.pass_by(now_ns, BATCH);
        }
        self.look_at_link(wire);
        if !self.link_up {
            return 0;
        }
        self.move_frames(access, wire, now_ns)
    }

    /// Whether nothing is enabled.
    fn stands_still(&self) -> bool {
        let queues = self.receiving.len() + self.transmitting.len() + self.flushing.len();
        queues == 0 && !self.receive_on
    }

    #[inline(always)]
    fn look_at_link<W: Wire>(&mut self, wire: &mut W) {
        let up = wire.link_up();
        if up != self.link_up {
            self.follow_link(up);
        }
    }

    #[inline(always)]
    fn move_frames<W: Wire>(&mut self, access: &Access<'_>, wire: &mut W, now_ns: u64) -> usize {
        let mut work = 0;
        if self.plan.transmit {
            for turn in 0..self.transmitting.len() {
                let queue = self.transmitting[turn];
                work += self.poll_transmit(access, wire, now_ns, queue);
            }
        }
        work += if self.plan.receive {
            self.poll_receive(access, wire, now_ns)
        } else {
            wire.pass_by(now_ns, BATCH)
        };
        work
    }

    /// A device that was pulled out does nothing.
    fn faults_stop(&mut self) -> bool {
        self.gone()
    }

    /// Whether the device was pulled out.
    pub(super) fn gone(&mut self) -> bool {
        self.faults.hit(FaultKind::SurpriseRemoval)
    }

    /// Whether the driver has it receive.
    pub fn is_receiving(&self) -> bool {
        self.receive_on
    }

    fn refresh_plan(&mut self) {
        self.plan_stale = false;
        self.verdicts.forget();
        let old = self.plan.steering.take();
        let cells = Arc::clone(&self.cells);
        let read =
            |offset| cell(&*cells, offset).map_or(u32::MAX, |cell| cell.load(Ordering::Relaxed));
        self.plan = Plan::snapshot(read, old);
        self.plan.receive &= self.receive_on;
        let vectors = self.has_vectors();
        for queue in 0..QUEUES {
            // RQSMR and TQSM: four queues a register, a byte each.
            let set = |base: u32| {
                let word = read(base + queue as u32 / 4 * 4);
                (word >> (queue % 4 * 8) & 0xF) as usize
            };
            // IVAR: two queues a register, receive before transmit.
            let allocation = read(r::IVAR + queue as u32 / 2 * 4) >> (queue % 2 * 16);
            let receive = &mut self.receive[queue];
            (receive.statistics_set, receive.cause) = (set(r::RQSMR), cause(allocation, vectors));
            let transmit = &mut self.transmit[queue];
            (transmit.statistics_set, transmit.cause) =
                (set(r::TQSM), cause(allocation >> 8, vectors));
        }
    }

    #[cold]
    fn follow_link(&mut self, up: bool) {
        self.link_up = up;
        self.publish_link();
        self.raise_other(r::EICR_LINK);
    }

    /// Statistics since the device was made.
    pub fn totals(&self) -> &super::Totals {
        self.statistics.totals()
    }

    /// What the driver did wrong so far.
    pub fn violations(&self) -> &Violations {
        &self.violations
    }

    /// Adds a fault.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.add(fault);
    }

    /// Makes the device healthy again; queues that stopped stay stopped until they are reset. One
    /// that was pulled out is as at power-on.
    pub fn heal(&mut self) {
        let pulled_out = self.faults.has(FaultKind::SurpriseRemoval);
        self.faults.clear();
        if pulled_out {
            self.returns += 1;
            self.reset();
        }
    }

    /// How often it came back after it was pulled out.
    pub fn returns(&self) -> u64 {
        self.returns
    }

    /// Stores where the device has got to in the head registers. Done on request, and not with
    /// every frame: heads share a cache line with the tails a driver writes.
    pub fn publish_heads(&mut self) {
        for &queue in &self.receiving {
            let head = self.receive[queue].head;
            self.set(r::receive_offset(queue, QueueRegister::Head), head);
        }
        for &queue in &self.transmitting {
            let head = self.transmit[queue].head;
            self.set(r::transmit_offset(queue, QueueRegister::Head), head);
        }
    }

    pub(super) fn dma_fault(&mut self, what: &str, queue: usize, address: u64) {
        self.violations.record(Violation::DmaFault, || {
            format!("{what} queue {queue}: {address:#x} is no DMA memory for that; the queue stops")
        });
    }
}

/// What an interrupt allocation raises: bit 7 valid, bits 5:0 the vector, or one of 16 causes if there
/// are no vectors.
fn cause(allocation: u32, vectors: bool) -> u64 {
    if allocation & 0x80 == 0 {
        return 0;
    }
    1 << (allocation & if vectors { 0x3F } else { 0xF })
}

/// The cell at byte `offset`.
#[inline(always)]
pub(super) fn cell(
    cells: &(dyn AsRef<[AtomicU32]> + Send + Sync),
    offset: u32,
) -> Option<&AtomicU32> {
    cells.as_ref().get((offset / 4) as usize)
}

impl Plan {
    /// The plan of a device whose registers are all zero.
    #[cfg(test)]
    pub(super) fn of_zeros() -> Self {
        Self::snapshot(|_| 0, None)
    }

    fn snapshot(read: impl Fn(u32) -> u32 + Copy, old: Option<Steering>) -> Self {
        let hlreg0 = read(r::HLREG0);
        let limit = if hlreg0 & r::HLREG0_JUMBO != 0 {
            (read(r::MAXFRS) >> 16) as usize
        } else {
            1518
        };
        let steering = Steering::snapshot(read(r::MRQC), read, old);
        let loopback = hlreg0 & r::HLREG0_LOOPBACK != 0;
        let strip_crc = hlreg0 & r::HLREG0_CRC_STRIP != 0;
        let dma_strips_crc = read(r::RDRXCTL) & r::RDRXCTL_CRC_STRIP != 0;
        Self {
            receive: read(r::RXCTRL) & r::RXCTRL_ENABLE != 0,
            transmit: read(r::DMATXCTL) & r::DMATXCTL_ENABLE != 0,
            filters: Filters::snapshot(read),
            spreads: steering.as_ref().is_some_and(Steering::spreads),
            steering,
            max_frame: limit.saturating_sub(4).min(MAX_FRAME),
            strip_crc,
            crc_agrees: loopback || strip_crc == dma_strips_crc,
            pad: hlreg0 & r::HLREG0_PAD != 0,
            vlan_type: read(r::VLNCTRL) as u16,
            transmit_vlan_type: (read(r::DMATXCTL) >> 16) as u16,
            report_hash: read(r::RXCSUM) & r::RXCSUM_HASH != 0,
            loopback,
        }
    }
}
