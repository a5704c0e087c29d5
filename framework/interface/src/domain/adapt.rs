//! From a driver's own port and queue pairs to the objects that other domains hold.

use alloc::boxed::Box;
use alloc::vec::Vec;

use sumac_packet::MacAddress;
use sumac_rref::PacketBatch;

use super::{Counters, DeviceFault, NetDevice, NetLane, Text};
use crate::net::{Armed, Link, Net, NetError, NetQueue, QueueStats};
use crate::{Object, RpcResult};

/// A queue pair as a [`NetLane`].
pub struct LaneOf<Q>(Q);

impl<Q: NetQueue + 'static> LaneOf<Q> {
    /// The capability to `queue`.
    pub fn object(queue: Q) -> Object<dyn NetLane> {
        Object::from_box(Box::new(Self(queue)))
    }
}

impl<Q: NetQueue> NetLane for LaneOf<Q> {
    #[inline]
    fn receive(&mut self, mut batch: PacketBatch, limit: u32) -> RpcResult<PacketBatch> {
        self.0.receive(&mut batch, limit as usize)?;
        Ok(batch)
    }

    #[inline]
    fn transmit(&mut self, mut batch: PacketBatch) -> RpcResult<PacketBatch> {
        self.0.transmit(&mut batch)?;
        Ok(batch)
    }

    #[inline]
    fn exchange(
        &mut self,
        mut send: PacketBatch,
        mut receive: PacketBatch,
        limit: u32,
    ) -> RpcResult<(PacketBatch, PacketBatch)> {
        self.0.exchange(&mut send, &mut receive, limit as usize)?;
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

    fn arm(&mut self) -> RpcResult<Armed> {
        Ok(self.0.arm()?)
    }

    fn waiting(&self, limit: u32) -> RpcResult<u32> {
        Ok(self.0.waiting(limit))
    }

    fn stats(&self) -> RpcResult<QueueStats> {
        Ok(self.0.stats())
    }
}

/// A port as a [`NetDevice`].
pub struct DeviceOf<N: Net> {
    port: N,
    /// The queue pairs that nobody has taken.
    queues: Vec<Option<N::Queue>>,
}

impl<N: Net<Queue: 'static> + 'static> DeviceOf<N> {
    /// The object before `port`, whose queue pairs are all at home.
    pub fn object(mut port: N) -> Object<dyn NetDevice> {
        let queues = port.take_queues().into_iter().map(Some).collect();
        Object::from_box(Box::new(Self { port, queues }))
    }

    /// The object before what opening a port gave, or why there is none.
    #[expect(clippy::result_large_err, reason = "the text crosses as it is")]
    pub fn opened(
        port: Result<N, impl Into<NetError>>,
    ) -> Result<Object<dyn NetDevice>, DeviceFault> {
        port.map(Self::object)
            .map_err(|error| DeviceFault::from(&error.into()))
    }
}

impl<N: Net> DeviceOf<N> {
    /// Does something to the port for which all queue pairs that nobody has must be at home.
    fn at_home(
        &mut self,
        act: impl FnOnce(&mut N) -> Result<(), NetError>,
    ) -> Result<(), NetError> {
        let here: Vec<usize> = (0..self.queues.len())
            .filter(|i| self.queues.get(*i).is_some_and(Option::is_some))
            .collect();
        let home = self.queues.iter_mut().filter_map(Option::take).collect();
        self.port.return_queues(home);
        let result = act(&mut self.port);
        for (index, queue) in here.into_iter().zip(self.port.take_queues()) {
            if let Some(place) = self.queues.get_mut(index) {
                *place = Some(queue);
            }
        }
        result
    }
}

#[expect(clippy::result_large_err, reason = "the text crosses as it is")]
fn fault<T>(result: Result<T, NetError>) -> Result<T, DeviceFault> {
    result.map_err(|error| DeviceFault::from(&error))
}

impl<N: Net<Queue: 'static>> NetDevice for DeviceOf<N> {
    fn name(&self) -> RpcResult<Text<64>> {
        Ok(Text::new(self.port.name()))
    }

    fn mac(&self) -> RpcResult<MacAddress> {
        Ok(self.port.mac())
    }

    fn link(&self) -> RpcResult<Link> {
        Ok(self.port.link())
    }

    fn link_change(&mut self) -> RpcResult<Result<Option<Link>, DeviceFault>> {
        Ok(fault(self.port.link_change()))
    }

    fn check(&mut self) -> RpcResult<Result<(), DeviceFault>> {
        Ok(fault(self.port.check()))
    }

    fn counters(&mut self) -> RpcResult<Counters> {
        let mut counters = Counters::default();
        for (name, value) in self.port.counters() {
            counters.add(&name, value);
        }
        Ok(counters)
    }

    fn queues(&self) -> RpcResult<u32> {
        Ok(self.queues.len() as u32)
    }

    fn take_queue(&mut self, index: u32) -> RpcResult<Result<Object<dyn NetLane>, DeviceFault>> {
        let queue = self.queues.get_mut(index as usize).and_then(Option::take);
        Ok(match queue {
            Some(queue) => Ok(LaneOf::object(queue)),
            None => Err(DeviceFault::NoQueue(index)),
        })
    }

    fn start(&mut self) -> RpcResult<Result<(), DeviceFault>> {
        Ok(fault(self.at_home(N::start)))
    }

    fn stop_receiving(&mut self) -> RpcResult<Result<(), DeviceFault>> {
        Ok(fault(self.port.stop_receiving()))
    }

    fn stop(&mut self) -> RpcResult<Result<(), DeviceFault>> {
        Ok(fault(self.at_home(N::stop)))
    }
}
