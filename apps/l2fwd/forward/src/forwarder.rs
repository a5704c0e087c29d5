//! [`Forwarder`]: one core's share of the forwarding, run to completion.
//!
//! It has one queue pair of every port. In each it transmits what came by the partner port and receives the
//! next batch, in one exchange, and rewrites addresses in place. What a port has no room for stays in its
//! batch and goes first next time; until then nothing more is received for it: back-pressure, no drop.

use alloc::vec::Vec;

use sumac_interface::Exchangeable;
use sumac_interface::net::{Exchanged, NetQueue, QueueError};
use sumac_rref::PacketBatch;

use crate::rewrite::Rewrite;

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

    /// A lane's part of a round: transmits what is to leave by its port, receives what has come, and rewrites
    /// that. Says how many frames moved.
    #[inline]
    fn exchange(&mut self, index: usize) -> Result<usize, QueueError> {
        let Some(lane) = self.lanes.get(index) else {
            return Ok(0);
        };
        // Partners are each other's; a port without one is its own.
        let partner = lane.to;
        let limit = match lane.batch.is_empty() {
            true => self.batch,
            false => 0,
        };
        let mut exchanged = exchange(&mut self.lanes, index, partner, limit)?;
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(0);
        };
        if let Some(rewrite) = &lane.rewrite
            && exchanged.received > 0
        {
            rewrite.apply(&mut lane.batch);
        }
        if partner == index && !lane.batch.is_empty() {
            exchanged.sent = lane.queue.transmit(&mut lane.batch)?;
        }
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

    /// Frames of a lane received and not yet transmitted.
    pub fn held(&self, lane: usize) -> u64 {
        (self.lanes.get(lane)).map_or(0, |lane| lane.batch.len() as u64)
    }

    /// Arms the interrupts of all lanes; `false` if one wakes nobody.
    pub fn arm(&mut self) -> bool {
        let mut armed = true;
        for lane in &mut self.lanes {
            armed &= lane.queue.arm();
        }
        armed
    }
}

/// Sends lane `partner`'s batch by the queue pair of lane `index`, and receives up to `limit` frames into that
/// lane's own.
#[inline]
fn exchange<Q: NetQueue>(
    lanes: &mut [Lane<Q>],
    index: usize,
    partner: usize,
    limit: usize,
) -> Result<Exchanged, QueueError> {
    if partner != index {
        return match lanes.get_disjoint_mut([index, partner]) {
            Ok([Lane { queue, batch, .. }, from]) => queue.exchange(&mut from.batch, batch, limit),
            Err(_) => Ok(Exchanged::default()),
        };
    }
    // One batch goes both ways: what came is to be rewritten first.
    let mut exchanged = Exchanged::default();
    if let Some(Lane { queue, batch, .. }) = lanes.get_mut(index)
        && limit > 0
    {
        exchanged.received = queue.receive(batch, limit)?;
    }
    Ok(exchanged)
}
