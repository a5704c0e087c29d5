//! A worker: one core's loop. It has the application run for a while, looks what the main thread wants, and so
//! on; nothing is shared between workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sumac_linux::Bell;

use crate::application::{Application, ApplicationError};
use crate::loan::Meter;

/// How long a stop waits for frames under way before it gives up on them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Rounds between two looks at what the main thread wants.
const ROUNDS: u32 = 256;

/// The longest sleep: whoever stops a worker wakes it, so that this is for what nobody foresaw.
const NAP: Duration = Duration::from_secs(1);

/// What the main thread asks of all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Forward.
    Run = 0,
    /// Forward what has come, receive until nothing comes any more, then end.
    Drain = 1,
}

/// What workers and the main thread share.
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

    fn draining(&self) -> bool {
        self.order.load(Ordering::Acquire) == Order::Drain as u8
    }

    /// Up to `wanted` of the frames that may still be received.
    #[inline]
    pub fn allow(&self, wanted: usize) -> usize {
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
    #[inline]
    pub fn give_back(&self, frames: usize) {
        if frames > 0 && self.allowance.load(Ordering::Relaxed) != u64::MAX {
            self.allowance.fetch_add(frames as u64, Ordering::Relaxed);
        }
    }
}

/// What a worker leaves behind when it ends. Its queue pairs are at home then.
pub struct Outcome {
    /// Frames received but never transmitted, by lane: dropped when draining timed out.
    pub undelivered: Vec<u64>,
    /// What ended the worker before it was told to.
    pub error: Option<ApplicationError>,
}

/// One core's share of the forwarding.
pub struct Worker {
    application: Box<dyn Application>,
    lanes: usize,
    meter: Arc<Meter>,
    shared: Arc<Shared>,
    /// What the vectors of its queues ring; none polls all the time.
    bell: Option<Arc<Bell>>,
}

impl Worker {
    /// A worker that has `application` forward between so many lanes, which `meter` measures, and sleeps on
    /// `bell` while there is nothing to do.
    pub fn new(
        application: Box<dyn Application>,
        lanes: usize,
        meter: Arc<Meter>,
        shared: Arc<Shared>,
        bell: Option<Arc<Bell>>,
    ) -> Self {
        Self {
            application,
            lanes,
            meter,
            shared,
            bell,
        }
    }

    /// Forwards until told to stop, or until a queue or the application fails.
    pub fn run(mut self) -> Outcome {
        let error = self.forward_until_told().err();
        let error = error.or_else(|| self.drain().err());
        let lanes = 0..self.lanes;
        Outcome {
            undelivered: lanes.map(|lane| self.application.held(lane)).collect(),
            error,
        }
    }

    fn rounds(&mut self, rounds: u32) -> Result<u64, ApplicationError> {
        let moved = self.application.run(rounds);
        self.meter.end();
        moved
    }

    fn forward_until_told(&mut self) -> Result<(), ApplicationError> {
        while !self.shared.draining() {
            if self.rounds(ROUNDS)? == 0 {
                self.sleep();
            }
        }
        Ok(())
    }

    /// Sleeps until a frame comes, if there is a bell and nothing to be done.
    fn sleep(&mut self) {
        let Some(bell) = self.bell.clone() else {
            return;
        };
        let under_way = self.application.under_way();
        if under_way.held > 0 || under_way.outstanding > 0 || self.shared.exhausted() {
            return;
        }
        // Frames that came before their queue was armed ring no bell: look once more.
        let armed = self.application.arm();
        let waiting = self.application.under_way().waiting > 0;
        if armed && !waiting && !self.shared.draining() {
            bell.wait(NAP);
        }
    }

    /// Receives until nothing comes any more, and waits until all was sent, within limits.
    fn drain(&mut self) -> Result<(), ApplicationError> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < deadline {
            let moved = self.rounds(1)?;
            let under_way = self.application.under_way();
            let may_receive = !self.shared.exhausted();
            let pending = under_way.held > 0 || may_receive && under_way.waiting > 0;
            if moved > 0 || pending || under_way.outstanding > 0 {
                quiet = 0;
            } else {
                quiet += 1;
            }
            // The device may live on this very core.
            std::thread::yield_now();
        }
        Ok(())
    }
}
