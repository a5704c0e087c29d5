//! Fronts of plain memory: which registers a driver has written is found by looking.
//!
//! Invariant: every write is acted on as a trapped one would be, once, and later.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::device::Core;
use super::registers::{self as r, Place, QUEUES, QueueRegister};

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
    pub(super) fn remember_all(&mut self) {
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

/// The bit of the register at `offset` that asks for a flush, if it has one.
fn flush_bit(offset: u32) -> u32 {
    match r::decode(offset) {
        Place::Transmit(_, QueueRegister::Control) => r::TXDCTL_FLUSH,
        _ => 0,
    }
}
