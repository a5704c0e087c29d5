//! Register accesses and their side effects (section 8.2.3).
//!
//! A trapped front calls [`Core::read`] and [`Core::write`]; a shared one calls
//! [`Core::poll_control`], which finds what changed and acts on it the same way.
//!
//! Invariant: every side effect has taken place when the access returns, so a driver's waits end
//! at once, unless a fault keeps them waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Module;
use super::device::{Access32, Core, cell};
use super::faults::FaultKind;
use super::registers::{self as r, BAR_BYTES, Place, QUEUES, QueueRegister};
use super::strict::Violation;

/// LINKS while the link is up: 10 Gbit/s, aligned, signal detected, autonegotiation complete.
const LINKS_10G: u32 = r::LINKS_UP | 0x3000_0000 | 0x8000_0000 | 0x0002_0000 | 0x0000_0F00;
/// No register has an offset beyond (section 8.2.3).
const REGISTERS_END: u32 = 0x2_0000;
/// Bytes of the longest ring (section 7.1.9).
const MAX_RING: u32 = 0x8_0000;
/// SWSM bit 0: reading it takes it.
const SWSM_SOFTWARE: u32 = 1 << 0;
/// SWFW_SYNC bits 9:5: firmware holds the resource.
const SYNC_FIRMWARE: u32 = 0x1F << 5;

/// Registers a shared front watches for side effects, queues apart.
const WATCHED: &[u32] = &[
    r::CTRL,
    r::EEC,
    r::EERD,
    r::MSCA,
    r::AUTOC,
    r::RXCTRL,
    r::DMATXCTL,
    r::MTQC,
    r::FCTRL,
    r::HLREG0,
    r::RDRXCTL,
    r::MAXFRS,
    r::VLNCTRL,
    r::MRQC,
    r::RXCSUM,
    r::MCSTCTRL,
    r::EIMC,
    r::EICS,
];

/// Tables whose contents only change the plan: first offset and number of registers.
const TABLES: &[(u32, u32)] = &[
    (r::RETA, 32),
    (r::RSSRK, 10),
    (r::MTA, 128),
    (r::UTA, 128),
    (r::VFTA, 128),
    (r::RAL_LOW, 32),
    (r::RAL, 256),
    (r::RQSMR, 32),
    (r::TQSM, 32),
    (r::IVAR, 64),
];

impl Core {
    /// A driver reads the register at byte `offset`.
    pub fn read(&mut self, offset: u32) -> u32 {
        if self.faults.any() && (self.gone() || self.faults.hit(FaultKind::ReadsAllOnes)) {
            return u32::MAX;
        }
        if !offset.is_multiple_of(4) || offset >= BAR_BYTES {
            self.bar_violation("read", offset);
            return u32::MAX;
        }
        match r::decode(offset) {
            Place::Receive(queue, QueueRegister::Head) => {
                self.reported_head(self.receive[queue].head, self.receive[queue].count)
            }
            Place::Transmit(queue, QueueRegister::Head) => {
                self.reported_head(self.transmit[queue].head, self.transmit[queue].count)
            }
            Place::Receive(queue, QueueRegister::Control) => {
                self.reported_enable(r::receive_offset(queue, QueueRegister::Control))
            }
            Place::Transmit(queue, QueueRegister::Control) => {
                self.reported_enable(r::transmit_offset(queue, QueueRegister::Control))
            }
            Place::Receive(queue, register) => self.get(r::receive_offset(queue, register)),
            Place::Transmit(queue, register) => self.get(r::transmit_offset(queue, register)),
            Place::Other(offset) => self.read_other(offset),
        }
    }

