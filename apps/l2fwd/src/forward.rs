//! The forwarding loop: one worker a core, run to completion, nothing shared between workers.
//!
//! A worker has one queue pair of every port. In each it transmits what came by the partner port and receives
//! the next batch, in one exchange, and rewrites addresses in place. What a port has no room for stays in
//! its batch and goes first next time; until then nothing more is received for it: back-pressure, no drop.
//! What is for a port whose device is gone is dropped, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use sumac_interface::net::{Exchanged, NetQueue, QueueError, QueueStats};
use sumac_linux::Bell;
use sumac_linux::time::ticks;
use sumac_rref::PacketBatch;

use crate::dump::Dump;
use crate::rewrite::Rewrite;

/// How long a stop waits for frames under way before it gives up on them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Rounds between two looks at what the main thread wants and what it is shown.
const ROUNDS_BETWEEN_REPORTS: u32 = 256;

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

    fn draining(&self) -> bool {
        self.order.load(Ordering::Acquire) == Order::Drain as u8
    }

    /// Up to `wanted` of the frames that may still be received.
    fn allow(&self, wanted: usize) -> usize {
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

    fn give_back(&self, frames: usize) {
        if frames > 0 && self.allowance.load(Ordering::Relaxed) != u64::MAX {
            self.allowance.fetch_add(frames as u64, Ordering::Relaxed);
        }
    }
}

/// One direction of a worker: from a port to its partner.
pub struct Lane<Q> {
    /// Index of the port frames come from, also of `queue` among the worker's.
    pub from: usize,
    /// Index of the port they leave by.
    pub to: usize,
    /// How frames are changed on the way; none leaves them alone.
    pub rewrite: Option<Rewrite>,
    /// The worker's queue pair of port `from`; none while its device is gone.
    pub queue: Option<Q>,
    /// Received, not yet transmitted.
    pub batch: PacketBatch,
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

/// Live figures of one lane, written by its worker alone.
#[derive(Default)]
#[repr(align(128))]
pub struct LaneFigures {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    rx_errors: AtomicU64,
    tx_errors: AtomicU64,
    tx_gone: AtomicU64,
    rx_starved: AtomicU64,
    rx_no_buffer: AtomicU64,
    tx_full: AtomicU64,
    waiting: AtomicU64,
    busy_ticks: AtomicU64,
    failed: AtomicBool,
}

impl LaneFigures {
    fn publish(&self, stats: QueueStats, waiting: u32, gone: u64, busy_ticks: u64) {
        let store = |cell: &AtomicU64, value: u64| cell.store(value, Ordering::Relaxed);
        store(&self.rx_packets, stats.rx_packets);
        store(&self.rx_bytes, stats.rx_bytes);
        store(&self.tx_packets, stats.tx_packets);
        store(&self.tx_bytes, stats.tx_bytes);
        store(&self.rx_errors, stats.rx_errors);
        store(&self.tx_errors, stats.tx_errors);
        store(&self.tx_gone, gone);
        store(&self.rx_starved, stats.rx_starved);
        store(&self.rx_no_buffer, stats.rx_no_buffer);
        store(&self.tx_full, stats.tx_full);
        store(&self.waiting, u64::from(waiting));
        store(&self.busy_ticks, busy_ticks);
    }

    /// What the lane's queue pair counted, when it last published.
    pub fn stats(&self) -> QueueStats {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        QueueStats {
            rx_packets: load(&self.rx_packets),
            rx_bytes: load(&self.rx_bytes),
            tx_packets: load(&self.tx_packets),
            tx_bytes: load(&self.tx_bytes),
            rx_errors: load(&self.rx_errors),
            tx_errors: load(&self.tx_errors),
            rx_starved: load(&self.rx_starved),
            rx_no_buffer: load(&self.rx_no_buffer),
            tx_full: load(&self.tx_full),
            tx_outstanding: 0,
        }
    }

    /// Frames that were to leave by this lane's port, and dropped while its device was gone.
    pub fn gone(&self) -> u64 {
        self.tx_gone.load(Ordering::Relaxed)
    }

