//! Buffers that the device is done with, on their way back to the pool.

use super::{RECLAIM_ABOVE, TransmitFormat, TransmitRing};
use crate::Whole;
use crate::ring::slots::status;
use crate::ring::{BufferPool, NO_BUFFER};

impl<F: TransmitFormat> TransmitRing<F> {
    /// Gives back every buffer the device reported done. For idle moments: while frames are posted,
    /// [`post`](Self::post) does it by itself. Nothing comes back to a pool the buffers are not of.
    pub fn reclaim<P: BufferPool>(&mut self, pool: &mut P) {
        // SAFETY: bounded by the ring, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        if self.pool == pool.key() {
            self.reclaim_all(pool, self.next);
        }
    }

    /// Gives back finished buffers in time for `waiting` frames, and sets when to look again: not
    /// at every call while the device has finished nothing.
    #[cold]
    #[inline(never)]
    pub(super) fn reclaim_ahead<P: BufferPool>(&mut self, pool: &mut P, waiting: usize) {
        if (self.free() as usize) < waiting {
            self.reclaim_all(pool, self.next);
        } else {
            self.reclaim_groups(pool, self.group);
        }
        let next_look = self.outstanding() + self.group;
        self.reclaim_at = next_look.max(RECLAIM_ABOVE).min(self.slots.mask());
    }

    /// Gives back all finished buffers: those of each group, or, when the last report asked for is in,
    /// those of every slot. `end` is what `next` was when the device was last told of it.
    pub(super) fn reclaim_all<P: BufferPool>(&mut self, pool: &mut P, end: u32) {
        let last = self.slots.descriptor(end.wrapping_sub(1));
        if self.oldest != end && status(last) & F::DONE == F::DONE {
            self.first_report = self.next_report;
            self.release(pool, end);
        } else {
            self.reclaim_groups(pool, 0);
        }
    }

    /// Gives back finished buffers by groups until at most `keep` descriptors are outstanding or the
    /// device reported no more.
    #[inline]
    fn reclaim_groups<P: BufferPool>(&mut self, pool: &mut P, keep: u32) {
        let mut done = self.oldest;
        while self.first_report != self.next_report && self.next.wrapping_sub(done) > keep {
            let slot = self.report(self.first_report);
            if status(self.slots.descriptor(slot)) & F::DONE != F::DONE {
                break;
            }
            self.first_report = self.first_report.wrapping_add(1);
            done = slot.wrapping_add(1);
        }
        self.release(pool, done);
    }

    /// The slot of a report asked for.
    fn report(&self, report: u32) -> u32 {
        let index = (report & self.slots.mask()) as usize;
        self.reports.get(index).copied().unwrap_or(0)
    }

    /// Gives back the buffers of the slots before `end`. `pool` is the one they are of.
    #[inline]
    pub(super) fn release<P: BufferPool>(&mut self, pool: &mut P, end: u32) {
        let count = end.wrapping_sub(self.oldest);
        if count == 0 {
            return;
        }
        let mask = self.slots.mask();
        let start = (self.oldest & mask) as usize;
        let size = self.slots.size() as usize;
        let contexts = self.contexts;
        let whole = start..(start + count as usize).min(size);
        let wrapped = 0..(start + count as usize).saturating_sub(size);
        for range in [whole, wrapped] {
            let Some(slots) = self.slots.posted().get_mut(range) else {
                continue;
            };
            if self.contexts == 0 {
                // SAFETY: these slots were posted since they were last released, each with a buffer
                // of this pool, and are released now: `oldest` moves past them below.
                unsafe { pool.give(slots) };
            } else {
                for id in &*slots {
                    if *id == NO_BUFFER {
                        self.contexts -= 1;
                    } else {
                        // SAFETY: as above.
                        unsafe { pool.give(core::slice::from_ref(id)) };
                    }
                }
            }
            slots.fill(NO_BUFFER);
        }
        let buffers = count - (contexts - self.contexts);
        // SAFETY: so many came back just now.
        unsafe { pool.account(0, buffers) };
        self.counters.reclaimed += u64::from(buffers);
        self.oldest = end;
    }
}