    fn read_other(&mut self, offset: u32) -> u32 {
        if let Some(value) = self.statistics.take(offset) {
            return value;
        }
        let value = self.get(offset);
        match offset {
            r::EICR => self.read_causes(),
            r::I2CCTL => self.i2c.read(),
            r::SWSM if self.faults.hit(FaultKind::SemaphoreHeld) => value | SWSM_SOFTWARE,
            r::SWSM => {
                self.set(r::SWSM, value | SWSM_SOFTWARE);
                value
            }
            r::SWFW_SYNC if self.faults.hit(FaultKind::SemaphoreHeld) => value | SYNC_FIRMWARE,
            r::LINKS if self.faults.hit(FaultKind::LinkDown) => 0,
            r::RDRXCTL if self.faults.hit(FaultKind::DmaInitNeverDone) => {
                value & !r::RDRXCTL_DMA_INIT_DONE
            }
            _ => value,
        }
    }

    fn reported_head(&mut self, head: u32, count: u32) -> u32 {
        if self.faults.hit(FaultKind::HeadBeyondRing) {
            head + count
        } else {
            head
        }
    }

    fn reported_enable(&mut self, offset: u32) -> u32 {
        let value = self.get(offset);
        if value & r::QUEUE_ENABLE != 0 && self.faults.hit(FaultKind::QueueNeverEnables) {
            value & !r::QUEUE_ENABLE
        } else {
            value
        }
    }

    /// A driver writes the register at byte `offset`.
    pub fn write(&mut self, offset: u32, value: u32) {
        if self.faults.any() && self.gone() {
            return;
        }
        if !offset.is_multiple_of(4) || offset >= BAR_BYTES {
            return self.bar_violation("write", offset);
        }
        let place = r::decode(offset);
        match place {
            Place::Receive(queue, register) => {
                let free = match register {
                    // Software may change its mind on what is dropped.
                    QueueRegister::Buffers => {
                        (value ^ self.get(r::receive_offset(queue, register))) & !r::SRRCTL_DROP
                            == 0
                    }
                    _ => false,
                };
                self.check_queue_write(place, self.receive[queue].enabled && !free, value);
                let value = value & r::kept(place);
                self.store(r::receive_offset(queue, register), value);
                self.receive_written(queue, register, value);
            }
            Place::Transmit(queue, register) => {
                self.check_queue_write(place, self.transmit[queue].enabled, value);
                let value = value & r::kept(place);
                self.store(r::transmit_offset(queue, register), value);
                self.transmit_written(queue, register, value);
            }
            Place::Other(offset) => {
                let old = self.get(offset);
                self.check_reserved(place, value);
                let value = value & r::kept(place);
                self.set(offset, value);
                if self.interrupt_written(offset, value) {
                    // Which cause a queue has depends on whether there are vectors.
                    self.plan_stale |= offset == r::GPIE;
                    return;
                }
                let _ = self.other_written(offset, old, value);
            }
        }
    }

    /// A read of `len` bytes at `offset`; anything but four has no meaning (section 8.1.1).
    pub fn read_bytes(&mut self, offset: u32, len: usize) -> u32 {
        if len == 4 {
            return self.read(offset);
        }
        self.bar_violation("short read", offset);
        u32::MAX
    }

    /// A write of a few bytes at `offset`; anything but four has no effect.
    pub fn write_bytes(&mut self, offset: u32, bytes: &[u8]) {
        match bytes.first_chunk() {
            Some(bytes) => self.write(offset, u32::from_le_bytes(*bytes)),
            None => self.bar_violation("short write", offset),
        }
    }

    /// A tail may be what another thread waits for.
    fn store(&self, offset: u32, value: u32) {
        if let Some(cell) = cell(&*self.cells, offset) {
            cell.store(value, Ordering::Release);
        }
    }

    fn bar_violation(&mut self, what: &str, offset: u32) {
        self.violations.record(Violation::BarAccess, || {
            format!("{what} at {offset:#x}; the BAR has {BAR_BYTES:#x} bytes in words of four")
        });
    }

