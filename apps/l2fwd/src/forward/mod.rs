//! The forwarding loop: one worker a core, run to completion, nothing shared between workers.
//!
//! A worker has one queue pair of every port. In each it transmits what came by the partner port and receives
//! the next batch, in one exchange, and rewrites addresses in place. What a port has no room for stays in
//! its batch and goes first next time; until then nothing more is received for it: back-pressure, no drop.
//! What is for a port whose device is gone is dropped, and counted.

mod lane;
mod orders;
mod sleep;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use l2fwd_forward::{Rewrite, exchange, turn_back};
use sumac_interface::RpcError;
use sumac_interface::net::{Armed, Exchanged, NetQueue, QueueError};
use sumac_linux::Bell;
use sumac_linux::time::ticks;
use sumac_rref::PacketBatch;

use crate::dump::Dump;
use crate::report::Sleeps;

pub use lane::{Lane, LaneFigures};
pub use orders::{Change, Order, Shared};

pub(crate) use sleep::{Rest, Sleeper};

use lane::Books;

/// How long a stop waits for frames under way of which none moves, before it gives up on them.
const STANDSTILL: Duration = Duration::from_secs(2);
/// How long it does in all: devices may have them move one by one.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Rounds between two looks at what the main thread wants and what it is shown.
pub(crate) const ROUNDS_BETWEEN_REPORTS: u32 = 256;

/// What a worker leaves behind when it ends.
pub struct Outcome<Q> {
    /// Its queue pairs, by lane; none where the device is gone.
    pub queues: Vec<Option<Q>>,
    /// Frames received but never transmitted: dropped when draining timed out.
    pub undelivered: Vec<u64>,
    /// How it slept.
    pub sleeps: Sleeps,
    /// What a queue pair failed with, and which port's it is: the first of those that were not taken away.
    pub error: Option<(usize, QueueError)>,
    /// Why a call of an application in a domain of its own failed, if that did.
    pub application: Option<RpcError>,
}

/// How long a stop goes on, by what its rounds find.
pub(crate) struct Drain {
    start: Instant,
    /// When anything was last seen to move.
    moved: Instant,
    outstanding: u64,
    /// Rounds in a row that found nothing under way.
    quiet: u32,
}

impl Drain {
    /// Begins now.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            moved: now,
            outstanding: 0,
            quiet: 0,
        }
    }

    /// Whether there is to be another round after one that moved frames or not, that left some `pending` here or in
    /// receive rings, and that left descriptors `outstanding` with devices.
    pub fn goes_on(&mut self, moved: bool, pending: bool, outstanding: u64) -> bool {
        if moved || pending || outstanding > 0 {
            self.quiet = 0;
        } else {
            self.quiet += 1;
        }
        if moved || outstanding != self.outstanding {
            self.moved = Instant::now();
            self.outstanding = outstanding;
        }
        self.quiet < 3 && self.moved.elapsed() < STANDSTILL && self.start.elapsed() < DRAIN_TIMEOUT
    }
}

/// One core's share of the forwarding.
pub struct Worker<Q> {
    lanes: Vec<Lane<Q>>,
    figures: Vec<Arc<LaneFigures>>,
    books: Vec<Books<Q>>,
    changes: Receiver<Change<Q>>,
    batch: usize,
    shared: Arc<Shared>,
    dump: Option<Arc<Dump>>,
    rest: Rest,
}

impl<Q: NetQueue> Worker<Q> {
    /// A worker over `lanes`, one per port in port order, that moves up to `batch` frames at once, and sleeps on
    /// `bell` while there are none. It does what `changes` say.
    pub fn new(
        mut lanes: Vec<Lane<Q>>,
        changes: Receiver<Change<Q>>,
        batch: usize,
        shared: Arc<Shared>,
        dump: Option<Arc<Dump>>,
        bell: Option<Arc<Bell>>,
    ) -> Self {
        for lane in &mut lanes {
            lane.prefetch();
        }
        let figures = lanes.iter().map(|_| Arc::default()).collect();
        let books = lanes.iter().map(|_| Books::default()).collect();
        Self {
            lanes,
            figures,
            books,
            changes,
            batch,
            shared,
            dump,
            rest: Rest::on(bell),
        }
    }

    /// Where the worker's live figures are, by port.
    pub fn figures(&self) -> Vec<Arc<LaneFigures>> {
        self.figures.clone()
    }

    /// Whether a queue pair failed.
    pub fn has_failed(&self) -> bool {
        self.books.iter().any(|books| books.failed.is_some())
    }

    /// Moves up to so many frames at once from now on.
    pub fn set_batch(&mut self, batch: usize) {
        self.batch = batch;
    }

