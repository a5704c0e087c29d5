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

mod home;
mod meter;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sumac_interface::net::{Armed, Exchanged, NetQueue, QueueError, QueueStats};
use sumac_rref::PacketBatch;

pub use home::{Home, Terms};
pub use meter::Meter;

/// Calls between two looks at what a queue pair counted; a power of two.
const CALLS_BETWEEN_REPORTS: u32 = 4096;

/// A queue pair on loan.
pub struct Loan<Q: NetQueue> {
    /// None while its home has it.
    queue: Option<Q>,
    home: Arc<Home<Q>>,
    /// What queue pairs counted that the home had before.
    past: QueueStats,
    prefetch: bool,
    calls: u32,
    /// Frames that may be received in a call that goes on: of one that its application died in, none were.
    allowed: usize,
    /// Whether something was transmitted.
    begun: bool,
    /// Frames at the front of the batch to be transmitted that are in the dump already.
    dumped: usize,
}

impl<Q: NetQueue> Loan<Q> {
    /// Of what is at this home.
    fn of(home: Arc<Home<Q>>) -> Self {
        let mut loan = Self {
            queue: None,
            home,
            past: QueueStats::default(),
            prefetch: false,
            calls: 0,
            allowed: 0,
            begun: false,
            dumped: 0,
        };
        loan.look();
        loan
    }

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
        self.allowed = allowed;
        let result = call(queue, send.as_deref_mut(), allowed);
        let received = result.as_ref().map_or(0, |exchanged| exchanged.received);
        home.terms.shared.settle(allowed, received);
        self.allowed = 0;
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
        self.home.terms.shared.settle(self.allowed, 0);
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