    fn check_reserved(&mut self, place: Place, value: u32) {
        let reserved = value & r::reserved(place);
        // The length's low bits have a rule, and a name, of their own.
        if reserved != 0 {
            self.violations.record(Violation::ReservedBit, || {
                format!("{place:x?} = {value:#010x}: bits {reserved:#010x} are reserved")
            });
        }
    }

    fn check_queue_write(&mut self, place: Place, enabled: bool, value: u32) {
        self.check_reserved(place, value);
        let (Place::Receive(_, register) | Place::Transmit(_, register)) = place else {
            return;
        };
        match register {
            QueueRegister::Tail if !enabled && value != 0 => {
                self.violations.record(Violation::TailWhileDisabled, || {
                    format!("{place:?} = {value} before the queue is enabled")
                });
            }
            QueueRegister::Control | QueueRegister::Tail => {}
            _ if enabled => {
                self.violations
                    .record(Violation::QueueWriteWhileEnabled, || {
                        format!("{place:?} = {value:#x} while the queue is enabled")
                    });
            }
            _ => {}
        }
    }

    fn receive_written(&mut self, queue: usize, register: QueueRegister, value: u32) {
        match register {
            QueueRegister::Control => self.control_receive(queue, value),
            QueueRegister::Head => self.receive[queue].restart_at(value),
            QueueRegister::Buffers => {
                self.receive[queue].drop_enable = value & r::SRRCTL_DROP != 0;
            }
            QueueRegister::Tail => {
                let count = self.receive[queue].count;
                if self.tail_is_bad(Place::Receive(queue, register), value, count) {
                    self.receive[queue].bad_tail = true;
                }
            }
            _ => {}
        }
    }

    fn transmit_written(&mut self, queue: usize, register: QueueRegister, value: u32) {
        match register {
            QueueRegister::Control => self.control_transmit(queue, value),
            QueueRegister::Head => self.transmit[queue].restart_at(value),
            QueueRegister::Tail => {
                let count = self.transmit[queue].count;
                if self.tail_is_bad(Place::Transmit(queue, register), value, count) {
                    self.transmit[queue].bad_tail = true;
                }
            }
            _ => {}
        }
    }

    fn tail_is_bad(&mut self, place: Place, tail: u32, count: u32) -> bool {
        let bad = count != 0 && tail >= count;
        if bad {
            self.violations.record(Violation::TailBeyondRing, || {
                format!("{place:?} = {tail} in a ring of {count}")
            });
        }
        bad
    }

    /// RXDCTL: a queue is enabled with the ring its registers describe (section 4.6.7.1).
    fn control_receive(&mut self, queue: usize, value: u32) {
        use QueueRegister::{BaseHigh, BaseLow, Buffers, Head, Length, Tail};
        let enable = value & r::QUEUE_ENABLE != 0;
        self.receive[queue].strip_vlan = value & r::RXDCTL_VLAN_STRIP != 0;
        if enable == self.receive[queue].enabled {
            return;
        }
        if !enable && self.faults.hit(FaultKind::QueueNeverDisables) {
            self.set(
                r::receive_offset(queue, QueueRegister::Control),
                value | r::QUEUE_ENABLE,
            );
            return;
        }
        self.receive[queue].enabled = false;
        self.receiving.retain(|&other| other != queue);
        if !enable {
            let head = self.receive[queue].head;
            self.set(r::receive_offset(queue, Head), head);
            return;
        }
        let get = |register| self.get(r::receive_offset(queue, register));
        let (base, length) = (join(get(BaseLow), get(BaseHigh)), get(Length));
        let (head, tail, buffers) = (get(Head), get(Tail), get(Buffers));
        self.check_start("receive", queue, head, tail);
        if self.receive_on {
            self.check_ring("receive", queue, length);
        }
        let kind = buffers >> 25 & 7;
        if !matches!(kind, 0 | 1) {
            self.violations
                .record(Violation::HeaderSplitUnsupported, || {
                    format!("SRRCTL({queue}) = {buffers:#x}: descriptor type {kind}")
                });
        }
        let state = &mut self.receive[queue];
        state.base = base & !0x7F;
        state.count = length / 16;
        state.advanced = kind != 0;
        // A size of zero stands for 2 KiB, as legacy descriptors have it.
        state.buffer_size = match (buffers & 0x1F) as usize {
            0 => 2048,
            kilobytes => kilobytes * 1024,
        };
        state.drop_enable = buffers & r::SRRCTL_DROP != 0;
        state.restart(head);
        state.enabled = true;
        if usable(length, head) {
            self.receiving.push(queue);
        } else {
            state.count = 0;
        }
        self.plan_stale = true;
    }

