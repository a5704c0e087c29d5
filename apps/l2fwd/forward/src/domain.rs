//! A forwarder as the object of a domain: the application apart from its host and from the drivers.
//!
//! It is given its ports queue pair by queue pair, as capabilities, runs for so many rounds a call, and has
//! nothing besides: its host stops it by not calling it again, and ends a call that takes too long.

use alloc::boxed::Box;

use sumac_interface::domain::{Failure, Moment, NetLane, RemoteQueue};
use sumac_interface::net::NetQueue;
use sumac_interface::{Object, RpcError, RpcResult, interface};
use sumac_rref::{PacketPool, PoolGrant};

use crate::{Forwarder, Lane, Rewrite, UnderWay};

/// Forwards between the queue pairs it was given, on one core.
#[interface]
pub trait Forward: Send {
    /// Adds a queue pair behind the others. Its frames leave by the port of the queue pair that is number `to`
    /// in that order.
    fn add(
        &mut self,
        queue: Object<dyn NetLane>,
        to: u32,
        rewrite: Option<Rewrite>,
    ) -> RpcResult<()>;

    /// So many rounds over all queue pairs. Says how many frames moved, in and out, or how a queue pair
    /// failed.
    fn run(&mut self, rounds: u32) -> RpcResult<Result<u64, RpcError>>;

    /// What is not done yet.
    fn under_way(&mut self) -> RpcResult<UnderWay>;

    /// Arms all queue pairs. Whether to sleep is the host's to know, which lent them; it does not sleep in here.
    fn arm(&mut self) -> RpcResult<Result<(), RpcError>>;

    /// The port of queue pair number `to` has another address: frames that leave by it are changed so from now on.
    fn readdress(&mut self, to: u32, rewrite: Option<Rewrite>) -> RpcResult<()>;

    /// Frames that came by a queue pair and are not yet transmitted.
    fn held(&self, queue: u32) -> RpcResult<u64>;
}

/// What a domain offers that forwards.
#[interface]
pub trait CreateForward: Send {
    /// A forwarder of packets of `pool`, up to `batch` at once, that has no queue pairs yet.
    fn create(&mut self, pool: PoolGrant, batch: u32) -> RpcResult<Object<dyn Forward>>;
}

/// What a domain offers that forwards, and fails on request.
#[interface]
pub trait CreateFragileForward: Send {
    /// As [`CreateForward::create`].
    fn create(&mut self, pool: PoolGrant, batch: u32) -> RpcResult<Object<dyn Forward>>;

    /// Has a forwarder fail, whichever comes to that moment first.
    #[once]
    fn fail_next(&mut self, how: Failure, when: Moment) -> RpcResult<()>;
}

/// A forwarder as [`Forward`]: over queue pairs of other domains, or what `W` makes of them.
pub struct ForwardOf<Q, W> {
    forwarder: Forwarder<Q>,
    pool: &'static PacketPool,
    wrap: W,
}

impl<Q: NetQueue + 'static, W: FnMut(RemoteQueue) -> Q + Send + 'static> ForwardOf<Q, W> {
    /// The object before a forwarder of packets of `pool`, up to `batch` at once.
    pub fn object(pool: PoolGrant, batch: u32, wrap: W) -> Object<dyn Forward> {
        Object::from_box(Box::new(Self {
            forwarder: Forwarder::new(batch as usize),
            pool: pool.pool(),
            wrap,
        }))
    }
}

impl<Q: NetQueue, W: FnMut(RemoteQueue) -> Q + Send> Forward for ForwardOf<Q, W> {
    fn add(
        &mut self,
        queue: Object<dyn NetLane>,
        to: u32,
        rewrite: Option<Rewrite>,
    ) -> RpcResult<()> {
        let batch = self.pool.batch().map_err(|_| RpcError::Refused)?;
        self.forwarder.add(Lane {
            to: to as usize,
            rewrite,
            queue: (self.wrap)(RemoteQueue::new(queue, self.pool)),
            batch,
        });
        Ok(())
    }

    fn run(&mut self, rounds: u32) -> RpcResult<Result<u64, RpcError>> {
        Ok(self.forwarder.run(rounds).map_err(RpcError::from))
    }

    fn under_way(&mut self) -> RpcResult<UnderWay> {
        Ok(self.forwarder.under_way())
    }

    fn arm(&mut self) -> RpcResult<Result<(), RpcError>> {
        Ok(self.forwarder.arm().map_err(RpcError::from))
    }

    fn readdress(&mut self, to: u32, rewrite: Option<Rewrite>) -> RpcResult<()> {
        self.forwarder.readdress(to as usize, rewrite);
        Ok(())
    }

    fn held(&self, queue: u32) -> RpcResult<u64> {
        Ok(self.forwarder.held(queue as usize))
    }
}
