//! The packet pool: equal buffers in DMA memory, handed out by number.
//!
//! A buffer's header `{owner, borrow count, type, continuation}` is in a table of ordinary memory
//! beside the DMA memory: no device can reach it, and the fast path never touches it, since a packet
//! in a batch or a ring is the child of that batch or ring. Heads of buffers lie [`STRIDE`] bytes
//! apart, an odd number of cache lines, so that they spread over all sets of a cache.
//!
//! Free buffers are in the depot (one lock, taken for a bulk copy) or in per-queue caches, which give
//! theirs up when somebody finds the depot empty. At any quiet moment `free + device + held = total`.

mod cache;
#[cfg(not(feature = "image"))]
mod host;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;

use sumac_device::ring::{BufferAddresses, BufferId};
use sumac_device::{DmaError, DmaMemory, Whole};

pub use cache::PacketCache;
use cache::Shelf;

use crate::spin::SpinLock;
use crate::spin::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::{DomainId, Header, HeapError, PacketBatch, SharedHeap, TypeTag};

/// Bytes a packet buffer holds.
pub const BUFFER_BYTES: u16 = 2048;
/// Bytes from one buffer to the next.
pub const STRIDE: usize = 2048 + 64;

/// The type of a packet buffer.
pub(crate) const PACKET_TAG: TypeTag = TypeTag(0x5041_434b_4554);

/// No packet pool could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Between 1 and 4,194,304 buffers are possible.
    #[error("a packet pool of {buffers} buffers cannot be: ask for 1 to 4194304")]
    BadSize {
        /// The size asked for.
        buffers: u32,
    },
    /// There is no DMA memory for the buffers.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// More caches are claimed than there are.
    #[error("all 256 caches of the packet pool are claimed: use fewer queues")]
    NoCache,
    /// The shared heap has no room for a batch.
    #[error(transparent)]
    Heap(#[from] HeapError),
}

/// Where the buffers of a pool are, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolAccount {
    /// All buffers.
    pub total: u32,
    /// Free: in the depot or in a cache.
    pub free: u32,
    /// Posted to a device.
    pub device: u32,
    /// Held by applications: in batches, or as packets.
    pub held: u32,
}

/// A header and what a packet of several buffers needs.
struct BufferHeader {
    header: Header,
    /// The buffer in which the packet goes on, and the bytes it holds there.
    continuation: AtomicU32,
    continuation_len: AtomicU32,
}

/// A pool of packet buffers, for the life of the host.
pub struct PacketPool {
    /// Where batches of its packets live.
    heap: &'static SharedHeap,
    memory: DmaMemory,
    /// First byte of buffer 0.
    base: NonNull<u8>,
    total: u32,
    headers: Box<[BufferHeader]>,
    depot: SpinLock<Vec<BufferId>>,
    shelves: Box<[Shelf]>,
    /// Times somebody wanted a buffer and there was none.
    exhausted: AtomicU64,
    wanted: Wanted,
}

/// Somebody found the depot empty since a cache last emptied its shelf into it: stock that lies idle
/// must not starve a queue that has none. On a cache line of its own, hardly ever written.
#[repr(align(64))]
struct Wanted(AtomicBool);

// SAFETY: buffers are reached only by whoever holds their ids, which the pool hands out once each;
// all else is atomics and a lock.
unsafe impl Send for PacketPool {}
// SAFETY: as above.
unsafe impl Sync for PacketPool {}

impl PacketPool {
    /// Claims a cache of its own, for one queue on one core.
    ///
    /// # Errors
    /// [`PoolError::NoCache`] when all are claimed.
    pub fn claim_cache(&'static self) -> Result<PacketCache, PoolError> {
        PacketCache::claim(self).ok_or(PoolError::NoCache)
    }

