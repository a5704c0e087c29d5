//! Typed descriptor rings: a driver posts buffers it owns and gets back only what it posted.
//!
//! A ring is memory of 16-byte descriptors that processor and device share, a doorbell, and a table
//! of what was posted where. The table is the driver side's own: whatever a device writes into a
//! descriptor, the buffer that comes back is the one that was posted in that slot, and its length
//! never exceeds what was posted. The driver supplies a *format* (which bits mean what) in safe
//! code; the address word is written by the ring alone, so no format can name foreign memory.
//!
//! - [`ReceiveRing`]: empty buffers out, filled ones back, in order.
//! - [`TransmitRing`]: filled buffers out, in order; given back to the pool when the device is done.
//!
//! Buffers are [`BufferId`]s of a [`BufferPool`]; filled ones travel as [`Entry`]s, 16 bytes each,
//! so that a batch is a dense array and no per-buffer header is touched on the fast path.

mod entry;
mod receive;
mod slots;
mod transmit;
#[cfg(test)]
mod wrap_tests;

pub use entry::Entry;
pub use receive::{ReceiveCounters, ReceiveFormat, ReceiveRing, Scatter};
pub use slots::RingSize;
pub use transmit::{Part, TransmitCounters, TransmitFormat, TransmitRing};

use core::mem::MaybeUninit;

use crate::Iova;

/// One buffer of a pool.
pub type BufferId = u32;

/// Stands where no buffer is: a descriptor without one.
pub const NO_BUFFER: BufferId = u32::MAX;

/// The [`key`](BufferPool::key) no pool has.
const NO_POOL: usize = 0;

/// Where the buffers of a pool are: equally far apart, in one piece.
#[derive(Clone, Copy, Debug)]
pub struct BufferAddresses {
    first: Iova,
    /// Where the processor sees the first one; for prefetching only.
    base: *const u8,
    stride: u32,
}

impl BufferAddresses {
    /// Buffers `stride` bytes apart, the first one at `first` for the device and at `base` for the
    /// processor.
    pub const fn new(first: Iova, base: *const u8, stride: u32) -> Self {
        Self {
            first,
            base,
            stride,
        }
    }

    /// Asks for the first cache line of buffer `id`, to be written soon. A hint: any number will do.
    #[inline(always)]
    pub fn prefetch(self, id: BufferId) {
        prefetch_for_write(self.base.wrapping_add(id as usize * self.stride as usize));
    }

    /// Where the device sees buffer `id`.
    ///
    /// # Safety
    /// The pool has such a buffer.
    #[inline(always)]
    pub unsafe fn of(self, id: BufferId) -> Iova {
        self.first.offset(u64::from(id) * u64::from(self.stride))
    }
}

/// Where a ring gets buffers and where it gives them back.
///
/// # Safety
/// Implementers promise: an id from [`take`](Self::take) or [`use_stock`](Self::use_stock) belongs to the
/// caller alone until it is given back; the device may write `capacity` bytes at its address until
/// then, whatever it writes there; an id the pool never handed out is answered without touching
/// foreign memory; and pools that live at the same time have different [`key`](Self::key)s,
/// none of them zero.
pub unsafe trait BufferPool {
    /// Tells one pool from another: a ring refuses entries of a foreign pool.
    fn key(&self) -> usize;
    /// Bytes a buffer holds.
    fn capacity(&self) -> u16;
    /// Where the buffers are.
    fn addresses(&self) -> BufferAddresses;
    /// A free buffer; none when the pool is exhausted.
    ///
    /// # Safety
    /// The caller owns it from now on, and sees to it that it is found when it is gone: a number by itself
    /// is nobody's.
    unsafe fn take(&mut self) -> Option<BufferId>;
    /// Up to `wanted` free buffers to look at; they stay the pool's until
    /// [`use_stock`](Self::use_stock).
    fn stock(&mut self, wanted: usize) -> &[BufferId];
    /// Takes the last `count` buffers of what [`stock`](Self::stock) just showed.
    ///
    /// # Safety
    /// It showed as many; the caller owns them from now on.
    unsafe fn use_stock(&mut self, count: usize);
    /// Gives buffers back.
    ///
    /// # Safety
    /// The caller owns each of them, as [`take`](Self::take) of a pool of this key gave them out,
    /// and gives them up.
    unsafe fn give(&mut self, ids: &[BufferId]);
    /// Notes that `posted` buffers went to the device and `returned` came back, for accounting.
    ///
    /// # Safety
    /// They did.
    unsafe fn account(&mut self, posted: u32, returned: u32);
    /// Makes `next`, holding `len` bytes, the continuation of `last`.
    ///
    /// # Safety
    /// The caller owns both, of a pool of this key; `next` has no continuation that is still wanted.
    unsafe fn link(&mut self, last: BufferId, next: BufferId, len: u16);
    /// Makes `id` the end of whatever it is part of.
    ///
    /// # Safety
    /// The caller owns it.
    unsafe fn end(&mut self, id: BufferId);
    /// The continuation of `id` and its length, as [`link`](Self::link) made it.
    fn continuation(&self, id: BufferId) -> Option<(BufferId, u16)>;
}