    /// Forwards until told to stop. A queue pair that fails is put aside; the others go on.
    pub fn run(mut self) -> Outcome<Q> {
        self.forward_until_told();
        self.drain();
        self.publish();
        let undelivered = self
            .lanes
            .iter()
            .map(|lane| lane.batch.len() as u64)
            .collect();
        let mut error = None;
        let mut queues = Vec::new();
        for (lane, books) in self.lanes.into_iter().zip(self.books) {
            let failed = books.failed.map(|(queue, why)| {
                error.get_or_insert((lane.from, why));
                queue
            });
            queues.push(lane.queue.or(failed));
        }
        Outcome {
            queues,
            undelivered,
            sleeps: self.rest.sleeps,
            error,
            application: None,
        }
    }

    fn forward_until_told(&mut self) {
        let mut round = 0u32;
        let mut begun = false;
        while !self.shared.draining() {
            let mut moved = 0;
            for _ in 0..ROUNDS_BETWEEN_REPORTS {
                let now = self.round();
                if !begun && now != Exchanged::default() {
                    begun = true;
                    self.publish();
                }
                moved += now.sent + now.received;
            }
            self.take_changes();
            if moved == 0 {
                self.sleep();
            }
            round = round.wrapping_add(1);
            if round & 15 == 0 {
                self.publish();
            }
        }
    }

    /// Does what the main thread asks.
    fn take_changes(&mut self) {
        while let Ok(change) = self.changes.try_recv() {
            match change {
                Change::Take { port, to } => {
                    let queues = self.take_queues(port);
                    // Whoever asks waits for them.
                    let _ = to.send(queues);
                }
                Change::Bring {
                    port,
                    queues,
                    rewrite,
                } => self.bring_queues(port, queues, rewrite),
            }
            self.publish();
        }
    }

    fn take_queues(&mut self, port: usize) -> Vec<Q> {
        let lanes = self.lanes.iter_mut().zip(&mut self.books);
        let of_port = lanes.filter(|(lane, _)| lane.from == port);
        of_port
            .filter_map(|(lane, books)| {
                let failed = books.failed.take().map(|(queue, _)| queue);
                let queue = lane.queue.take().or(failed)?;
                books.past += queue.stats();
                Some(queue)
            })
            .collect()
    }

    fn bring_queues(&mut self, port: usize, queues: Vec<Q>, rewrite: Option<Rewrite>) {
        let mut queues = queues.into_iter();
        for index in 0..self.lanes.len() {
            if self.lanes[index].from == port {
                self.lanes[index].queue = queues.next();
                self.lanes[index].prefetch();
                // Its address may be another.
                let partner = self.lanes[index].to;
                self.lanes[partner].rewrite = rewrite;
            }
        }
    }

    /// Sleeps, if there is anything to sleep on: what is shown meanwhile is up to date.
    fn sleep(&mut self) {
        if !self.rest.may_sleep() {
            return;
        }
        self.publish();
        let mut rest = std::mem::take(&mut self.rest);
        let Ok(()) = rest.sleep(self, &Arc::clone(&self.shared));
        self.rest = rest;
    }

    /// One round over all ports; returns how many frames moved. A queue pair that fails is put aside.
    #[inline]
    pub fn round(&mut self) -> Exchanged {
        let mut moved = Exchanged::default();
        for index in 0..self.lanes.len() {
            let start = ticks();
            let of_port = match self.exchange(index) {
                Ok(of_port) => of_port,
                Err(why) => self.put_aside(index, why),
            };
            if of_port != Exchanged::default()
                && let Some(books) = self.books.get_mut(index)
            {
                books.busy_ticks += ticks().wrapping_sub(start);
            }
            moved.sent += of_port.sent;
            moved.received += of_port.received;
        }
        moved
    }

    /// Asks nothing more of a queue pair that failed; the main thread knows whether its device is gone.
    #[cold]
    fn put_aside(&mut self, index: usize, why: QueueError) -> Exchanged {
        if let (Some(lane), Some(books)) = (self.lanes.get_mut(index), self.books.get_mut(index)) {
            lane.fail(books, why);
        }
        self.publish();
        Exchanged::default()
    }

