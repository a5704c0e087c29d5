//! The host's part of a packet pool: making it, and taking back what the dead had. Images of domains do not
//! have it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use sumac_device::DmaSpace;
use sumac_device::ring::BufferId;

use super::cache::Shelf;
use super::{BufferHeader, PACKET_TAG, PacketPool, PoolError, STRIDE, Wanted};
use crate::spin::SpinLock;
use crate::spin::atomic::{AtomicBool, AtomicU32, AtomicU64};
use crate::{DomainId, Header, PacketBatch, SharedHeap};

/// The most caches a pool has: one per queue.
const SHELVES: usize = if cfg!(loom) { 2 } else { 256 };

/// Buffers found, each once.
struct Found(Vec<bool>);

impl Found {
    fn new(total: u32) -> Self {
        Self((0..total).map(|_| false).collect())
    }

    /// Whether it was not there yet, and is a buffer at all.
    fn add(&mut self, id: BufferId) -> bool {
        let place = self.0.get_mut(id as usize);
        place.is_some_and(|there| !core::mem::replace(there, true))
    }

    fn add_all(&mut self, ids: &[BufferId]) {
        ids.iter().for_each(|id| _ = self.add(*id));
    }

    fn remove(&mut self, id: BufferId) {
        if let Some(there) = self.0.get_mut(id as usize) {
            *there = false;
        }
    }

    fn into_ids(self) -> Vec<BufferId> {
        (0..)
            .zip(self.0)
            .filter_map(|(id, there)| there.then_some(id))
            .collect()
    }
}

impl PacketPool {
    /// A pool of `buffers` packet buffers in memory of `dma`, whose batches live on `heap`. It is never
    /// given back: packets may outlive whoever made the pool.
    ///
    /// # Errors
    /// [`PoolError`] when the size is out of range or there is no memory.
    pub fn create(
        heap: &'static SharedHeap,
        dma: &dyn DmaSpace,
        buffers: u32,
    ) -> Result<&'static Self, PoolError> {
        if buffers == 0 || buffers > 1 << 22 {
            return Err(PoolError::BadSize { buffers });
        }
        let bytes = (buffers as usize).checked_mul(STRIDE);
        let bytes = bytes.ok_or(PoolError::BadSize { buffers })?;
        let memory = dma.allocate(bytes, 1 << 21)?;
        memory.check(bytes, 64)?;
        let headers = (0..buffers).map(|_| BufferHeader {
            header: Header::new(PACKET_TAG),
            continuation: AtomicU32::new(u32::MAX),
            continuation_len: AtomicU32::new(0),
        });
        // A domain that is granted the pool may want a batch before the host does.
        PacketBatch::let_in(heap);
        Ok(Box::leak(Box::new(Self {
            heap,
            base: memory.base(),
            memory,
            total: buffers,
            headers: headers.collect(),
            // Lowest numbers on top: a fresh pool is handed out in order of address.
            depot: SpinLock::new((0..buffers).rev().collect()),
            shelves: (0..SHELVES).map(|_| Shelf::new()).collect(),
            exhausted: AtomicU64::new(0),
            wanted: Wanted(AtomicBool::new(false)),
        })))
    }

    /// Takes back every buffer of a domain that is gone: those in its caches, in `posted` (the tables of its
    /// rings, each with the first buffer of a frame under way at its end; the device stands still), and those of packets it held one by one. Batches it held are the
    /// shared heap's to drop, before this. Returns how many buffers came back.
    ///
    /// # Safety
    /// `owner` runs nowhere any more, `posted` are tables of its rings only, and no device uses what is
    /// named there.
    pub unsafe fn recover<'a>(
        &self,
        owner: DomainId,
        posted: impl IntoIterator<Item = &'a [BufferId]>,
    ) -> u32 {
        let mut found = Found::new(self.total);
        for shelf in self.shelves.iter().filter(|shelf| shelf.owner() == owner) {
            // SAFETY: the caller's promise.
            found.add_all(&unsafe { shelf.take_over() });
        }
        posted.into_iter().for_each(|table| {
            if let Some((apart, slots)) = table.split_last() {
                found.add_all(slots);
                self.add_chain(&mut found, *apart);
            }
        });
        for (id, buffer) in (0..).zip(&self.headers) {
            if buffer.header.owner() == owner {
                buffer.header.set_owner(DomainId::NONE);
                self.add_chain(&mut found, id);
            }
        }
        // Whoever died while it gave buffers to the depot may have had them in both places.
        self.depot_with(|depot| depot.iter().for_each(|id| found.remove(*id)));
        let ids = found.into_ids();
        self.give(&ids);
        ids.len() as u32
    }

    /// A buffer and those the frame in it goes on in.
    fn add_chain(&self, found: &mut Found, id: BufferId) {
        let mut id = id;
        while found.add(id) {
            match self.continuation(id) {
                Some((next, _)) => id = next,
                None => return,
            }
        }
    }

    /// How many packets `owner` holds one by one, outside of any batch: a walk over all headers.
    pub fn count_owned(&self, owner: DomainId) -> usize {
        self.headers
            .iter()
            .filter(|h| h.header.owner() == owner)
            .count()
    }

    /// Checks that no buffer in the depot is there twice, and returns how many there are: all of the
    /// pool's, once every cache, packet and batch is gone. For tests.
    ///
    /// # Errors
    /// The first buffer found twice.
    pub fn audit(&self) -> Result<u32, BufferId> {
        let free = self.depot_with(|depot| depot.clone());
        let mut seen: Vec<bool> = (0..self.total).map(|_| false).collect();
        for id in &free {
            match seen.get_mut(*id as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(*id),
            }
        }
        Ok(free.len() as u32)
    }
}
