//! A port's turn: [`exchange`], [`turn_back`]; and [`Forwarder`], which has all ports have theirs.
//!
//! In each turn a port transmits what came by its partner and receives the next batch, in one exchange. Addresses
//! are rewritten in place. What a port has no room for stays in its batch and goes first next time; until then
//! nothing more is received for it: back-pressure, no drop.

use alloc::vec::Vec;

use sumac_interface::Exchangeable;
use sumac_interface::net::{Exchanged, NetQueue, QueueError};
use sumac_rref::PacketBatch;

use crate::rewrite::Rewrite;

/// A port's turn: transmits `send`, which came by its partner, and receives up to `limit` frames into `receive`,
/// rewriting them. `seen` is shown what came, as it will leave.
///
/// # Errors
/// That of the queue pair.
#[inline]
pub fn exchange<Q: NetQueue>(
    queue: &mut Q,
    send: &mut PacketBatch,
    receive: &mut PacketBatch,
    rewrite: Option<&Rewrite>,
    limit: usize,
    seen: impl FnOnce(&mut PacketBatch),
) -> Result<Exchanged, QueueError> {
    let exchanged = queue.exchange(send, receive, limit)?;
    if exchanged.received > 0 {
        if let Some(rewrite) = rewrite {
            rewrite.apply(receive);
        }
        seen(receive);
    }
    Ok(exchanged)
}

/// The turn of a port without a partner: its frames leave by it again. One batch goes both ways, so that what
/// came is rewritten first.
///
/// # Errors
/// That of the queue pair.
#[inline]
pub fn turn_back<Q: NetQueue>(
    queue: &mut Q,
    batch: &mut PacketBatch,
    rewrite: Option<&Rewrite>,
    limit: usize,
    seen: impl FnOnce(&mut PacketBatch),
) -> Result<Exchanged, QueueError> {
    let mut turned = Exchanged::default();
    if limit > 0 {
        turned.received = queue.receive(batch, limit)?;
    }
    if turned.received > 0 {
        if let Some(rewrite) = rewrite {
            rewrite.apply(batch);
        }
        seen(batch);
    }
    if !batch.is_empty() {
        turned.sent = queue.transmit(batch)?;
    }
    Ok(turned)
}

/// One direction: from a port to its partner.
pub struct Lane<Q> {
    /// The place among the forwarder's lanes of the one whose port frames leave by.
    pub to: usize,
    /// How frames are changed on the way; none leaves them alone.
    pub rewrite: Option<Rewrite>,
    /// The queue pair of the port that frames come from.
    pub queue: Q,
    /// Received, not yet transmitted.
    pub batch: PacketBatch,
}

/// What is not done yet, over all lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Exchangeable)]
pub struct UnderWay {
    /// Frames received and not yet transmitted.
    pub held: u64,
    /// Frames that wait in receive rings, one of each at most.
    pub waiting: u64,
    /// Frames handed over to be transmitted whose descriptors are still with devices.
    pub outstanding: u64,
}

/// Forwards between its lanes.
pub struct Forwarder<Q> {
    lanes: Vec<Lane<Q>>,
    batch: usize,
}

impl<Q: NetQueue> Forwarder<Q> {
    /// A forwarder without lanes that moves up to `batch` frames at once.
    pub fn new(batch: usize) -> Self {
        Self {
            lanes: Vec::new(),
            batch,
        }
    }

    /// Adds a lane behind the others.
    pub fn add(&mut self, mut lane: Lane<Q>) {
        lane.queue.set_prefetch(lane.rewrite.is_some());
        self.lanes.push(lane);
    }

    /// So many rounds over all lanes; says how many frames moved: in, and out.
    ///
    /// # Errors
    /// That of the first queue that failed.
    pub fn run(&mut self, rounds: u32) -> Result<u64, QueueError> {
        let mut moved = 0;
        for _ in 0..rounds {
            for index in 0..self.lanes.len() {
                moved += self.exchange(index)? as u64;
            }
        }
        Ok(moved)
    }

    /// A lane's part of a round. Says how many frames moved.
    #[inline]
    fn exchange(&mut self, index: usize) -> Result<usize, QueueError> {
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(0);
        };
        let limit = match lane.batch.is_empty() {
            true => self.batch,
            false => 0,
        };
        let (to, nothing) = (lane.to, |_: &mut PacketBatch| ());
        if to == index {
            let (queue, rewrite) = (&mut lane.queue, lane.rewrite.as_ref());
            let turned = turn_back(queue, &mut lane.batch, rewrite, limit, nothing)?;
            return Ok(turned.sent + turned.received);
        }
        let Ok([lane, partner]) = self.lanes.get_disjoint_mut([index, to]) else {
            return Ok(0);
        };
        let (send, receive) = (&mut partner.batch, &mut lane.batch);
        let rewrite = lane.rewrite.as_ref();
        let exchanged = exchange(&mut lane.queue, send, receive, rewrite, limit, nothing)?;
        Ok(exchanged.sent + exchanged.received)
    }

    /// What is not done yet. Finished transmit buffers are given back meanwhile.
    pub fn under_way(&mut self) -> UnderWay {
        let mut all = UnderWay::default();
        for lane in &mut self.lanes {
            all.held += lane.batch.len() as u64;
            all.outstanding += u64::from(lane.queue.reclaim());
            all.waiting += u64::from(lane.queue.waiting(1));
        }
        all
    }

    /// Arms all queues. What each says is its own to remember: whoever gave the queues sleeps.
    ///
    /// # Errors
    /// That of the first queue that failed.
    pub fn arm(&mut self) -> Result<(), QueueError> {
        let mut queues = self.lanes.iter_mut().map(|lane| &mut lane.queue);
        queues.try_for_each(|queue| queue.arm().map(drop))
    }

    /// Changes how frames are changed that leave by the port of lane `to`: its address is another.
    pub fn readdress(&mut self, to: usize, rewrite: Option<Rewrite>) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.to == to) {
            lane.rewrite = rewrite;
        }
    }

    /// Frames of a lane received and not yet transmitted.
    pub fn held(&self, lane: usize) -> u64 {
        (self.lanes.get(lane)).map_or(0, |lane| lane.batch.len() as u64)
    }
}
