//! A worker's share of one port: its queue pair, what came by it, and the figures.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sumac_interface::net::{NetQueue, QueueError, QueueStats};
use sumac_rref::PacketBatch;

use l2fwd_forward::Rewrite;

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

impl<Q: NetQueue> Lane<Q> {
    /// Puts its queue pair aside, which failed.
    pub(super) fn fail(&mut self, books: &mut Books<Q>, why: QueueError) {
        books.failed = self.queue.take().map(|queue| (queue, why));
    }

    /// Has beginnings of frames fetched ahead if they are looked into.
    pub(super) fn prefetch(&mut self) {
        let looked_into = self.rewrite.is_some();
        if let Some(queue) = &mut self.queue {
            queue.set_prefetch(looked_into);
        }
    }

    /// Its queue pair, if that is there, its batch, and how frames are changed.
    #[inline]
    pub(super) fn parts(&mut self) -> Option<(&mut Q, &mut PacketBatch, Option<&Rewrite>)> {
        Some((self.queue.as_mut()?, &mut self.batch, self.rewrite.as_ref()))
    }

    /// Frames that wait in the receive ring, looking at `limit` of them at most.
    pub(super) fn waiting(&self, limit: u32) -> u32 {
        self.queue.as_ref().map_or(0, |queue| queue.waiting(limit))
    }

    /// Takes back buffers of frames that have left; says how many descriptors the device still has.
    pub(super) fn reclaim(&mut self) -> u32 {
        self.queue.as_mut().map_or(0, NetQueue::reclaim)
    }
}

/// What a worker itself counts of a lane.
pub(super) struct Books<Q> {
    pub busy_ticks: u64,
    /// What queue pairs counted that were given up.
    pub past: QueueStats,
    /// Frames that were to leave by the lane's port, dropped while it was gone.
    pub gone: u64,
    /// A queue pair that failed: nothing is asked of it any more.
    pub failed: Option<(Q, QueueError)>,
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
    pub(crate) fn publish(&self, stats: QueueStats, waiting: u32, gone: u64, busy_ticks: u64) {
        let store = |cell: &AtomicU64, value: u64| cell.store(value, Ordering::Relaxed);
        // By name, so that none is forgotten here that comes to be counted.
        let QueueStats {
            rx_packets,
            rx_bytes,
            rx_errors,
            rx_starved,
            rx_no_buffer,
            tx_packets,
            tx_bytes,
            tx_errors,
            tx_full,
            tx_outstanding: _,
        } = stats;
        store(&self.rx_packets, rx_packets);
        store(&self.rx_bytes, rx_bytes);
        store(&self.rx_errors, rx_errors);
        store(&self.rx_starved, rx_starved);
        store(&self.rx_no_buffer, rx_no_buffer);
        store(&self.tx_packets, tx_packets);
        store(&self.tx_bytes, tx_bytes);
        store(&self.tx_errors, tx_errors);
        store(&self.tx_full, tx_full);
        store(&self.tx_gone, gone);
        store(&self.waiting, u64::from(waiting));
        store(&self.busy_ticks, busy_ticks);
    }

    pub(crate) fn publish_failed(&self, failed: bool) {
        self.failed.store(failed, Ordering::Relaxed);
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
