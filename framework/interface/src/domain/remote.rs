//! A port of another domain, as applications use ports: [`Net`] and [`NetQueue`] over the objects they hold.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem::replace;

use sumac_packet::MacAddress;
use sumac_rref::{PacketBatch, PacketPool};

use super::{DeviceFault, NetDevice, NetLane};
use crate::net::{Armed, Exchanged, Link, Net, NetError, NetQueue, QueueError, QueueStats};
use crate::{Object, RpcError, RpcResult};

/// A port in a domain of its own.
pub struct RemotePort {
    name: String,
    mac: MacAddress,
    pool: &'static PacketPool,
    device: Object<dyn NetDevice>,
}

impl RemotePort {
    /// The port behind `device`, whose packets are of `pool`.
    ///
    /// # Errors
    /// [`RpcError`] when its domain does not answer.
    pub fn new(device: Object<dyn NetDevice>, pool: &'static PacketPool) -> RpcResult<Self> {
        Ok(Self {
            name: device.name()?.as_str().to_string(),
            mac: device.mac()?,
            pool,
            device,
        })
    }

    fn settle<T>(&self, result: RpcResult<Result<T, DeviceFault>>) -> Result<T, NetError> {
        let device = || self.name.clone();
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(DeviceFault::Gone(_))) => Err(NetError::Gone { device: device() }),
            Ok(Err(DeviceFault::Reset(_))) => Err(NetError::Reset { device: device() }),
            Ok(Err(fault)) => Err(self.broken(&fault.to_string())),
            Err(error) => Err(self.broken(&format!("its driver's domain: {error}"))),
        }
    }

    fn broken(&self, what: &str) -> NetError {
        // A driver's text names the device already.
        let what = what.strip_prefix(&*self.name).unwrap_or(what);
        NetError::Device {
            device: self.name.clone(),
            what: what.trim_start_matches(": ").to_string(),
        }
    }

    fn queue(&mut self, index: u32) -> Result<RemoteQueue, NetError> {
        let lane = self.device.take_queue(index);
        let lane = self.settle(lane)?;
        Ok(RemoteQueue::new(lane, self.pool))
    }

    /// The queue pairs nobody has taken, as the objects they are.
    ///
    /// # Errors
    /// [`NetError`] when one cannot be had.
    pub fn take_lanes(&mut self) -> Result<Vec<Object<dyn NetLane>>, NetError> {
        let count = self.device.queues().unwrap_or(0);
        let take = |index| {
            let lane = self.device.take_queue(index);
            self.settle(lane)
        };
        (0..count).map(take).collect()
    }

    /// The pool its packets are of.
    pub fn pool(&self) -> &'static PacketPool {
        self.pool
    }
}

impl Net for RemotePort {
    type Queue = RemoteQueue;

    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> MacAddress {
        self.mac
    }

    fn link(&self) -> Link {
        self.device.link().unwrap_or_default()
    }

    fn link_change(&mut self) -> Result<Option<Link>, NetError> {
        let result = self.device.link_change();
        self.settle(result)
    }

    fn check(&mut self) -> Result<(), NetError> {
        let result = self.device.check();
        self.settle(result)
    }

    fn counters(&mut self) -> Vec<(String, u64)> {
        let counters = self.device.counters().unwrap_or_default();
        let all = counters.as_slice().iter();
        all.map(|counter| (counter.name.as_str().to_string(), counter.value))
            .collect()
    }

    fn take_queues(&mut self) -> Vec<RemoteQueue> {
        let count = self.device.queues().unwrap_or(0);
        (0..count).filter_map(|i| self.queue(i).ok()).collect()
    }

    /// Their domain takes them home as they are dropped.
    fn return_queues(&mut self, queues: Vec<RemoteQueue>) {
        drop(queues);
    }

    fn start(&mut self) -> Result<(), NetError> {
        let result = self.device.start();
        self.settle(result)
    }

    fn stop_receiving(&mut self) -> Result<(), NetError> {
        let result = self.device.stop_receiving();
        self.settle(result)
    }

    fn stop(&mut self) -> Result<(), NetError> {
        let result = self.device.stop();
        self.settle(result)
    }
}