    /// TXDCTL: likewise (section 4.6.8.1).
    fn control_transmit(&mut self, queue: usize, value: u32) {
        use QueueRegister::{BaseHigh, BaseLow, Head, Length, Tail, WriteBackHigh, WriteBackLow};
        let enable = value & r::QUEUE_ENABLE != 0;
        self.write_back_written(queue, value);
        if enable == self.transmit[queue].enabled {
            return;
        }
        if !enable && self.faults.hit(FaultKind::QueueNeverDisables) {
            self.set(
                r::transmit_offset(queue, QueueRegister::Control),
                value | r::QUEUE_ENABLE,
            );
            return;
        }
        if !enable {
            if !self.closes_later(queue) {
                self.close_transmit(queue);
            }
            return;
        }
        if self.get(r::DMATXCTL) & r::DMATXCTL_ENABLE == 0 {
            self.violations.record(Violation::TransmitEnableOrder, || {
                format!("TXDCTL({queue}).ENABLE before DMATXCTL.TE")
            });
        }
        let get = |register| self.get(r::transmit_offset(queue, register));
        let (base, length) = (join(get(BaseLow), get(BaseHigh)), get(Length));
        let (head, tail) = (get(Head), get(Tail));
        let write_back = join(get(WriteBackLow), get(WriteBackHigh));
        self.check_start("transmit", queue, head, tail);
        self.check_ring("transmit", queue, length);
        if !usable(length, head) {
            return;
        }
        let state = &mut self.transmit[queue];
        state.base = base & !0x7F;
        state.count = length / 16;
        state.head_write_back = (write_back & 1 != 0).then_some(write_back & !3);
        state.restart(head);
        state.enabled = true;
        self.transmitting.push(queue);
        self.plan_stale = true;
    }

    /// Takes a transmit queue out of service.
    pub(super) fn close_transmit(&mut self, queue: usize) {
        self.transmit[queue].enabled = false;
        self.transmitting.retain(|&other| other != queue);
        let head = self.transmit[queue].head;
        self.set(r::transmit_offset(queue, QueueRegister::Head), head);
    }

    /// A ring is for use from now on.
    fn check_ring(&mut self, what: &str, queue: usize, length: u32) {
        if length == 0 || !length.is_multiple_of(128) || length > MAX_RING {
            self.violations.record(Violation::RingLength, || {
                format!("{what} queue {queue} enabled with a ring of {length} bytes")
            });
        }
    }

    fn check_start(&mut self, what: &str, queue: usize, head: u32, tail: u32) {
        if head != tail {
            self.violations.record(Violation::TailWhileDisabled, || {
                format!("{what} queue {queue} enabled with head {head}, tail {tail}")
            });
        }
    }

    /// RXCTRL.RXEN: what queues that are enabled already have is for use from now on.
    fn check_receive_rings(&mut self) {
        for queue in 0..QUEUES {
            if self.receive[queue].enabled {
                let length = self.get(r::receive_offset(queue, QueueRegister::Length));
                self.check_ring("receive", queue, length);
            }
        }
    }

