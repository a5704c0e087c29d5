//! Registers of receive and transmit queues: a queue is enabled with the ring its registers describe
//! (sections 4.6.7.1 and 4.6.8.1).
//!
//! Invariant: a queue that is polled has a ring with descriptors, and its head among them.

use super::device::Core;
use super::faults::FaultKind;
use super::registers::{self as r, Place, QUEUES, QueueRegister};
use super::strict::Violation;

/// Bytes of the longest ring (section 7.1.9).
const MAX_RING: u32 = 0x8_0000;
impl Core {
    pub(super) fn check_queue_write(&mut self, place: Place, enabled: bool, value: u32) {
        self.check_reserved(place, value);
        let (Place::Receive(_, register) | Place::Transmit(_, register)) = place else {
            return;
        };
        match register {
            QueueRegister::Tail if !enabled && value != 0 && !self.was_enabled(place) => {
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

    /// Whether a queue was enabled since the last reset. A driver that stops one may still move its tail, on another
    /// core (Linux's does): nothing comes of that, and a start with such a tail is found then.
    fn was_enabled(&self, place: Place) -> bool {
        match place {
            Place::Receive(queue, _) => self.receive[queue].count > 0,
            Place::Transmit(queue, _) => self.transmit[queue].count > 0,
            Place::Other(_) => false,
        }
    }

    pub(super) fn receive_written(&mut self, queue: usize, register: QueueRegister, value: u32) {
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

    pub(super) fn transmit_written(&mut self, queue: usize, register: QueueRegister, value: u32) {
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
    pub(super) fn check_receive_rings(&mut self) {
        for queue in 0..QUEUES {
            if self.receive[queue].enabled {
                let length = self.get(r::receive_offset(queue, QueueRegister::Length));
                self.check_ring("receive", queue, length);
            }
        }
    }
}

/// Whether a ring has descriptors at all, and a head among them.
fn usable(length: u32, head: u32) -> bool {
    length <= MAX_RING && head < length / 16
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
