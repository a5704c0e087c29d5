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
    /// Frames that somebody may still be allowed to receive, of `--frames`; without, as many as there can be.
    allowance: AtomicU64,
    /// Frames that have not been received yet, in whosever allowance they are: none ends the run.
    missing: AtomicU64,
}

impl Shared {
    /// Orders for a run of at most `frames` frames.
    pub fn new(frames: Option<u64>) -> Arc<Self> {
        let frames = frames.unwrap_or(u64::MAX);
        Arc::new(Self {
            order: AtomicU8::new(Order::Run as u8),
            allowance: AtomicU64::new(frames),
            missing: AtomicU64::new(frames),
        })
    }

    /// Gives an order.
    pub fn order(&self, order: Order) {
        self.order.store(order as u8, Ordering::Release);
    }

    /// Whether all frames of `--frames` were received.
    pub fn exhausted(&self) -> bool {
        self.missing.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn draining(&self) -> bool {
        self.order.load(Ordering::Acquire) == Order::Drain as u8
    }

    /// Up to `wanted` of the frames that may still be received: to be [settled](Self::settle).
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

    /// So many frames were received of those that were allowed; the others may be again.
    pub(crate) fn settle(&self, allowed: usize, received: usize) {
        if allowed == 0 || self.allowance.load(Ordering::Relaxed) == u64::MAX {
            return;
        }
        // A driver in a domain may say that it received more than it was asked for.
        let received = received.min(allowed);
        self.missing.fetch_sub(received as u64, Ordering::Relaxed);
        self.allowance
            .fetch_add((allowed - received) as u64, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_not_over_while_somebody_may_yet_receive() {
        let shared = Shared::new(Some(40));
        let (one, other) = (shared.allow(32), shared.allow(32));
        assert_eq!((one, other, shared.allow(32)), (32, 8, 0));
        assert!(!shared.exhausted());
        shared.settle(one, 0);
        shared.settle(other, 5);
        assert!(!shared.exhausted());
        let rest = shared.allow(64);
        assert_eq!(rest, 35);
        shared.settle(rest, 99);
        assert!(shared.exhausted());
        assert_eq!(shared.allow(1), 0);
    }

    #[test]
    fn a_run_without_a_number_of_frames_is_never_over() {
        let shared = Shared::new(None);
        for _ in 0..3 {
            let allowed = shared.allow(32);
            assert_eq!(allowed, 32);
            shared.settle(allowed, 32);
        }
        assert!(!shared.exhausted());
    }
}
