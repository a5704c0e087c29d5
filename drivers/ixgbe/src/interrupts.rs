//! Interrupts by messages (sections 7.3.1 and 8.2.3.5): a vector for each receive queue, and one for the link.
//!
//! A queue's vector masks itself when its message is sent, and its cause clears itself: a driver that was woken
//! polls until nothing comes, then arms the vector again. A cause that came up meanwhile is pending, and
//! arming sends its message at once, so no wake-up is lost.

use sumac_device::{Bar, Doorbell};

use crate::registers::{Interrupt, InterruptArm, InterruptVectors, Registers};

/// Vectors that can be had: more have no bit in the mask registers.
const VECTORS: u16 = 64;
/// GPIE: vectors of their own, PBA support, masking at the message, causes that are no queue's clear on read.
const GPIE: u32 = 1 << 4 | 1 << 31 | 1 << 30 | 1 << 5;
/// EIMS: the link's state changed (section 8.2.3.5.1).
const LINK_CHANGED: u32 = 1 << 20;
/// IVAR: the entry is used (section 8.2.3.5.16).
const USED: u32 = 1 << 7;
/// EITR: no more than one message in five units of 2.048 microseconds (section 8.2.3.5.12); the counter is left
/// alone.
const INTERVAL: u32 = 5 << 3 | 1 << 31;

/// The vector of the link of a port with so many queues.
pub const fn link_vector(queues: u16) -> u16 {
    if queues < VECTORS {
        queues
    } else {
        VECTORS - 1
    }
}

/// Gives each receive queue the vector of its number, and the link the next; queues' vectors are masked until
/// they are armed.
pub(crate) fn set_up(registers: &Registers, queues: u16) {
    let queues = u32::from(queues);
    registers.write(Interrupt::Gpie, GPIE);
    // Two queues a register: receive in the bytes 0 and 2, transmit (which wakes nobody) in 1 and 3.
    for pair in 0..queues.div_ceil(2) {
        let vector = |queue: u32| if queue < queues { USED | queue } else { 0 };
        let allocation = vector(2 * pair) | vector(2 * pair + 1) << 16;
        registers.write(InterruptVectors::Ivar(pair), allocation);
    }
    let link = u32::from(link_vector(queues as u16));
    registers.write(InterruptVectors::IvarMisc, (USED | link) << 8);
    for vector in 0..=link {
        let throttle = match vector {
            0..24 => InterruptVectors::Eitr(vector),
            _ => InterruptVectors::EitrHigh(vector - 24),
        };
        registers.write(throttle, INTERVAL);
    }
    let all = match queues {
        0..64 => (1_u64 << queues) - 1,
        _ => u64::MAX,
    };
    // The link's cause is cleared by whoever reads it.
    registers.write(InterruptVectors::Eiac, all as u32 & 0xFFFF);
    registers.write(InterruptVectors::EiamQueues(0), all as u32);
    registers.write(InterruptVectors::EiamQueues(1), (all >> 32) as u32);
    registers.write(Interrupt::Eims, LINK_CHANGED);
}

/// What lets one queue's vector be sent once more.
pub(crate) struct Arm {
    mask: Doorbell,
    bit: u32,
}

impl Arm {
    pub(crate) fn new(bar: &Bar, queue: u16) -> Self {
        let queue = u32::from(queue % VECTORS);
        Self {
            mask: bar.doorbell(InterruptArm::EimsQueues(queue / 32)),
            bit: 1 << (queue % 32),
        }
    }

    pub(crate) fn arm(&self) {
        self.mask.ring(self.bit);
    }
}
