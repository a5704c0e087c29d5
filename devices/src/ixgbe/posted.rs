//! Register writes on their way to a device, in the order in which they were made.
//!
//! Invariant: only who holds the device's lock takes writes out, so `first` has one writer, as `next` has by
//! a lock of its own; a slot between the two is not written.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::device::Core;

/// More than a device's posted credits hold, and fewer than delay whoever waits for them.
const SLOTS: usize = 256;

/// A queue of register writes.
pub(super) struct Posted {
    /// Offset in the high half, value in the low one.
    slots: [AtomicU64; SLOTS],
    /// How many were taken out.
    first: AtomicUsize,
    /// How many were put in.
    next: AtomicUsize,
    /// Held by who puts one in.
    putting: Mutex<()>,
}

impl Posted {
    pub(super) fn new() -> Self {
        Self {
            slots: [const { AtomicU64::new(0) }; SLOTS],
            first: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            putting: Mutex::new(()),
        }
    }

    /// Sends a write on its way; false when there are too many already.
    pub(super) fn post(&self, offset: u32, value: u32) -> bool {
        let _alone = self.putting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.next.load(Ordering::Relaxed);
        if next.wrapping_sub(self.first.load(Ordering::Acquire)) >= SLOTS {
            return false;
        }
        let write = u64::from(offset) << 32 | u64::from(value);
        self.slots[next % SLOTS].store(write, Ordering::Relaxed);
        self.next.store(next.wrapping_add(1), Ordering::Release);
        true
    }

    /// Those that were sent take effect.
    #[inline]
    pub(super) fn arrive(&self, core: &mut Core) {
        let first = self.first.load(Ordering::Relaxed);
        let next = self.next.load(Ordering::Acquire);
        if first != next {
            self.take(core, first, next);
        }
    }

    #[cold]
    fn take(&self, core: &mut Core, first: usize, next: usize) {
        let mut at = first;
        while at != next {
            let write = self.slots[at % SLOTS].load(Ordering::Relaxed);
            core.write((write >> 32) as u32, write as u32);
            at = at.wrapping_add(1);
        }
        self.first.store(next, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use super::super::Identity;
    use super::super::device::Access32;
    use super::super::registers::{BAR_BYTES, MAXFRS};
    use super::*;

    fn core() -> Core {
        let cells: Vec<AtomicU32> = (0..BAR_BYTES / 4).map(|_| AtomicU32::new(0)).collect();
        let trapped = Access32::Trapped;
        Core::new(
            Arc::new(cells),
            trapped,
            Identity::default(),
            Vec::new(),
            false,
        )
    }

    #[test]
    fn writes_wait_in_order_until_they_arrive() {
        let (posted, mut core) = (Posted::new(), core());
        let before = core.read(MAXFRS);
        for turn in 0..3 * SLOTS as u32 {
            if !posted.post(MAXFRS, turn << 16) {
                assert_eq!(turn as usize % SLOTS, 0, "as many wait as there are slots");
                posted.arrive(&mut core);
                assert_eq!(core.read(MAXFRS), (turn - 1) << 16, "the last one counts");
                assert!(posted.post(MAXFRS, turn << 16), "there is room again");
            }
            if turn == 0 {
                assert_eq!(core.read(MAXFRS), before, "it has not arrived");
            }
        }
    }
}
