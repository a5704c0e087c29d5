//! [`SupervisedQueue`]: a queue pair of a port whose driver is started again when it dies.
//!
//! It is called through a [`Shadow`](sumac_interface::Shadow) of its own, which its core has to itself. What passes it is
//! counted on this side: what a driver counted goes with it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sumac_interface::domain::{NetLane, RemoteQueue};
use sumac_interface::net::{Armed, Exchanged, NetQueue, QueueError, QueueStats};
use sumac_interface::{Object, RpcError, RpcResult};
use sumac_rref::PacketBatch;

use super::Supervisor;
use super::port::Losses;
use super::service::PortService;

/// What a queue and what makes its lanes anew tell each other.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// How often there was another lane.
    renewals: AtomicU64,
    prefetch: AtomicBool,
}

impl Side {
    /// The lane of the next driver, if it has one, set as the last was.
    pub fn renew(&self, lane: Option<Object<dyn NetLane>>) -> RpcResult<Object<dyn NetLane>> {
        let mut lane = lane.ok_or(RpcError::Refused)?;
        lane.set_prefetch(self.prefetch.load(Ordering::Relaxed))?;
        self.renewals.fetch_add(1, Ordering::Relaxed);
        Ok(lane)
    }
}

/// A queue pair of a [`SupervisedPort`](super::SupervisedPort).
pub struct SupervisedQueue {
    queue: RemoteQueue,
    side: Arc<Side>,
    supervisor: Arc<Supervisor<PortService>>,
    /// By renewals, which lane was told of last to have served.
    served: Option<u64>,
    losses: Arc<Losses>,
    /// Frames and bytes that went through, seen from here.
    passed: QueueStats,
    /// What drivers counted that are gone, and what this one had counted when it was asked last, by renewals.
    gone: Cell<QueueStats>,
    last: Cell<(u64, QueueStats)>,
}

impl SupervisedQueue {
    pub(super) fn new(
        queue: RemoteQueue,
        side: Arc<Side>,
        supervisor: Arc<Supervisor<PortService>>,
        losses: Arc<Losses>,
    ) -> Self {
        Self {
            queue,
            side,
            supervisor,
            served: None,
            losses,
            passed: QueueStats::default(),
            gone: Cell::default(),
            last: Cell::default(),
        }
    }

    fn renewals(&self) -> u64 {
        self.side.renewals.load(Ordering::Relaxed)
    }

