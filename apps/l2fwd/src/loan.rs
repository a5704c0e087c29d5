//! [`Loan`]: a queue pair as an application in a domain of its own has it.
//!
//! Everything that a run is told by is counted here, on the host's side: what passed, and the time it took. The
//! application has no clock and is not asked. A loan comes [`Home`] when the application drops
//! it, or when all that a dead application's domain held is dropped.
//!
//! The queue pair can go home before its loan does, since its device is gone: whoever wants it closes the home, and
//! the loan gives the queue pair up when it is called next. What the application hands it from then on is dropped, and
//! counted; of what is wrong the application learns nothing. When the home is open again, the loan takes the
//! queue pair that is there.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use l2fwd_forward::Rewrite;
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
    place: Mutex<Place<Q>>,
    /// Whether nothing is to be asked of the queue pair: its device is gone, or it failed.
    closed: AtomicBool,
    /// Whether it said to sleep as it was armed last.
    sleeps: AtomicBool,
    /// Frames that were to leave by it, dropped while it was gone.
    gone: AtomicU64,
    figures: Arc<LaneFigures>,
    meter: Arc<Meter>,
    /// Which of the meter's lanes it is.
    lane: usize,
    terms: Terms,
}

struct Place<Q> {
    queue: Option<Q>,
    /// Whether a loan has it.
    away: bool,
    /// Why it is closed, if the queue pair failed.
    failed: Option<QueueError>,
    /// Whether there are to be no more loans.
    over: bool,
    /// What queue pairs counted that were given up.
    past: QueueStats,
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

    fn place(&self) -> MutexGuard<'_, Place<Q>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the queue pair, or what stands for it while its device is gone; none once it was taken for good.
    pub fn lend(self: &Arc<Self>) -> Option<Loan<Q>> {
        if self.place().over {
            return None;
        }
        let mut loan = Loan {
            queue: None,
            home: Arc::clone(self),
            past: QueueStats::default(),
            prefetch: false,
            calls: 0,
            begun: false,
            dumped: 0,
        };
        loan.look();
        Some(loan)
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
    fn publish_idle(&self) {
        let place = self.place();
        let mut stats = place.past;
        if let Some(queue) = &place.queue {
            stats += queue.stats();
        }
        self.publish(stats, 0);
    }

    fn publish(&self, stats: QueueStats, waiting: u32) {
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

/// A queue pair on loan.
pub struct Loan<Q: NetQueue> {
    /// None while its home has it.
    queue: Option<Q>,
    home: Arc<Home<Q>>,
    /// What queue pairs counted that the home had before.
    past: QueueStats,
    prefetch: bool,
    calls: u32,
    /// Whether something was transmitted.
    begun: bool,
    /// Frames at the front of the batch to be transmitted that are in the dump already.
    dumped: usize,
}

impl<Q: NetQueue> Loan<Q> {
    /// Has a queue pair if something may be asked of one.
    #[inline]
    fn look(&mut self) {
        if self.queue.is_none() || self.home.closed.load(Ordering::Relaxed) {
            self.look_home();
        }
    }

    /// Gives the queue pair up if its home is closed, or takes the one that is there.
    #[cold]
    fn look_home(&mut self) {
        if self.home.closed.load(Ordering::Acquire) {
            return self.give_up(None);
        }
        let mut place = self.home.place();
        if let Some(mut queue) = place.queue.take() {
            place.away = true;
            queue.set_prefetch(self.prefetch);
            self.past = place.past;
            self.queue = Some(queue);
        }
    }

    /// Brings the queue pair home, which may have failed.
    fn give_up(&mut self, failed: Option<QueueError>) {
        self.publish();
        if let Some(queue) = self.queue.take() {
            let mut place = self.home.place();
            place.queue = Some(queue);
            place.away = false;
            place.failed = failed;
        }
    }

    /// Nothing more is asked of a queue pair that failed; the main thread knows whether its device is gone.
    #[cold]
    fn fail(&mut self, why: QueueError) {
        self.home.close();
        self.give_up(Some(why));
        self.home.figures.publish_failed(true);
    }

    /// Drops what is to leave by a queue pair that is gone: from here it is as good as sent.
    #[cold]
    fn drop_all(&mut self, send: Option<&mut PacketBatch>) -> Exchanged {
        let Some(batch) = send.filter(|batch| !batch.is_empty()) else {
            return Exchanged::default();
        };
        let sent = batch.len();
        batch.clear();
        self.dumped = 0;
        self.home.gone.fetch_add(sent as u64, Ordering::Relaxed);
        self.home.meter.moved(sent);
        self.home.publish_idle();
        Exchanged { sent, received: 0 }
    }

    /// A call that transmits `send` and receives up to `limit` frames, of those that may still be.
    #[inline]
    fn through(
        &mut self,
        send: Option<&mut PacketBatch>,
        limit: usize,
        call: impl FnOnce(&mut Q, Option<&mut PacketBatch>, usize) -> Result<Exchanged, QueueError>,
    ) -> Result<Exchanged, QueueError> {
        self.look();
        let home = &*self.home;
        home.meter.begin(home.lane);
        let mut send = send;
        if let (Some(dump), Some(batch)) = (&home.terms.dump, send.as_deref_mut())
            && batch.len() > self.dumped
        {
            dump.write_rest(batch, self.dumped);
        }
        let Some(queue) = self.queue.as_mut() else {
            return Ok(self.drop_all(send));
        };
        let allowed = home.terms.shared.allow(limit);
        let result = call(queue, send.as_deref_mut(), allowed);
        let received = result.as_ref().map_or(0, |exchanged| exchanged.received);
        home.terms
            .shared
            .give_back(allowed.saturating_sub(received));
        let exchanged = match result {
            Ok(exchanged) => exchanged,
            Err(QueueError::ForeignPool(mistake)) => return Err(mistake.into()),
            Err(why) => {
                self.fail(why);
                return Ok(Exchanged::default());
            }
        };
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
            let mut stats = self.past;
            stats += queue.stats();
            self.home.publish(stats, queue.waiting(64));
        }
    }
}

impl<Q: NetQueue> Drop for Loan<Q> {
    fn drop(&mut self) {
        self.give_up(None);
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
        self.prefetch = on;
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
        self.look();
        self.publish();
        self.queue.as_mut().map_or(0, Q::reclaim)
    }

    /// What the queue pair says its home remembers: whoever sleeps does not ask the application.
    fn arm(&mut self) -> Result<Armed, QueueError> {
        self.look();
        let armed = match self.queue.as_mut().map(Q::arm) {
            Some(Ok(armed)) => armed,
            Some(Err(why)) => {
                self.fail(why);
                Armed::Ready
            }
            // What is gone wakes nobody, and need not.
            None => Armed::Sleep,
        };
        let sleeps = armed == Armed::Sleep;
        self.home.sleeps.store(sleeps, Ordering::Relaxed);
        Ok(armed)
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