    /// Whether the lane's queue pair failed, and is put aside.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Frames that waited in the receive ring, of the first 64.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Time-stamp counter ticks spent in rounds of this lane's port that moved frames.
    pub fn busy_ticks(&self) -> u64 {
        self.busy_ticks.load(Ordering::Relaxed)
    }
}

/// What a worker leaves behind when it ends.
pub struct Outcome<Q> {
    /// Its queue pairs, by lane; none where the device is gone.
    pub queues: Vec<Option<Q>>,
    /// Frames received but never transmitted: dropped when draining timed out.
    pub undelivered: Vec<u64>,
    /// What a queue pair failed with, and which port's it is: the first of those that were not taken away.
    pub error: Option<(usize, QueueError)>,
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
    /// What the vectors of its queues ring; none polls all the time.
    bell: Option<Arc<Bell>>,
}

/// What a worker itself counts of a lane.
struct Books<Q> {
    busy_ticks: u64,
    /// What queue pairs counted that were given up.
    past: QueueStats,
    /// Frames that were to leave by the lane's port, dropped while it was gone.
    gone: u64,
    /// A queue pair that failed: nothing is asked of it any more.
    failed: Option<(Q, QueueError)>,
}

impl<Q> Default for Books<Q> {
    fn default() -> Self {
        Self {
            busy_ticks: 0,
            past: QueueStats::default(),
            gone: 0,
            failed: None,
        }
    }
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
            bell,
        }
    }

    /// Where the worker's live figures are, by port.
    pub fn figures(&self) -> Vec<Arc<LaneFigures>> {
        self.figures.clone()
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
            error,
        }
    }

    fn forward_until_told(&mut self) {
        let mut round = 0u32;
        let mut begun = false;
        while !self.shared.draining() {
            let mut moved = 0;
            for _ in 0..ROUNDS_BETWEEN_REPORTS {
                let now = self.forward_once();
                if now > 0 && !begun {
                    begun = true;
                    self.publish();
                }
                moved += now;
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

    /// Sleeps until a frame comes, if there is a bell and nothing to be done.
    fn sleep(&mut self) {
        let Some(bell) = self.bell.clone() else {
            return;
        };
        let idle = |lanes: &mut [Lane<Q>]| {
            (lanes.iter_mut()).all(|lane| lane.batch.is_empty() && lane.outstanding() == 0)
        };
        if !idle(&mut self.lanes) || self.shared.exhausted() {
            return;
        }
        self.publish();
        // Frames that came before their queue was armed ring no bell: look once more.
        let mut armed = true;
        for lane in &mut self.lanes {
            // What is gone wakes nobody, and need not.
            armed &= lane.queue.as_mut().is_none_or(NetQueue::arm);
        }
        let waiting = self.lanes.iter().any(|lane| lane.waiting(1) > 0);
        if armed && !waiting && !self.shared.draining() {
            bell.wait(NAP);
        }
    }

    /// One round over all ports; returns how many frames moved.
    #[inline]
    fn forward_once(&mut self) -> usize {
        let mut moved = 0;
        for index in 0..self.lanes.len() {
            let start = ticks();
            let port_moved = match self.exchange(index) {
                Ok(port_moved) => port_moved,
                Err(why) => self.put_aside(index, why),
            };
            if port_moved > 0
                && let Some(books) = self.books.get_mut(index)
            {
                books.busy_ticks += ticks().wrapping_sub(start);
            }
            moved += port_moved;
        }
        moved
    }

    /// Asks nothing more of a queue pair that failed; the main thread knows whether its device is gone.
    #[cold]
    fn put_aside(&mut self, index: usize, why: QueueError) -> usize {
        if let (Some(lane), Some(books)) = (self.lanes.get_mut(index), self.books.get_mut(index)) {
            books.failed = lane.queue.take().map(|queue| (queue, why));
        }
        self.publish();
        0
    }

    /// A port's round: transmits what is to leave by it, receives what has come, and rewrites that. Returns
    /// how many frames moved.
    #[inline]
    fn exchange(&mut self, index: usize) -> Result<usize, QueueError> {
        let Some(lane) = self.lanes.get(index) else {
            return Ok(0);
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
        let mut exchanged = exchange(&mut self.lanes, index, partner, allowed)?;
        self.shared.give_back(allowed - exchanged.received);
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(0);
        };
        if exchanged.received > 0 {
            if let Some(rewrite) = &lane.rewrite {
                rewrite.apply(&mut lane.batch);
            }
            if let Some(dump) = &self.dump {
                dump.write(&mut lane.batch);
            }
        }
        if partner == index
            && !lane.batch.is_empty()
            && let Some(queue) = &mut lane.queue
        {
            exchanged.sent = queue.transmit(&mut lane.batch)?;
        }
        Ok(exchanged.sent + exchanged.received)
    }

    /// Drops what is to leave by a port that is gone. Returns how many frames that were.
    #[cold]
    fn drop_for(&mut self, index: usize, partner: usize) -> usize {
        let Some(lane) = self.lanes.get_mut(partner) else {
            return 0;
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
        frames
    }

    /// Receives until nothing comes any more, and waits until all was sent, within limits.
    fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < deadline {
            let moved = self.forward_once();
            let may_receive = !self.shared.exhausted();
            let pending = self
                .lanes
                .iter()
                .any(|lane| !lane.batch.is_empty() || may_receive && lane.waiting(1) > 0);
            let outstanding: u32 = self.lanes.iter_mut().map(Lane::outstanding).sum();
            if moved > 0 || pending || outstanding > 0 {
                quiet = 0;
            } else {
                quiet += 1;
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
            figures.failed.store(failed.is_some(), Ordering::Relaxed);
        }
    }
}

impl<Q: NetQueue> Lane<Q> {
    /// Has beginnings of frames fetched ahead if they are looked into.
    fn prefetch(&mut self) {
        let looked_into = self.rewrite.is_some();
        if let Some(queue) = &mut self.queue {
            queue.set_prefetch(looked_into);
        }
    }

    /// Frames that wait in the receive ring, looking at `limit` of them at most.
    fn waiting(&self, limit: u32) -> u32 {
        self.queue.as_ref().map_or(0, |queue| queue.waiting(limit))
    }

    /// Frames whose descriptors are still with the device.
    fn outstanding(&mut self) -> u32 {
        self.queue.as_mut().map_or(0, NetQueue::reclaim)
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
            Ok(
                [
                    Lane {
                        queue: Some(queue),
                        batch,
                        ..
                    },
                    from,
                ],
            ) => queue.exchange(&mut from.batch, batch, limit),
            _ => Ok(Exchanged::default()),
        };
    }
    // One batch goes both ways: what came is to be rewritten first.
    let mut exchanged = Exchanged::default();
    if let Some(Lane {
        queue: Some(queue),
        batch,
        ..
    }) = lanes.get_mut(index)
        && limit > 0
    {
        exchanged.received = queue.receive(batch, limit)?;
    }
    Ok(exchanged)
}
