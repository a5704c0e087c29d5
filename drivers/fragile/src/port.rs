//! [`FragilePort`]: any port, and when it fails.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use sumac_interface::domain::{Failure, Moment};
use sumac_interface::net::{
    Armed, Link, MacAddress, Net, NetError, NetQueue, QueueError, QueueStats,
};
use sumac_rref::PacketBatch;

use crate::fail;

/// Says that a queue pair is to fail, how and when: the first that comes to that moment does.
#[derive(Clone, Default)]
pub struct Fuse(Arc<AtomicU32>);

impl Fuse {
    /// Arms it.
    pub fn arm(&self, how: Failure, when: Moment) {
        self.0.store(number(how, when), Ordering::Relaxed);
    }

    /// Fails if that was asked for, for this moment.
    #[inline]
    fn blow_at(&self, when: Moment) {
        let armed = self.0.load(Ordering::Relaxed);
        if armed != 0 {
            self.blow(armed, when);
        }
    }

    #[cold]
    fn blow(&self, armed: u32, when: Moment) {
        let how = Failure::ALL
            .into_iter()
            .find(|how| number(*how, when) == armed);
        if let Some(how) = how {
            self.0.store(0, Ordering::Relaxed);
            // What safe code cannot do is not done.
            let _ = fail(how);
        }
    }
}

/// Never zero.
fn number(how: Failure, when: Moment) -> u32 {
    1 + how as u32 * Moment::ALL.len() as u32 + when as u32
}

/// A port whose queue pairs fail when its fuse says so, or at the end of their lives.
pub struct FragilePort<N> {
    port: N,
    fuse: Fuse,
    life: u64,
}

impl<N: Net> FragilePort<N> {
    /// `port`, with a fuse.
    pub fn new(port: N, fuse: Fuse) -> Self {
        Self {
            port,
            fuse,
            life: u64::MAX,
        }
    }

    /// `port`, each of whose queue pairs panics after so many calls that receive or transmit.
    pub fn mortal(port: N, calls: u64) -> Self {
        Self {
            life: calls,
            ..Self::new(port, Fuse::default())
        }
    }
}

impl<N: Net> Net for FragilePort<N> {
    type Queue = FragileQueue<N::Queue>;

    fn name(&self) -> &str {
        self.port.name()
    }

    fn mac(&self) -> MacAddress {
        self.port.mac()
    }

    fn link(&self) -> Link {
        self.port.link()
    }

    fn link_change(&mut self) -> Result<Option<Link>, NetError> {
        self.port.link_change()
    }

    fn check(&mut self) -> Result<(), NetError> {
        self.port.check()
    }

    fn counters(&mut self) -> Vec<(String, u64)> {
        self.port.counters()
    }

    fn take_queues(&mut self) -> Vec<Self::Queue> {
        let fragile = |queue| FragileQueue {
            queue,
            fuse: self.fuse.clone(),
            life: self.life,
        };
        self.port.take_queues().into_iter().map(fragile).collect()
    }

    fn return_queues(&mut self, queues: Vec<Self::Queue>) {
        let queues = queues.into_iter().map(|fragile| fragile.queue).collect();
        self.port.return_queues(queues);
    }

    fn start(&mut self) -> Result<(), NetError> {
        self.port.start()
    }

    fn stop_receiving(&mut self) -> Result<(), NetError> {
        self.port.stop_receiving()
    }

    fn stop(&mut self) -> Result<(), NetError> {
        self.port.stop()
    }
}

/// A queue pair of a [`FragilePort`], or of an application that fails.
pub struct FragileQueue<Q> {
    queue: Q,
    fuse: Fuse,
    /// Calls left.
    life: u64,
}

impl<Q> FragileQueue<Q> {
    /// `queue`, with a fuse.
    pub fn new(queue: Q, fuse: Fuse) -> Self {
        Self {
            queue,
            fuse,
            life: u64::MAX,
        }
    }

    /// `queue`, which panics after so many calls that receive or transmit.
    pub fn mortal(queue: Q, calls: u64) -> Self {
        Self {
            life: calls,
            ..Self::new(queue, Fuse::default())
        }
    }

    #[inline]
    fn live(&mut self) {
        match self.life.checked_sub(1) {
            Some(left) => self.life = left,
            None => panic!("at the end of its life"),
        }
    }
}

impl<Q: NetQueue> NetQueue for FragileQueue<Q> {
    #[inline]
    fn receive(&mut self, batch: &mut PacketBatch, limit: usize) -> Result<usize, QueueError> {
        self.live();
        let received = self.queue.receive(batch, limit)?;
        if received > 0 {
            self.fuse.blow_at(Moment::Receiving);
        }
        Ok(received)
    }

    #[inline]
    fn transmit(&mut self, batch: &mut PacketBatch) -> Result<usize, QueueError> {
        self.live();
        if batch.is_empty() {
            return self.queue.transmit(batch);
        }
        self.fuse.blow_at(Moment::BeforeTransmit);
        let taken = self.queue.transmit(batch)?;
        self.fuse.blow_at(Moment::AfterTransmit);
        Ok(taken)
    }

    fn set_prefetch(&mut self, on: bool) {
        self.queue.set_prefetch(on);
    }

    fn allocate(&mut self, batch: &mut PacketBatch, count: usize, len: u16) -> usize {
        self.queue.allocate(batch, count, len)
    }

    fn recycle(&mut self, batch: &mut PacketBatch) {
        self.queue.recycle(batch);
    }

    fn reclaim(&mut self) -> u32 {
        self.queue.reclaim()
    }

    fn arm(&mut self) -> Result<Armed, QueueError> {
        self.queue.arm()
    }

    fn waiting(&self, limit: u32) -> u32 {
        self.queue.waiting(limit)
    }

    fn stats(&self) -> QueueStats {
        self.queue.stats()
    }
}
