//! How long a worker is busy with what its queue pairs bring.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use sumac_linux::time::ticks;

/// A worker's time, by lane: a call's goes on until the next call, so that what the application does with what
/// it got is in it. Written by the worker alone, without locked instructions.
pub struct Meter {
    lane: AtomicUsize,
    since: AtomicU64,
    moved: AtomicBool,
    busy: Vec<AtomicU64>,
}

impl Meter {
    /// A meter for so many lanes.
    pub fn new(lanes: usize) -> Arc<Self> {
        Arc::new(Self {
            lane: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            moved: AtomicBool::new(false),
            busy: (0..lanes).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    pub(super) fn busy_ticks(&self, lane: usize) -> u64 {
        let busy = self.busy.get(lane);
        busy.map_or(0, |busy| busy.load(Ordering::Relaxed))
    }

    /// A call begins, and the one before is over.
    #[inline]
    pub(super) fn begin(&self, lane: usize) {
        let now = ticks();
        self.charge(now);
        self.lane.store(lane, Ordering::Relaxed);
        self.since.store(now, Ordering::Relaxed);
    }

    /// It moved so many frames.
    #[inline]
    pub(super) fn moved(&self, frames: usize) {
        self.moved.store(frames > 0, Ordering::Relaxed);
    }

    /// The application came back to its worker.
    pub fn end(&self) {
        self.charge(ticks());
    }

    #[inline]
    fn charge(&self, now: u64) {
        if !self.moved.load(Ordering::Relaxed) {
            return;
        }
        self.moved.store(false, Ordering::Relaxed);
        if let Some(busy) = self.busy.get(self.lane.load(Ordering::Relaxed)) {
            let took = now.wrapping_sub(self.since.load(Ordering::Relaxed));
            busy.store(busy.load(Ordering::Relaxed) + took, Ordering::Relaxed);
        }
    }
}
