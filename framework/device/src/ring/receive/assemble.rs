//! What is no whole frame in one buffer: frames of several, lengths that cannot be, and a pool that has run out.

use core::sync::atomic::Ordering;

use super::{Partial, ReceiveFormat, ReceiveRing, Step, address_of, plausible};
use crate::ring::slots::{status, write};
use crate::ring::{BufferPool, Entry, EntrySink, NO_BUFFER, give_frame};

impl<F: ReceiveFormat> ReceiveRing<F> {
    /// Reaps a complete descriptor, whatever it is: no whole frame, or one of no plausible length.
    #[cold]
    #[inline(never)]
    pub(super) fn reap_part<P: BufferPool, S: EntrySink>(
        &mut self,
        pool: &mut P,
        sink: &mut S,
    ) -> Step {
        if sink.room() == 0 {
            return Step::Nothing;
        }
        // SAFETY: the table knows it from here on.
        let Some(fresh) = (unsafe { pool.take() }) else {
            return self.starve(pool);
        };
        let (descriptor, holder) = self.slots.slot(self.next);
        let state = status(descriptor);
        let annotation = F::annotate(descriptor[0].load(Ordering::Relaxed), state);
        let entry = Entry::new(core::mem::replace(holder, fresh), annotation);
        write(descriptor, [address_of(pool, fresh), 0]);
        self.next = self.next.wrapping_add(1);
        self.assemble(pool, sink, entry, state & F::END == F::END)
    }

    /// Hands a whole frame to the sink. The caller made sure of room; from a sink that refuses all the
    /// same, the buffers go back to the pool.
    fn hand_over<P: BufferPool, S: EntrySink>(
        &mut self,
        pool: &mut P,
        sink: &mut S,
        frame: Entry,
        bytes: u32,
    ) -> Step {
        // SAFETY: the frame's buffers were posted, so this ring's, from the sink's pool; neither the
        // table nor `partial` knows them any more.
        if unsafe { sink.push(frame) } {
            self.counters.bytes += u64::from(bytes);
            Step::Frame
        } else {
            self.counters.refused += 1;
            // SAFETY: as above; the sink did not take them.
            unsafe { give_frame(pool, frame) };
            Step::Buffer
        }
    }

    /// The pool has no buffer to take the place of a completed one. A frame half assembled is given
    /// up, which yields some; else the frames wait.
    #[cold]
    pub(super) fn starve<P: BufferPool>(&mut self, pool: &mut P) -> Step {
        self.counters.pool_exhausted += 1;
        if let Some(Partial::Assembling { head, .. }) = self.partial {
            // SAFETY: the buffers were posted, so this ring's, from this pool; `partial` forgets them.
            unsafe { give_frame(pool, head) };
            self.partial = Some(Partial::Skipping);
            *self.slots.apart() = NO_BUFFER;
            self.counters.starved += 1;
        }
        Step::Nothing
    }

    /// Takes a buffer that is not a whole frame: adds it to the frame it is part of and hands that
    /// over when it ends, or drops it.
    #[cold]
    fn assemble<P: BufferPool, S: EntrySink>(
        &mut self,
        pool: &mut P,
        sink: &mut S,
        entry: Entry,
        end: bool,
    ) -> Step {
        let step = self.add_part(pool, sink, entry, end);
        *self.slots.apart() = match &self.partial {
            Some(Partial::Assembling { head, last, .. }) => {
                // So that whoever finds the head there finds the whole of it, and no more.
                // SAFETY: it was posted, so this ring's.
                unsafe { pool.end(*last) };
                head.id()
            }
            Some(Partial::Skipping) | None => NO_BUFFER,
        };
        step
    }

    fn add_part<P: BufferPool, S: EntrySink>(
        &mut self,
        pool: &mut P,
        sink: &mut S,
        entry: Entry,
        end: bool,
    ) -> Step {
        let good = plausible(entry, pool.capacity());
        let (head, buffers, bytes) = match self.partial.take() {
            Some(Partial::Skipping) => {
                // SAFETY: the buffer was posted, so this ring's, and the table forgot it.
                unsafe { pool.give(&[entry.id()]) };
                self.partial = (!end).then_some(Partial::Skipping);
                return Step::Buffer;
            }
            None => (entry, 1, u32::from(entry.len())),
            Some(Partial::Assembling {
                head,
                last,
                buffers,
                bytes,
            }) => {
                // SAFETY: both buffers were posted, so this ring's, from this pool.
                unsafe { pool.link(last, entry.id(), entry.len()) };
                // Status, hash and tag of a frame are those of its last descriptor.
                let head = entry
                    .with_id(head.id())
                    .with_len(head.len())
                    .with_flags(entry.flags() | Entry::CHAINED);
                (head, buffers + 1, bytes + u32::from(entry.len()))
            }
        };
        if good && end {
            return self.hand_over(pool, sink, head, bytes);
        }
        if good && buffers < self.scatter.max_buffers {
            self.partial = Some(Partial::Assembling {
                head,
                last: entry.id(),
                buffers,
                bytes,
            });
            return Step::Buffer;
        }
        if good {
            self.counters.missing_end += 1;
        } else {
            self.counters.bad_length += 1;
        }
        // SAFETY: the frame's buffers were posted, so this ring's; `partial` was taken above.
        unsafe { give_frame(pool, head) };
        self.partial = (!end).then_some(Partial::Skipping);
        Step::Buffer
    }
}