/// Takes filled buffers from a receive ring.
///
/// # Safety
/// Implementers promise that a pushed entry's buffers are owned by the sink from then on.
pub unsafe trait EntrySink {
    /// The pool whose buffers it takes ([`BufferPool::key`]).
    fn pool_key(&self) -> usize;
    /// How many more entries it takes.
    fn room(&self) -> usize;
    /// Takes one entry; without room it is refused: `false`.
    ///
    /// # Safety
    /// The caller owns the entry's buffers, which are of the pool named by
    /// [`pool_key`](Self::pool_key), and gives them up unless the entry is refused.
    unsafe fn push(&mut self, entry: Entry) -> bool;
    /// Room for the next entries: up to `wanted`.
    fn spare(&mut self, wanted: usize) -> &mut [MaybeUninit<Entry>];
    /// Takes the entries written to the first `count` places of what [`spare`](Self::spare) gave.
    ///
    /// # Safety
    /// That many were written, and [`push`](Self::push)'s condition holds for each.
    unsafe fn filled(&mut self, count: usize);
}

/// Gives filled buffers to a transmit ring.
///
/// # Safety
/// Implementers promise that each entry's buffers are owned by the source, valid in the pool named
/// by `pool_key`, hold as many bytes as the entry says, and are no longer the source's once
/// [`advance`](Self::advance) went past the entry.
pub unsafe trait EntrySource {
    /// The pool whose buffers it gives ([`BufferPool::key`]).
    fn pool_key(&self) -> usize;
    /// The entries waiting, oldest first.
    fn entries(&self) -> &[Entry];
    /// Lets go of the first `count` entries.
    ///
    /// # Safety
    /// There are so many, and the caller owns their buffers, chains included, from now on.
    unsafe fn advance(&mut self, count: usize);
    /// Lets go of all entries: what the next call finds depends on nothing that came before.
    ///
    /// # Safety
    /// The caller owns their buffers, chains included, from now on.
    unsafe fn empty(&mut self);
}

/// The batch holds buffers of another pool than the ring's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch belongs to another packet pool than the ring; make it from the ring's pool")]
pub struct ForeignPool;

/// Lives while a buffer is known in two places. A format is a driver's, safe code that may panic;
/// unwinding past such a moment would leave the buffer two owners, and a panic while unwinding
/// aborts. Formats that cannot panic leave nothing of it in the machine code.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    #[cold]
    fn drop(&mut self) {
        panic!("a descriptor format panicked while buffers changed hands");
    }
}

/// Gives back a frame's buffers, whether it is one buffer or a chain.
///
/// # Safety
/// The caller owns them, they are of `pool`, and it gives them up.
unsafe fn give_frame<P: BufferPool>(pool: &mut P, head: Entry) {
    let mut id = head.id();
    let mut chained = head.flags() & Entry::CHAINED != 0;
    loop {
        let next = if chained { pool.continuation(id) } else { None };
        // SAFETY: the caller owns the chain; each of its buffers is met once.
        unsafe { pool.give(&[id]) };
        let Some((continuation, _)) = next else { break };
        id = continuation;
        chained = true;
    }
}

/// Asks for a cache line in a state in which it can be written at once. A hint: any address will do.
#[inline(always)]
pub fn prefetch_for_write(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes no architectural state and faults on no address; a processor
    // without PREFETCHW takes it as a no-op (AMD64 manual volume 3, PREFETCHW).
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) line,
            options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
