//! A network port without a device: what is sent comes back to be received. What is left when this is
//! measured is what stands between it and its caller.
#![no_std]
#![forbid(unsafe_code)]

use sumac_interface::net::{Armed, NetQueue, QueueError, QueueStats};
use sumac_rref::{PacketBatch, PacketCache, PacketMut, PacketPool, PoolError};

/// Bytes of the frames that it makes where none was sent yet: 64 with the check sequence.
const FRAME: u16 = 60;

/// A pair of queues whose far ends are joined.
pub struct NullQueue {
    cache: PacketCache,
    stats: QueueStats,
}

impl NullQueue {
    /// A pair of queues with a stock of `pool`'s buffers.
    ///
    /// # Errors
    /// [`PoolError::NoCache`] when the pool has no stock left to claim.
    pub fn new(pool: &'static PacketPool) -> Result<Self, PoolError> {
        Ok(Self {
            cache: pool.claim_cache()?,
            stats: QueueStats::default(),
        })
    }
}

impl NetQueue for NullQueue {
    #[inline(always)]
    fn receive(&mut self, batch: &mut PacketBatch, limit: usize) -> Result<usize, QueueError> {
        let count = self.cache.allocate(batch, limit, FRAME);
        self.stats.rx_packets += count as u64;
        self.stats.rx_bytes += count as u64 * u64::from(FRAME);
        Ok(count)
    }

    #[inline(always)]
    fn transmit(&mut self, batch: &mut PacketBatch) -> Result<usize, QueueError> {
        let count = batch.len();
        self.stats.tx_packets += count as u64;
        let bytes = |packet: PacketMut<'_>| packet.frame_len() as u64;
        self.stats.tx_bytes += batch.packets_mut().map(bytes).sum::<u64>();
        self.cache.recycle(batch);
        Ok(count)
    }

    fn set_prefetch(&mut self, _: bool) {}

    fn allocate(&mut self, batch: &mut PacketBatch, count: usize, len: u16) -> usize {
        self.cache.allocate(batch, count, len)
    }

    fn recycle(&mut self, batch: &mut PacketBatch) {
        self.cache.recycle(batch);
    }

    fn reclaim(&mut self) -> u32 {
        0
    }

    /// There is always something to receive.
    fn arm(&mut self) -> Result<Armed, QueueError> {
        Ok(Armed::Ready)
    }

    fn waiting(&self, limit: u32) -> u32 {
        limit
    }

    fn stats(&self) -> QueueStats {
        self.stats
    }
}
