//! [`Loan`]: a queue pair as an application in a domain of its own has it.
//!
//! Everything that a run is told by is counted here, on the host's side: what passed, and the time it took. The
//! application has no clock and is not asked. A loan comes [`Home`] when the application drops
//! it, or when all that a dead application's domain held is dropped.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sumac_interface::RpcError;
use sumac_interface::net::{Armed, Exchanged, NetQueue, QueueError, QueueStats};
use sumac_linux::time::ticks;
use sumac_rref::PacketBatch;

use crate::dump::Dump;
use crate::forward::{LaneFigures, Shared};

/// Calls between two looks at what a queue pair counted; a power of two.
const CALLS_BETWEEN_REPORTS: u32 = 4096;

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
    queue: Mutex<Option<Q>>,
    figures: Arc<LaneFigures>,
    meter: Arc<Meter>,
    /// Which of the meter's lanes it is.
    lane: usize,
    failed: AtomicBool,
    terms: Terms,
}

impl<Q> Home<Q> {
    /// The home of a queue pair that is lane `lane` of a worker's.
    pub fn new(queue: Q, meter: Arc<Meter>, lane: usize, terms: Terms) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Some(queue)),
            figures: Arc::default(),
            meter,
            lane,
            failed: AtomicBool::new(false),
            terms,
        })
    }

    fn queue(&self) -> MutexGuard<'_, Option<Q>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the queue pair, if it is at home.
    pub fn lend(self: &Arc<Self>) -> Option<Loan<Q>>
    where
        Q: NetQueue,
    {
        let queue = self.queue().take()?;
        Some(Loan {
            queue: Some(queue),
            home: Arc::clone(self),
            calls: 0,
            begun: false,
            dumped: 0,
        })
    }

    /// Takes the queue pair for good, if it is at home.
    pub fn take(&self) -> Option<Q> {
        self.queue().take()
    }

    /// Whether a call of the queue pair failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Its live figures.
    pub fn figures(&self) -> &Arc<LaneFigures> {
        &self.figures
    }
}

/// A queue pair on loan.
pub struct Loan<Q: NetQueue> {
    /// None only while this is dropped.
    queue: Option<Q>,
    home: Arc<Home<Q>>,
    calls: u32,
    /// Whether something was transmitted.
    begun: bool,
    /// Frames at the front of the batch to be transmitted that are in the dump already.
    dumped: usize,
}

impl<Q: NetQueue> Loan<Q> {
    /// A call that transmits `send` and receives up to `limit` frames, of those that may still be.
    #[inline]
    fn through(
        &mut self,
        send: Option<&mut PacketBatch>,
        limit: usize,
        call: impl FnOnce(&mut Q, Option<&mut PacketBatch>, usize) -> Result<Exchanged, QueueError>,
    ) -> Result<Exchanged, QueueError> {
        let home = &*self.home;
        let queue = self.queue.as_mut().ok_or(RpcError::Refused)?;
        home.meter.begin(home.lane);
        let mut send = send;
        if let (Some(dump), Some(batch)) = (&home.terms.dump, send.as_deref_mut())
            && batch.len() > self.dumped
        {
            dump.write_rest(batch, self.dumped);
        }
        let allowed = home.terms.shared.allow(limit);
        let result = call(queue, send.as_deref_mut(), allowed);
        let received = result.as_ref().map_or(0, |exchanged| exchanged.received);
        home.terms
            .shared
            .give_back(allowed.saturating_sub(received));
        let exchanged = result.inspect_err(|_| home.failed.store(true, Ordering::Relaxed))?;
        if let Some(batch) = send {
            self.dumped = batch.len();
        }
        home.meter.moved(exchanged.sent + received);
        self.calls = self.calls.wrapping_add(1);
        if self.calls & (CALLS_BETWEEN_REPORTS - 1) == 0 || exchanged.sent > 0 && !self.begun {
            self.begun |= exchanged.sent > 0;
            self.publish();
        }
        Ok(exchanged)
    }

    fn publish(&self) {
        if let Some(queue) = &self.queue {
            let Home { figures, meter, .. } = &*self.home;
            let busy = meter.busy_ticks(self.home.lane);
            figures.publish(queue.stats(), queue.waiting(64), 0, busy);
        }
    }
}

impl<Q: NetQueue> Drop for Loan<Q> {
    fn drop(&mut self) {
        self.publish();
        *self.home.queue() = self.queue.take();
    }
}

impl<Q: NetQueue> NetQueue for Loan<Q> {
    #[inline]
    fn receive(&mut self, batch: &mut PacketBatch, limit: usize) -> Result<usize, QueueError> {
        let call = |queue: &mut Q, _: Option<&mut PacketBatch>, limit| {
            let received = queue.receive(batch, limit)?;
            Ok(Exchanged { sent: 0, received })
        };
        Ok(self.through(None, limit, call)?.received)
    }

    #[inline]
    fn transmit(&mut self, batch: &mut PacketBatch) -> Result<usize, QueueError> {
        let call = |queue: &mut Q, batch: Option<&mut PacketBatch>, _| {
            let sent = batch.map_or(Ok(0), |batch| queue.transmit(batch))?;
            Ok(Exchanged { sent, received: 0 })
        };
        Ok(self.through(Some(batch), 0, call)?.sent)
    }

    #[inline]
    fn exchange(
        &mut self,
        send: &mut PacketBatch,
        receive: &mut PacketBatch,
        limit: usize,
    ) -> Result<Exchanged, QueueError> {
        let call = |queue: &mut Q, send: Option<&mut PacketBatch>, limit| match send {
            Some(send) => queue.exchange(send, receive, limit),
            None => Ok(Exchanged::default()),
        };
        self.through(Some(send), limit, call)
    }

    fn set_prefetch(&mut self, on: bool) {
        if let Some(queue) = &mut self.queue {
            queue.set_prefetch(on);
        }
    }

    fn allocate(&mut self, batch: &mut PacketBatch, count: usize, len: u16) -> usize {
        (self.queue.as_mut()).map_or(0, |queue| queue.allocate(batch, count, len))
    }

    fn recycle(&mut self, batch: &mut PacketBatch) {
        if let Some(queue) = &mut self.queue {
            queue.recycle(batch);
        }
    }

    /// Asked for when there is nothing else to do: the figures are brought up to date, too.
    fn reclaim(&mut self) -> u32 {
        self.publish();
        self.queue.as_mut().map_or(0, Q::reclaim)
    }

    fn arm(&mut self) -> Result<Armed, QueueError> {
        self.queue.as_mut().ok_or(RpcError::Refused)?.arm()
    }

    fn waiting(&self, limit: u32) -> u32 {
        (self.queue.as_ref()).map_or(0, |queue| queue.waiting(limit))
    }

    fn stats(&self) -> QueueStats {
        (self.queue.as_ref()).map_or_else(QueueStats::default, Q::stats)
    }
}

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

    fn busy_ticks(&self, lane: usize) -> u64 {
        let busy = self.busy.get(lane);
        busy.map_or(0, |busy| busy.load(Ordering::Relaxed))
    }

    /// A call begins, and the one before is over.
    #[inline]
    fn begin(&self, lane: usize) {
        let now = ticks();
        self.charge(now);
        self.lane.store(lane, Ordering::Relaxed);
        self.since.store(now, Ordering::Relaxed);
    }

    /// It moved so many frames.
    #[inline]
    fn moved(&self, frames: usize) {
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