    /// The heap on which batches of its packets live.
    pub fn heap(&self) -> &'static SharedHeap {
        self.heap
    }

    /// An empty batch for packets of this pool.
    ///
    /// # Errors
    /// [`PoolError::Heap`] when the heap cannot hold another.
    pub fn batch(&'static self) -> Result<PacketBatch, PoolError> {
        Ok(PacketBatch::new(self.heap, self)?)
    }

    /// Where the buffers are now. Exact while nothing moves; never off by more than what is moving.
    pub fn account(&self) -> PoolAccount {
        let cached: u32 = self.shelves.iter().map(Shelf::len).sum();
        let free = self.depot_with(|depot| depot.len() as u32) + cached;
        let device: u32 = self
            .shelves
            .iter()
            .map(Shelf::device)
            .fold(0, u32::wrapping_add);
        // Buffers posted through one cache and returned through another while this sums up can make
        // it negative.
        let device = (device as i32).max(0) as u32;
        let held = self.total.saturating_sub(free).saturating_sub(device);
        PoolAccount {
            total: self.total,
            free,
            device,
            held,
        }
    }

    /// Times somebody wanted a buffer and there was none.
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Whether 2 MiB pages hold the buffers.
    pub fn huge_pages(&self) -> bool {
        self.memory.huge_pages()
    }

    /// Tells this pool from others.
    #[inline(always)]
    pub(crate) fn key(&self) -> usize {
        core::ptr::from_ref(self) as usize
    }

    /// The first byte of buffer `id`; of buffer 0 for ids there are not.
    #[inline(always)]
    pub(crate) fn data(&self, id: BufferId) -> NonNull<u8> {
        let id = if id < self.total { id } else { 0 };
        // SAFETY: `id < total`, and `total * STRIDE` bytes lie at `base`.
        unsafe { self.base.add(id as usize * STRIDE) }
    }

    /// Where the buffers are.
    #[inline(always)]
    pub(crate) fn addresses(&self) -> BufferAddresses {
        BufferAddresses::new(self.memory.iova(), self.base.as_ptr(), STRIDE as u32)
    }

    pub(crate) fn header(&self, id: BufferId) -> Option<&Header> {
        self.headers.get(id as usize).map(|h| &h.header)
    }

    pub(crate) fn set_owner(&self, id: BufferId, owner: DomainId) {
        if let Some(h) = self.headers.get(id as usize) {
            h.header.set_owner(owner);
        }
    }

    /// Makes `next` the continuation of `last`, and the end of the chain.
    pub(crate) fn link(&self, last: BufferId, next: BufferId, len: u16) {
        if let (Some(last), Some(end)) = (
            self.headers.get(last as usize),
            self.headers.get(next as usize),
        ) {
            end.continuation.store(u32::MAX, Ordering::Relaxed);
            end.continuation_len.store(0, Ordering::Relaxed);
            last.continuation_len
                .store(u32::from(len), Ordering::Relaxed);
            last.continuation.store(next, Ordering::Relaxed);
        }
    }

    /// Makes `id` the end of its chain.
    pub(crate) fn end(&self, id: BufferId) {
        if let Some(end) = self.headers.get(id as usize) {
            end.continuation.store(u32::MAX, Ordering::Relaxed);
        }
    }

    pub(crate) fn continuation(&self, id: BufferId) -> Option<(BufferId, u16)> {
        let header = self.headers.get(id as usize)?;
        let next = header.continuation.load(Ordering::Relaxed);
        let len = header.continuation_len.load(Ordering::Relaxed) as u16;
        (next < self.total).then_some((next, len))
    }

    /// Changes the depot alone: a domain is not ended while it holds the lock.
    fn depot_with<R>(&self, change: impl FnOnce(&mut Vec<BufferId>) -> R) -> R {
        // SAFETY: a lock held for a copy, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        self.depot.with(change)
    }

    /// A buffer straight from the depot, for those who have no cache.
    pub(crate) fn take(&self) -> Option<BufferId> {
        let id = self.depot_with(Vec::pop);
        if id.is_none() {
            self.want();
        }
        id
    }

    /// Buffers straight into the depot, for those who have no cache.
    pub(crate) fn give(&self, ids: &[BufferId]) {
        // The depot was made with room for all ids, so this does not allocate.
        self.depot_with(|depot| depot.extend_from_slice(ids));
    }

    /// Up to `into.len()` buffers from the depot; how many it were.
    fn take_bulk(&self, into: &mut [BufferId]) -> usize {
        let taken = self.depot_with(|depot| {
            let taken = into.len().min(depot.len());
            let rest = depot.len() - taken;
            into[..taken].copy_from_slice(&depot[rest..]);
            depot.truncate(rest);
            taken
        });
        if taken == 0 {
            self.want();
        }
        taken
    }

    /// Notes that somebody got nothing.
    #[cold]
    fn want(&self) {
        self.exhausted.fetch_add(1, Ordering::Relaxed);
        self.wanted.0.store(true, Ordering::Relaxed);
    }
}
