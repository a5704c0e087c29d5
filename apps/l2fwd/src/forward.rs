//! The forwarding loop: one worker a core, run to completion, nothing shared between workers.
//!
//! A worker has one queue pair of every port. In each it transmits what came by the partner port and receives
//! the next batch, in one exchange, and rewrites addresses in place. What a port has no room for stays in
//! its batch and goes first next time; until then nothing more is received for it: back-pressure, no drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sumac_interface::net::{Armed, Exchanged, NetQueue, QueueError, QueueStats};
use sumac_linux::Bell;
use sumac_linux::time::ticks;
use sumac_rref::PacketBatch;

use crate::dump::Dump;
use crate::report::Sleeps;
use crate::rewrite::Rewrite;

/// How long a stop waits for frames under way before it gives up on them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Rounds between two looks at what the main thread wants and what it is shown.
const ROUNDS_BETWEEN_REPORTS: u32 = 256;

/// The longest sleep: whoever stops a worker wakes it, so that this is for what nobody foresaw.
const NAP: Duration = Duration::from_secs(1);
/// So much later than its frame an interrupt has been lost.
const LATE: Duration = Duration::from_millis(100);
/// Times a worker does not sleep because of frames it could not send, or that were not sent: a link that is down
/// keeps them.
const UNSENT_LOOKS: u32 = 64;
/// How long it sleeps then: nothing rings when frames leave.
const UNSENT_NAP: Duration = Duration::from_millis(10);

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
    /// The worker's queue pair of port `from`.
    pub queue: Q,
    /// Received, not yet transmitted.
    pub batch: PacketBatch,
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
    rx_starved: AtomicU64,
    rx_no_buffer: AtomicU64,
    tx_full: AtomicU64,
    waiting: AtomicU64,
    busy_ticks: AtomicU64,
}

impl LaneFigures {
    fn publish(&self, stats: QueueStats, waiting: u32, busy_ticks: u64) {
        let store = |cell: &AtomicU64, value: u64| cell.store(value, Ordering::Relaxed);
        store(&self.rx_packets, stats.rx_packets);
        store(&self.rx_bytes, stats.rx_bytes);
        store(&self.tx_packets, stats.tx_packets);
        store(&self.tx_bytes, stats.tx_bytes);
        store(&self.rx_errors, stats.rx_errors);
        store(&self.tx_errors, stats.tx_errors);
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
    /// Its queue pairs, by port.
    pub queues: Vec<Q>,
    /// Frames received but never transmitted: dropped when draining timed out.
    pub undelivered: Vec<u64>,
    /// How it slept.
    pub sleeps: Sleeps,
    /// The first error of a queue, if any ended the worker.
    pub error: Option<QueueError>,
}

/// One core's share of the forwarding.
pub struct Worker<Q> {
    lanes: Vec<Lane<Q>>,
    figures: Vec<Arc<LaneFigures>>,
    busy_ticks: Vec<u64>,
    batch: usize,
    shared: Arc<Shared>,
    dump: Option<Arc<Dump>>,
    /// What the vectors of its queues ring; none polls all the time.
    bell: Option<Arc<Bell>>,
    sleeps: Sleeps,
    /// Times in a row it would have slept but for frames not sent.
    unsent: u32,
}

impl<Q: NetQueue> Worker<Q> {
    /// A worker over `lanes`, one per port in port order, that moves up to `batch` frames at once, and sleeps on
    /// `bell` while there are none.
    pub fn new(
        mut lanes: Vec<Lane<Q>>,
        batch: usize,
        shared: Arc<Shared>,
        dump: Option<Arc<Dump>>,
        bell: Option<Arc<Bell>>,
    ) -> Self {
        for lane in &mut lanes {
            lane.queue.set_prefetch(lane.rewrite.is_some());
        }
        let figures = lanes.iter().map(|_| Arc::default()).collect();
        let busy_ticks = vec![0; lanes.len()];
        Self {
            lanes,
            figures,
            busy_ticks,
            batch,
            shared,
            dump,
            bell,
            sleeps: Sleeps::default(),
            unsent: 0,
        }
    }

    /// Where the worker's live figures are, by port.
    pub fn figures(&self) -> Vec<Arc<LaneFigures>> {
        self.figures.clone()
    }

    /// Forwards until told to stop or a queue fails.
    pub fn run(mut self) -> Outcome<Q> {
        let error = self.forward_until_told().err();
        let error = error.or_else(|| self.drain().err());
        self.publish();
        let undelivered = self
            .lanes
            .iter()
            .map(|lane| lane.batch.len() as u64)
            .collect();
        let queues = self.lanes.into_iter().map(|lane| lane.queue).collect();
        Outcome {
            queues,
            undelivered,
            sleeps: self.sleeps,
            error,
        }
    }