    /// What became of a call: one whose driver died, and another came, did nothing.
    #[inline]
    fn settle<T>(
        &mut self,
        result: Result<T, QueueError>,
        renewals: u64,
    ) -> Result<Option<T>, QueueError> {
        match result {
            Ok(done) => {
                if self.served != Some(renewals) {
                    self.served = Some(renewals);
                    self.supervisor.served();
                }
                Ok(Some(done))
            }
            Err(QueueError::Domain(RpcError::Dead(_))) if self.renewals() != renewals => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[inline]
    fn count_received(&mut self, frames: usize, before: InHand, now: &PacketBatch) {
        self.passed.rx_packets += frames as u64;
        self.passed.rx_bytes += now.frame_bytes().saturating_sub(before.bytes);
    }

    #[inline]
    fn count_sent(&mut self, frames: usize, before: InHand, now: &PacketBatch) {
        self.passed.tx_packets += frames as u64;
        self.passed.tx_bytes += before.bytes.saturating_sub(now.frame_bytes());
    }

    /// What lay in a batch to receive into went with the driver: it is as if it had not been received; unless another
    /// queue pair of the port had received it, before the device was away.
    #[cold]
    fn uncount_received(&mut self, before: InHand, now: &PacketBatch) {
        let (now, passed) = (InHand::of(now), &mut self.passed);
        let lost = |before: u64, now: u64| before.saturating_sub(now);
        passed.rx_packets = lost(passed.rx_packets, lost(before.frames, now.frames));
        passed.rx_bytes = lost(passed.rx_bytes, lost(before.bytes, now.bytes));
    }

    /// What was to be transmitted went with the driver.
    #[cold]
    fn count_lost(&mut self, before: InHand, now: &PacketBatch) {
        let lost = before.frames.saturating_sub(InHand::of(now).frames);
        self.losses.add_transmitting(lost);
    }
}

/// What a batch holds.
#[derive(Clone, Copy)]
struct InHand {
    frames: u64,
    bytes: u64,
}

impl InHand {
    #[inline]
    fn of(batch: &PacketBatch) -> Self {
        Self {
            frames: batch.len() as u64,
            bytes: batch.frame_bytes(),
        }
    }
}

impl NetQueue for SupervisedQueue {
    #[inline]
    fn receive(&mut self, batch: &mut PacketBatch, limit: usize) -> Result<usize, QueueError> {
        let (before, renewals) = (InHand::of(batch), self.renewals());
        let result = self.queue.receive(batch, limit);
        match self.settle(result, renewals) {
            Ok(Some(received)) => {
                self.count_received(received, before, batch);
                Ok(received)
            }
            lost => {
                self.uncount_received(before, batch);
                lost.map(Option::unwrap_or_default)
            }
        }
    }

    #[inline]
    fn transmit(&mut self, batch: &mut PacketBatch) -> Result<usize, QueueError> {
        let (before, renewals) = (InHand::of(batch), self.renewals());
        let result = self.queue.transmit(batch);
        match self.settle(result, renewals) {
            Ok(Some(taken)) => {
                self.count_sent(taken, before, batch);
                Ok(taken)
            }
            lost => {
                self.count_lost(before, batch);
                lost.map(Option::unwrap_or_default)
            }
        }
    }

    #[inline]
    fn exchange(
        &mut self,
        send: &mut PacketBatch,
        receive: &mut PacketBatch,
        limit: usize,
    ) -> Result<Exchanged, QueueError> {
        let (sending, had) = (InHand::of(send), InHand::of(receive));
        let renewals = self.renewals();
        let result = self.queue.exchange(send, receive, limit);
        match self.settle(result, renewals) {
            Ok(Some(exchanged)) => {
                self.count_sent(exchanged.sent, sending, send);
                self.count_received(exchanged.received, had, receive);
                Ok(exchanged)
            }
            lost => {
                self.count_lost(sending, send);
                self.uncount_received(had, receive);
                lost.map(Option::unwrap_or_default)
            }
        }
    }

    fn set_prefetch(&mut self, on: bool) {
        self.side.prefetch.store(on, Ordering::Relaxed);
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

    /// Of a driver that died nothing is armed any more, and of its successor nothing yet: whoever sleeps then is
    /// woken by the [`Supervisor`].
    fn arm(&mut self) -> Result<Armed, QueueError> {
        let renewals = self.renewals();
        match self.queue.arm() {
            Err(QueueError::Domain(RpcError::Dead(_))) if self.renewals() != renewals => {
                Ok(Armed::Ready)
            }
            armed => armed,
        }
    }

    fn waiting(&self, limit: u32) -> u32 {
        self.queue.waiting(limit)
    }

    /// What passed since the queue was made, and what its drivers counted besides: what one that died counted
    /// after it was asked last is not known.
    fn stats(&self) -> QueueStats {
        let now = self.queue.stats();
        let renewals = self.renewals();
        let (at, last) = self.last.replace((renewals, now));
        let mut gone = self.gone.get();
        if at != renewals {
            gone += last;
            self.gone.set(gone);
        }
        gone += now;
        QueueStats {
            rx_packets: self.passed.rx_packets,
            rx_bytes: self.passed.rx_bytes,
            tx_packets: self.passed.tx_packets,
            tx_bytes: self.passed.tx_bytes,
            tx_outstanding: now.tx_outstanding,
            ..gone
        }
    }
}