/// A pair of queues in a domain of its own. Batches are moved there and back.
pub struct RemoteQueue {
    lane: Object<dyn NetLane>,
    pool: &'static PacketPool,
    /// What stands in for batches while they are away; none at first, and after a death until there are
    /// others.
    spare: [Option<PacketBatch>; 2],
}

impl RemoteQueue {
    /// The pair of queues behind `lane`, whose packets are of `pool`.
    pub fn new(lane: Object<dyn NetLane>, pool: &'static PacketPool) -> Self {
        Self {
            lane,
            pool,
            spare: [None, None],
        }
    }

    /// Has a call take `batch` and give one back. What a dead domain had of it is gone; `batch` is empty then.
    #[inline(always)]
    fn through(
        &mut self,
        batch: &mut PacketBatch,
        call: impl FnOnce(&mut dyn NetLane, PacketBatch) -> RpcResult<PacketBatch>,
    ) -> RpcResult<()> {
        let [spare, _] = &mut self.spare;
        let stand_in = stand_in(spare, self.pool)?;
        let back = call(&mut *self.lane, replace(batch, stand_in))?;
        *spare = Some(replace(batch, back));
        Ok(())
    }
}

#[inline(always)]
fn stand_in(spare: &mut Option<PacketBatch>, pool: &'static PacketPool) -> RpcResult<PacketBatch> {
    match spare.take() {
        Some(spare) => Ok(spare),
        None => pool.batch().map_err(|_| RpcError::Refused),
    }
}

impl NetQueue for RemoteQueue {
    #[inline]
    fn receive(&mut self, batch: &mut PacketBatch, limit: usize) -> Result<usize, QueueError> {
        let before = batch.len();
        self.through(batch, |lane, batch| lane.receive(batch, limit as u32))?;
        Ok(batch.len().saturating_sub(before))
    }

    #[inline]
    fn transmit(&mut self, batch: &mut PacketBatch) -> Result<usize, QueueError> {
        let before = batch.len();
        self.through(batch, |lane, batch| lane.transmit(batch))?;
        Ok(before.saturating_sub(batch.len()))
    }

    /// In one call. What a dead domain had of both batches is gone.
    #[inline]
    fn exchange(
        &mut self,
        send: &mut PacketBatch,
        receive: &mut PacketBatch,
        limit: usize,
    ) -> Result<Exchanged, QueueError> {
        let mut exchanged = Exchanged::default();
        if send.is_empty() {
            exchanged.received = self.receive(receive, limit)?;
            return Ok(exchanged);
        }
        if limit == 0 {
            exchanged.sent = self.transmit(send)?;
            return Ok(exchanged);
        }
        let (to_send, had) = (send.len(), receive.len());
        let [first, second] = &mut self.spare;
        let sending = replace(send, stand_in(first, self.pool)?);
        let receiving = replace(receive, stand_in(second, self.pool)?);
        let (left, came) = self.lane.exchange(sending, receiving, limit as u32)?;
        exchanged.sent = to_send.saturating_sub(left.len());
        exchanged.received = came.len().saturating_sub(had);
        *first = Some(replace(send, left));
        *second = Some(replace(receive, came));
        Ok(exchanged)
    }

    fn set_prefetch(&mut self, on: bool) {
        // A hint: a domain that is gone has no use for it.
        let _ = self.lane.set_prefetch(on);
    }

    fn allocate(&mut self, batch: &mut PacketBatch, count: usize, len: u16) -> usize {
        let before = batch.len();
        // Nothing comes from a domain that is gone.
        let _ = self.through(batch, |lane, batch| lane.allocate(batch, count as u32, len));
        batch.len().saturating_sub(before)
    }

    fn recycle(&mut self, batch: &mut PacketBatch) {
        if self
            .through(batch, |lane, batch| lane.recycle(batch))
            .is_err()
        {
            batch.clear();
        }
    }

    fn reclaim(&mut self) -> u32 {
        self.lane.reclaim().unwrap_or(0)
    }

    fn arm(&mut self) -> Result<Armed, QueueError> {
        Ok(self.lane.arm()?)
    }

    fn waiting(&self, limit: u32) -> u32 {
        self.lane.waiting(limit).unwrap_or(0)
    }

    fn stats(&self) -> QueueStats {
        self.lane.stats().unwrap_or_default()
    }
}
