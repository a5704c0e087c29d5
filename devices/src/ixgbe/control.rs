//! Register accesses and their side effects (section 8.2.3).
//!
//! A trapped front calls [`Core::read`] and [`Core::write`]; a shared one calls
//! [`Core::poll_control`] (`watch`), which finds what changed and acts on it the same way. What queues' own
//! registers do is in `queues`.
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
/// SWSM bit 0: reading it takes it.
const SWSM_SOFTWARE: u32 = 1 << 0;

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
            r::SWFW_SYNC if self.faults.hit(FaultKind::SemaphoreHeld) => {
                value | r::SWFW_SYNC_FIRMWARE
            }
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
                    // Section 8.2.3.8.4 has it read only. Drivers clear it until the receiver is started, as the
                    // manuals of its predecessors let them.
                    QueueRegister::Head => !self.receive_on,
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
                self.wrote_beyond |= offset >= REGISTERS_END;
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

    pub(super) fn check_reserved(&mut self, place: Place, value: u32) {
        let reserved = value & r::reserved(place);
        // The length's low bits have a rule, and a name, of their own.
        if reserved != 0 {
            self.violations.record(Violation::ReservedBit, || {
                format!("{place:x?} = {value:#010x}: bits {reserved:#010x} are reserved")
            });
        }
    }

    /// Returns what the register holds now, if that is not what was written.
    pub(super) fn other_written(&mut self, offset: u32, old: u32, value: u32) -> Option<u32> {
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
        // Nothing beyond the registers has a meaning. Where memory is shared nobody knows what was written.
        if self.wrote_beyond {
            for cell in rest {
                cell.store(0, Ordering::Relaxed);
            }
            self.wrote_beyond = self.access == Access32::Shared;
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
}

/// EEC as it reads after `value` was written: software has the EEPROM's pins if it asked for them.
fn eeprom_granted(value: u32) -> u32 {
    let fixed = 0x0000_0300 | 0x7800;
    let kept = value & !(r::EEC_GRANT | fixed) | (0x0000_0300 | 4 << 11);
    let asked = value & r::EEC_REQUEST != 0;
    kept | if asked { r::EEC_GRANT } else { 0 }
}