    fn forward_until_told(&mut self) -> Result<(), QueueError> {
        let mut round = 0u32;
        let mut begun = false;
        while !self.shared.draining() {
            let mut moved = 0;
            for _ in 0..ROUNDS_BETWEEN_REPORTS {
                let now = self.forward_once()?;
                if now > 0 && !begun {
                    begun = true;
                    self.publish();
                }
                moved += now;
            }
            if moved == 0 {
                self.sleep()?;
            }
            round = round.wrapping_add(1);
            if round & 15 == 0 {
                self.publish();
            }
        }
        Ok(())
    }

    /// Sleeps until a frame comes, if there is a bell and nothing to be done.
    fn sleep(&mut self) -> Result<(), QueueError> {
        let Some(bell) = self.bell.clone() else {
            return Ok(());
        };
        if self.shared.exhausted() {
            return Ok(());
        }
        let nap = match self.all_is_sent() {
            true => NAP,
            false if self.unsent < UNSENT_LOOKS => {
                self.unsent += 1;
                return Ok(());
            }
            false => UNSENT_NAP,
        };
        self.publish();
        if !self.arm()? || self.shared.draining() {
            return Ok(());
        }
        self.sleeps.slept += 1;
        if bell.wait(nap) {
            self.sleeps.woken += 1;
        } else if self.lanes.iter().any(|lane| lane.queue.waiting(1) > 0) && !bell.wait(LATE) {
            self.sleeps.overslept += 1;
        }
        Ok(())
    }

    /// Whether no frame waits to be sent, here or with a device.
    fn all_is_sent(&mut self) -> bool {
        let sent = |lane: &mut Lane<Q>| lane.batch.is_empty() && lane.queue.reclaim() == 0;
        let all = self.lanes.iter_mut().all(sent);
        if all {
            self.unsent = 0;
        }
        all
    }

    /// Arms all queues; whether none has anything to receive and each will wake.
    fn arm(&mut self) -> Result<bool, QueueError> {
        let mut asleep = true;
        for lane in &mut self.lanes {
            asleep &= lane.queue.arm()? == Armed::Sleep;
        }
        Ok(asleep)
    }

    /// One round over all ports; returns how many frames moved.
    #[inline]
    fn forward_once(&mut self) -> Result<usize, QueueError> {
        let mut moved = 0;
        for index in 0..self.lanes.len() {
            let start = ticks();
            let port_moved = self.exchange(index)?;
            if port_moved > 0
                && let Some(busy) = self.busy_ticks.get_mut(index)
            {
                *busy += ticks().wrapping_sub(start);
            }
            moved += port_moved;
        }
        Ok(moved)
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
        if partner == index && !lane.batch.is_empty() {
            exchanged.sent = lane.queue.transmit(&mut lane.batch)?;
        }
        Ok(exchanged.sent + exchanged.received)
    }

    /// Receives until nothing comes any more, and waits until all was sent, within limits.
    fn drain(&mut self) -> Result<(), QueueError> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < deadline {
            let moved = self.forward_once()?;
            let may_receive = !self.shared.exhausted();
            let pending = self
                .lanes
                .iter()
                .any(|lane| !lane.batch.is_empty() || may_receive && lane.queue.waiting(1) > 0);
            let outstanding: u32 = self.lanes.iter_mut().map(|lane| lane.queue.reclaim()).sum();
            if moved > 0 || pending || outstanding > 0 {
                quiet = 0;
            } else {
                quiet += 1;
            }
            // The device may live on this very core.
            std::thread::yield_now();
        }
        Ok(())
    }

    fn publish(&self) {
        let lanes = self.lanes.iter().zip(&self.figures).zip(&self.busy_ticks);
        for ((lane, figures), busy) in lanes {
            figures.publish(lane.queue.stats(), lane.queue.waiting(64), *busy);
        }
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
            Ok([Lane { queue, batch, .. }, from]) => queue.exchange(&mut from.batch, batch, limit),
            Err(_) => Ok(Exchanged::default()),
        };
    }
    // One batch goes both ways: what came is to be rewritten first.
    let mut exchanged = Exchanged::default();
    if let Some(Lane { queue, batch, .. }) = lanes.get_mut(index)
        && limit > 0
    {
        exchanged.received = queue.receive(batch, limit)?;
    }
    Ok(exchanged)
}
