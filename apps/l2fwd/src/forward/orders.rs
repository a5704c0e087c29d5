//! What the main thread asks of workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use l2fwd_forward::Rewrite;

/// What the main thread asks of all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Forward.
    Run = 0,
    /// Forward what has come, receive until nothing comes any more, then end.
    Drain = 1,
}

/// What workers and the main thread share: orders one way, figures the other.
pub struct Shared {
    order: AtomicU8,
    /// Frames that may still be received; ends a run of `--frames`.
    allowance: AtomicU64,
}

impl Shared {
    /// Orders for a run of at most `frames` frames.
    pub fn new(frames: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            order: AtomicU8::new(Order::Run as u8),
            allowance: AtomicU64::new(frames.unwrap_or(u64::MAX)),
        })
    }

    /// Gives an order.
    pub fn order(&self, order: Order) {
        self.order.store(order as u8, Ordering::Release);
    }

    /// Whether all frames of `--frames` were received.
    pub fn exhausted(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn draining(&self) -> bool {
        self.order.load(Ordering::Acquire) == Order::Drain as u8
    }

    /// Up to `wanted` of the frames that may still be received.
    pub(crate) fn allow(&self, wanted: usize) -> usize {
        let left = self.allowance.load(Ordering::Relaxed);
        if left == u64::MAX {
            return wanted;
        }
        let take = |left: u64| Some(left - left.min(wanted as u64));
        match self
            .allowance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        {
            Ok(before) => before.min(wanted as u64) as usize,
            Err(_) => 0,
        }
    }

    /// Takes frames back that were allowed and did not come.
    pub(crate) fn give_back(&self, frames: usize) {
        if frames > 0 && self.allowance.load(Ordering::Relaxed) != u64::MAX {
            self.allowance.fetch_add(frames as u64, Ordering::Relaxed);
        }
    }
}

/// What the main thread asks of one worker.
pub enum Change<Q> {
    /// Give up the queue pairs of a port.
    Take {
        /// Which port.
        port: usize,
        /// Where they go, in order.
        to: Sender<Vec<Q>>,
    },
    /// Go on with a port that came back.
    Bring {
        /// Which port.
        port: usize,
        /// Its queue pairs for this worker, in order.
        queues: Vec<Q>,
        /// How frames that leave by it are changed from now on.
        rewrite: Option<Rewrite>,
    },
}