    /// Returns what the register holds now, if that is not what was written.
    fn other_written(&mut self, offset: u32, old: u32, value: u32) -> Option<u32> {
        self.plan_stale = true;
        let left = match offset {
            r::EERD => return self.eeprom_read(value),
            r::MSCA => return self.mdio(value),
            r::AUTOC => return self.autonegotiate(value),
            r::EICR => old & !value,
            r::EICS | r::EIMC => 0,
            r::EIMS => old | value,
            r::EEC => eeprom_granted(value),
            r::ESDP => self.pins(value),
            r::STATUS | r::LINKS | r::SECRXSTAT | r::SECTXSTAT | r::FWSM | r::FACTPS => old,
            r::RDRXCTL => value | r::RDRXCTL_DMA_INIT_DONE,
            _ => value,
        };
        if left != value {
            self.set(offset, left);
        }
        self.take_effect(offset, old, value);
        (left != value).then_some(left)
    }

    /// What a write does beyond the register itself.
    fn take_effect(&mut self, offset: u32, old: u32, value: u32) {
        match offset {
            r::CTRL => self.control_written(value),
            r::EICS => {
                self.raise(u64::from(value & 0xFFFF));
                self.raise_other(value & !0xFFFF);
            }
            r::EIMC => self.set(r::EIMS, self.get(r::EIMS) & !value),
            r::I2CCTL => self.i2c.write(value),
            r::RDRXCTL => {
                self.check_while_receiving("RDRXCTL", (old ^ value) & r::RDRXCTL_CRC_STRIP);
            }
            r::HLREG0 => {
                self.check_while_receiving("HLREG0", (old ^ value) & r::HLREG0_CRC_STRIP);
            }
            r::RXCTRL => {
                self.receive_on = value & r::RXCTRL_ENABLE != 0;
                if self.receive_on && old & r::RXCTRL_ENABLE == 0 {
                    self.check_receive_rings();
                }
            }
            r::MTQC => self.check_arbiter(old ^ value),
            _ => {}
        }
    }

    fn control_written(&mut self, value: u32) {
        if value & (r::CTRL_RESET | r::CTRL_LINK_RESET) != 0 {
            if self.faults.hit(FaultKind::ResetNeverCompletes) {
                return;
            }
            self.reset();
            return;
        }
        let master = value & r::CTRL_GIO_DISABLE == 0;
        let status = self.get(r::STATUS) & !r::STATUS_GIO_MASTER;
        self.set(
            r::STATUS,
            status | if master { r::STATUS_GIO_MASTER } else { 0 },
        );
    }

    fn check_while_receiving(&mut self, name: &str, changed: u32) {
        if changed != 0 && self.get(r::RXCTRL) & r::RXCTRL_ENABLE != 0 {
            self.violations
                .record(Violation::ControlWriteWhileReceiving, || {
                    format!("{name}: bits {changed:#x} changed while RXCTRL.RXEN is set")
                });
        }
    }

    fn check_arbiter(&mut self, changed: u32) {
        if changed != 0 && self.get(r::RTTDCS) & r::RTTDCS_ARBITER_OFF == 0 {
            self.violations.record(Violation::MtqcWithArbiter, || {
                "MTQC changed while RTTDCS.ARBDIS is clear".into()
            });
        }
    }

    /// EERD (section 8.2.3.2.2): address in bits 15:2, data in bits 31:16. Returns what it holds then.
    fn eeprom_read(&mut self, value: u32) -> Option<u32> {
        if value & r::EERD_START == 0 || self.faults.hit(FaultKind::EepromNeverDone) {
            return None;
        }
        let address = value >> 2 & 0x3FFF;
        let mut word = self.eeprom.word(address);
        if self.faults.hit(FaultKind::EepromGarbage) {
            word ^= 1;
        }
        let done = u32::from(word) << 16 | address << 2 | r::EERD_DONE;
        self.set(r::EERD, done);
        Some(done)
    }

