//! From a driver's own queue pair to the capability that other domains hold.

use alloc::boxed::Box;

use sumac_rref::PacketBatch;

use super::NetLane;
use crate::net::{ForeignPool, NetQueue, QueueStats};
use crate::{Object, RpcError, RpcResult};

/// A queue pair as a [`NetLane`].
pub struct LaneOf<Q>(Q);

impl<Q: NetQueue + 'static> LaneOf<Q> {
    /// The capability to `queue`.
    pub fn object(queue: Q) -> Object<dyn NetLane> {
        Object::from_box(Box::new(Self(queue)))
    }
}

fn refused(_: ForeignPool) -> RpcError {
    RpcError::Refused
}

impl<Q: NetQueue> NetLane for LaneOf<Q> {
    #[inline]
    fn receive(&mut self, mut batch: PacketBatch, limit: u32) -> RpcResult<PacketBatch> {
        self.0
            .receive(&mut batch, limit as usize)
            .map_err(refused)?;
        Ok(batch)
    }

    #[inline]
    fn transmit(&mut self, mut batch: PacketBatch) -> RpcResult<PacketBatch> {
        self.0.transmit(&mut batch).map_err(refused)?;
        Ok(batch)
    }

    #[inline]
    fn exchange(
        &mut self,
        mut send: PacketBatch,
        mut receive: PacketBatch,
        limit: u32,
    ) -> RpcResult<(PacketBatch, PacketBatch)> {
        self.0.transmit(&mut send).map_err(refused)?;
        self.0
            .receive(&mut receive, limit as usize)
            .map_err(refused)?;
        Ok((send, receive))
    }

    fn set_prefetch(&mut self, on: bool) -> RpcResult<()> {
        self.0.set_prefetch(on);
        Ok(())
    }

    fn allocate(&mut self, mut batch: PacketBatch, count: u32, len: u16) -> RpcResult<PacketBatch> {
        self.0.allocate(&mut batch, count as usize, len);
        Ok(batch)
    }

    #[inline]
    fn recycle(&mut self, mut batch: PacketBatch) -> RpcResult<PacketBatch> {
        self.0.recycle(&mut batch);
        Ok(batch)
    }

    fn reclaim(&mut self) -> RpcResult<u32> {
        Ok(self.0.reclaim())
    }

    fn waiting(&self, limit: u32) -> RpcResult<u32> {
        Ok(self.0.waiting(limit))
    }

    fn stats(&self) -> RpcResult<QueueStats> {
        Ok(self.0.stats())
    }
}