    /// A port's turn; returns how many frames moved.
    #[inline]
    fn exchange(&mut self, index: usize) -> Result<Exchanged, QueueError> {
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(Exchanged::default());
        };
        // Partners are each other's; a port without one is its own.
        let partner = lane.to;
        if lane.queue.is_none() {
            return Ok(self.drop_for(index, partner));
        }
        let allowed = match lane.batch.is_empty() {
            true => self.shared.allow(self.batch),
            false => 0,
        };
        let dump = |batch: &mut PacketBatch| {
            if let Some(dump) = &self.dump {
                dump.write(batch);
            }
        };
        let turn = if partner == index {
            lane.parts()
                .map(|(queue, batch, rewrite)| turn_back(queue, batch, rewrite, allowed, dump))
        } else {
            let lanes = self.lanes.get_disjoint_mut([index, partner]).ok();
            lanes.and_then(|[lane, from]| {
                let (queue, batch, rewrite) = lane.parts()?;
                let send = &mut from.batch;
                Some(exchange(queue, send, batch, rewrite, allowed, dump))
            })
        };
        let turned = turn.unwrap_or(Ok(Exchanged::default()));
        let received = turned.as_ref().map_or(0, |exchanged| exchanged.received);
        self.shared.settle(allowed, received);
        turned
    }

    /// Drops what is to leave by a port that is gone: from here it is as good as sent.
    #[cold]
    fn drop_for(&mut self, index: usize, partner: usize) -> Exchanged {
        let Some(lane) = self.lanes.get_mut(partner) else {
            return Exchanged::default();
        };
        let frames = lane.batch.len();
        if frames > 0 {
            match &mut lane.queue {
                Some(queue) => queue.recycle(&mut lane.batch),
                None => lane.batch.clear(),
            }
        }
        if let Some(books) = self.books.get_mut(index) {
            books.gone += frames as u64;
        }
        Exchanged {
            sent: frames,
            received: 0,
        }
    }

    /// Receives until nothing comes any more, and waits until all was sent, within limits.
    fn drain(&mut self) {
        let mut drain = Drain::new();
        loop {
            let moved = self.round() != Exchanged::default();
            let may_receive = !self.shared.exhausted();
            let pending = self
                .lanes
                .iter()
                .any(|lane| !lane.batch.is_empty() || may_receive && lane.waiting(1) > 0);
            let lanes = self.lanes.iter_mut();
            let outstanding = lanes.map(|lane| u64::from(lane.reclaim())).sum();
            if !drain.goes_on(moved, pending, outstanding) {
                return;
            }
            // The device may live on this very core.
            std::thread::yield_now();
        }
    }

    fn publish(&self) {
        let lanes = self.lanes.iter().zip(&self.figures).zip(&self.books);
        for ((lane, figures), books) in lanes {
            let mut stats = books.past;
            let failed = books.failed.as_ref().map(|(queue, _)| queue);
            if let Some(queue) = lane.queue.as_ref().or(failed) {
                stats += queue.stats();
            }
            figures.publish(stats, lane.waiting(64), books.gone, books.busy_ticks);
            figures.publish_failed(failed.is_some());
        }
    }
}

impl<Q: NetQueue> Sleeper for Worker<Q> {
    type Error = Infallible;

    fn all_is_sent(&mut self) -> Result<bool, Infallible> {
        let sent = |lane: &mut Lane<Q>| lane.batch.is_empty() && lane.reclaim() == 0;
        Ok(self.lanes.iter_mut().all(sent))
    }

    fn arm(&mut self) -> Result<bool, Infallible> {
        let mut asleep = true;
        for (lane, books) in self.lanes.iter_mut().zip(&mut self.books) {
            // What is gone wakes nobody, and need not.
            let armed = lane.queue.as_mut().map(NetQueue::arm);
            match armed.unwrap_or(Ok(Armed::Sleep)) {
                Ok(armed) => asleep &= armed == Armed::Sleep,
                Err(why) => {
                    lane.fail(books, why);
                    asleep = false;
                }
            }
        }
        Ok(asleep)
    }

    fn is_waiting(&mut self) -> Result<bool, Infallible> {
        Ok(self.lanes.iter().any(|lane| lane.waiting(1) > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_waits_until_nothing_is_under_way() {
        let mut drain = Drain::new();
        assert!(drain.goes_on(false, false, 0));
        assert!(drain.goes_on(false, false, 0));
        assert!(drain.goes_on(false, true, 0));
        assert!(drain.goes_on(false, false, 0));
        assert!(drain.goes_on(false, false, 0));
        assert!(!drain.goes_on(false, false, 0));
    }

    /// However long a round took: the whole machine may have stood still.
    #[test]
    fn a_stop_goes_on_while_anything_moves_but_not_for_good() {
        let mut drain = Drain::new();
        let mut after = |time, moved, outstanding| {
            drain.moved -= time;
            drain.start -= time;
            drain.goes_on(moved, true, outstanding)
        };
        assert!(after(STANDSTILL, true, 3));
        assert!(after(STANDSTILL, false, 2));
        assert!(!after(STANDSTILL, false, 2));
        assert!(!after(DRAIN_TIMEOUT, true, 2));
    }
}
