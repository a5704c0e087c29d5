//! [`Home`]: where a queue pair is while the application does not have it, and what is known of it meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use l2fwd_forward::Rewrite;
use sumac_interface::net::{NetQueue, QueueError, QueueStats};

use super::{Loan, Meter};
use crate::dump::Dump;
use crate::forward::{LaneFigures, Shared};

/// What a run has of all its queue pairs.
#[derive(Clone)]
pub struct Terms {
    /// Bounds what may be received.
    pub shared: Arc<Shared>,
    /// Gets what is forwarded.
    pub dump: Option<Arc<Dump>>,
}

/// Where a queue pair is while the application does not have it.
pub struct Home<Q> {
    place: Mutex<Place<Q>>,
    /// Whether nothing is to be asked of the queue pair: its device is gone, or it failed.
    pub(super) closed: AtomicBool,
    /// Whether it said to sleep as it was armed last.
    pub(super) sleeps: AtomicBool,
    /// Frames that were to leave by it, dropped while it was gone.
    pub(super) gone: AtomicU64,
    pub(super) figures: Arc<LaneFigures>,
    pub(super) meter: Arc<Meter>,
    /// Which of the meter's lanes it is.
    pub(super) lane: usize,
    pub(super) terms: Terms,
}

pub(super) struct Place<Q> {
    pub queue: Option<Q>,
    /// Whether a loan has it.
    pub away: bool,
    /// Why it is closed, if the queue pair failed.
    pub failed: Option<QueueError>,
    /// Whether there are to be no more loans.
    over: bool,
    /// What queue pairs counted that were given up.
    pub past: QueueStats,
    /// How its frames are changed on the way.
    rewrite: Option<Rewrite>,
}

impl<Q: NetQueue> Home<Q> {
    /// The home of a queue pair that is lane `lane` of a worker's, whose frames are changed so on the way.
    pub fn new(
        queue: Q,
        rewrite: Option<Rewrite>,
        meter: Arc<Meter>,
        lane: usize,
        terms: Terms,
    ) -> Arc<Self> {
        Arc::new(Self {
            place: Mutex::new(Place {
                queue: Some(queue),
                away: false,
                failed: None,
                over: false,
                past: QueueStats::default(),
                rewrite,
            }),
            closed: AtomicBool::new(false),
            sleeps: AtomicBool::new(false),
            gone: AtomicU64::new(0),
            figures: Arc::default(),
            meter,
            lane,
            terms,
        })
    }

    pub(super) fn place(&self) -> MutexGuard<'_, Place<Q>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the queue pair, or what stands for it while its device is gone; none once it was taken for good.
    pub fn lend(self: &Arc<Self>) -> Option<Loan<Q>> {
        if self.place().over {
            return None;
        }
        Some(Loan::of(Arc::clone(self)))
    }

    /// From now on the loan has nothing: the queue pair comes home as the loan is called next.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether a loan has the queue pair.
    pub fn is_away(&self) -> bool {
        self.place().away
    }

    /// Takes the queue pair of a home that is closed, or that nobody borrows from.
    pub fn withdraw(&self) -> Option<Q> {
        let mut place = self.place();
        let queue = place.queue.take()?;
        place.past += queue.stats();
        place.failed = None;
        drop(place);
        self.figures.publish_failed(false);
        self.publish_idle();
        Some(queue)
    }

    /// Opens the home again, with another queue pair in it.
    pub fn open(&self, queue: Option<Q>) {
        let there = queue.is_some();
        self.place().queue = queue;
        self.closed.store(!there, Ordering::Release);
    }

    /// Takes the queue pair for good, if it is at home.
    pub fn take(&self) -> Option<Q> {
        let mut place = self.place();
        place.over = true;
        place.queue.take()
    }

    /// How the queue pair failed, if it did.
    pub fn failure(&self) -> Option<QueueError> {
        self.place().failed
    }

    /// How its frames are changed on the way.
    pub fn rewrite(&self) -> Option<Rewrite> {
        self.place().rewrite
    }

    /// Changes how: for who borrows from now on.
    pub fn set_rewrite(&self, rewrite: Option<Rewrite>) {
        self.place().rewrite = rewrite;
    }

    /// Forgets what the queue pair said as it was armed last.
    pub fn wake(&self) {
        self.sleeps.store(false, Ordering::Relaxed);
    }

    /// Whether it was armed since, and had nothing to receive.
    pub fn sleeps(&self) -> bool {
        self.sleeps.load(Ordering::Relaxed)
    }

    /// The figures while no loan has the queue pair.
    pub(super) fn publish_idle(&self) {
        let place = self.place();
        let mut stats = place.past;
        if let Some(queue) = &place.queue {
            stats += queue.stats();
        }
        self.publish(stats, 0);
    }

    pub(super) fn publish(&self, stats: QueueStats, waiting: u32) {
        let gone = self.gone.load(Ordering::Relaxed);
        let busy = self.meter.busy_ticks(self.lane);
        self.figures.publish(stats, waiting, gone, busy);
    }
}

impl<Q> Home<Q> {
    /// Its live figures.
    pub fn figures(&self) -> &Arc<LaneFigures> {
        &self.figures
    }
}