    /// ESDP after `value` was written: pins that are inputs have the level the board gives them (section
    /// 8.2.3.1.4).
    fn pins(&self, value: u32) -> u32 {
        let inputs = !(value >> 8) & 0xFF;
        let full = self.identity.module != Module::Absent;
        value & !inputs | inputs & if full { r::ESDP_MODULE } else { 0 }
    }

    /// MSCA: no PHY answers on MDIO, which reads as all ones. Returns what it holds then.
    fn mdio(&mut self, value: u32) -> Option<u32> {
        if value & r::MSCA_COMMAND == 0 {
            return None;
        }
        self.set(r::MSRWD, self.get(r::MSRWD) | 0xFFFF_0000);
        let done = value & !r::MSCA_COMMAND;
        self.set(r::MSCA, done);
        Some(done)
    }

    /// Returns what AUTOC holds then.
    fn autonegotiate(&mut self, value: u32) -> Option<u32> {
        if value & r::AUTOC_RESTART == 0 {
            return None;
        }
        self.set(r::ANLP1, 0x0001_0000);
        self.publish_link();
        self.raise_other(r::EICR_LINK);
        let done = value & !r::AUTOC_RESTART;
        self.set(r::AUTOC, done);
        Some(done)
    }

    /// LINKS as the wire has it.
    pub(super) fn publish_link(&mut self) {
        self.set(r::LINKS, if self.link_up { LINKS_10G } else { 0 });
    }

    /// Power-on and CTRL.RST (section 4.2): every register has its reset value, every queue is
    /// off. Semaphores belong to software and survive.
    pub(super) fn reset(&mut self) {
        let kept = [r::SWSM, r::SWFW_SYNC].map(|offset| (offset, self.get(offset)));
        let cells = Arc::clone(&self.cells);
        let (registers, rest) = (*cells).as_ref().split_at(REGISTERS_END as usize / 4);
        // CTRL.RST, the first, ends at once: a driver waits ten microseconds for it. Where memory is
        // shared the driver goes on ten milliseconds later, so the rest must not take long.
        for cell in registers {
            cell.store(0, Ordering::Relaxed);
        }
        for &(offset, value) in r::RESET_VALUES.iter().chain(&kept) {
            self.set(offset, value);
        }
        for queue in 0..QUEUES {
            self.set(r::transmit_offset(queue, QueueRegister::Control), 0);
            self.receive[queue] = Default::default();
            self.transmit[queue] = Default::default();
        }
        self.receiving.clear();
        self.transmitting.clear();
        self.flushing.clear();
        self.receive_on = false;
        self.statistics.reset();
        self.interrupts.reset();
        self.inside.clear();
        self.load_identity();
        if self.access == Access32::Shared {
            // Nobody can follow lines moved by hand in shared memory: they stay high.
            self.set(r::I2CCTL, 0xF);
            self.remember_all();
        }
        // Nothing beyond the registers has a meaning.
        for cell in rest {
            cell.store(0, Ordering::Relaxed);
        }
        self.plan_stale = true;
    }

    fn load_identity(&mut self) {
        let m = self.identity.mac;
        self.set(r::RAL_LOW, u32::from_le_bytes([m[0], m[1], m[2], m[3]]));
        let high = u32::from(u16::from_le_bytes([m[4], m[5]]));
        self.set(r::RAL_LOW + 4, high | r::RAH_VALID);
        let function = u32::from(self.identity.function & 1);
        self.set(r::STATUS, r::STATUS_GIO_MASTER | function << 2);
        self.set(r::FACTPS, 0);
        self.set(r::ESDP, self.pins(0));
        self.set(r::AUTOC, self.identity.link_mode());
        self.set(r::AUTOC2, 2 << 16);
        self.publish_link();
    }

    /// Looks for registers a driver has written and acts on them; for shared fronts, to be called
    /// every few microseconds. `starting` is called before a queue is taken into use, for whoever
    /// must find out where its ring and buffers are.
    pub fn poll_control(&mut self, mut starting: impl FnMut()) {
        // Asked for once: there are a thousand registers to compare within a few microseconds.
        let cells = Arc::clone(&self.cells);
        let cells = (*cells).as_ref();
        let mut seen = std::mem::take(&mut self.seen);
        for (offset, old) in &mut seen {
            let cell = cells.get((*offset / 4) as usize);
            // A queue's other registers, written before its ENABLE, are read after it.
            let value = cell.map_or(u32::MAX, |cell| cell.load(Ordering::Acquire));
            if value == *old {
                continue;
            }
            let before = std::mem::replace(old, value);
            let place = r::decode(*offset);
            if starts_queue(place, before, value) {
                self.follow_alias(place);
                starting();
            }
            let left = match place {
                Place::Receive(queue, register) => {
                    self.receive_written(queue, register, value);
                    None
                }
                Place::Transmit(queue, register) => {
                    self.transmit_written(queue, register, value);
                    None
                }
                Place::Other(offset) => self.other_written(offset, before, value),
            };
            if !self.seen.is_empty() {
                // A reset remembered everything anew.
                return;
            }
            // Not what the cell holds by now: the driver may have written again meanwhile.
            if let Some(left) = left {
                *old = left;
            }
            // A flush that is under way must not hide the next one.
            *old &= !flush_bit(*offset);
        }
        self.seen = seen;
    }

    /// SRRCTL of queues 0 to 15 has two addresses (section 8.2.3.8.7), of which the older is read here;
    /// in plain memory what a driver wrote to the other must be carried over.
    fn follow_alias(&self, place: Place) {
        let Place::Receive(queue @ 0..16, _) = place else {
            return;
        };
        match self.get(r::SRRCTL + 0x40 * queue as u32) {
            0 => {}
            value => self.set(r::receive_offset(queue, QueueRegister::Buffers), value),
        }
    }

    /// Takes what the cells hold now as known.
    fn remember_all(&mut self) {
        // Heads last: a queue that is seen enabled has the head that was written before, and what a
        // later look found in that register would move it while it runs.
        let queues = (0..QUEUES).flat_map(|queue| {
            [
                r::receive_offset(queue, QueueRegister::Control),
                r::receive_offset(queue, QueueRegister::Head),
                r::transmit_offset(queue, QueueRegister::Control),
                r::transmit_offset(queue, QueueRegister::Head),
            ]
        });
        let tables = TABLES
            .iter()
            .flat_map(|&(base, count)| (0..count).map(move |index| base + 4 * index));
        let offsets: Vec<u32> = (WATCHED.iter().copied())
            .chain(queues)
            .chain(tables)
            .collect();
        self.seen = (offsets.into_iter())
            .map(|offset| (offset, self.get(offset)))
            .collect();
    }
}

/// Whether a write to `place` that made `value` of `before` enables a queue.
fn starts_queue(place: Place, before: u32, value: u32) -> bool {
    let (Place::Receive(_, register) | Place::Transmit(_, register)) = place else {
        return false;
    };
    register == QueueRegister::Control && value & !before & r::QUEUE_ENABLE != 0
}

/// EEC as it reads after `value` was written: software has the EEPROM's pins if it asked for them.
fn eeprom_granted(value: u32) -> u32 {
    let fixed = 0x0000_0300 | 0x7800;
    let kept = value & !(r::EEC_GRANT | fixed) | (0x0000_0300 | 4 << 11);
    let asked = value & r::EEC_REQUEST != 0;
    kept | if asked { r::EEC_GRANT } else { 0 }
}

/// The bit of the register at `offset` that asks for a flush, if it has one.
fn flush_bit(offset: u32) -> u32 {
    match r::decode(offset) {
        Place::Transmit(_, QueueRegister::Control) => r::TXDCTL_FLUSH,
        _ => 0,
    }
}

/// Whether a ring has descriptors at all, and a head among them.
fn usable(length: u32, head: u32) -> bool {
    length <= MAX_RING && head < length / 16
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
