//! A pair of queues: one receive ring, one transmit ring and the stock of free buffers they share.
//! A pair belongs to one core; nothing in it is shared with another pair.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use sumac_device::DmaSpace;
use sumac_device::ring::{ReceiveRing, RingSize, Scatter, TransmitRing};
use sumac_device::{DmaError, Doorbell, Iova};
use sumac_interface::net::{Armed, Exchanged, NetQueue, QueueError, QueueStats};
use sumac_rref::{PacketBatch, PacketCache};

use crate::interrupts::Arm;
use crate::rx::AdvancedReceive;
use crate::tx::AdvancedTransmit;

/// The most buffers a frame spans: 9,728 bytes in 2 KiB buffers, and one more for a device that
/// does not fill them.
const MAX_BUFFERS: u16 = 6;

/// So many polls that find nothing go by between looks at what was transmitted: each look takes a
/// cache line from a device that is about to write it.
const POLLS_BEFORE_RECLAIM: u32 = 64;

/// One receive and one transmit queue of a port.
pub struct QueuePair {
    index: u16,
    /// Polls that found nothing.
    idle_polls: u32,
    /// Whether the device is known to use no ring and no buffer.
    quiet: Arc<AtomicBool>,
    /// None if the port has no interrupts.
    interrupt: Option<Arm>,
    pub(crate) cache: PacketCache,
    pub(crate) rx: ReceiveRing<AdvancedReceive>,
    pub(crate) tx: TransmitRing<AdvancedTransmit>,
}

/// What a pair of queues is made of.
pub(crate) struct QueueParts {
    pub(crate) index: u16,
    pub(crate) quiet: Arc<AtomicBool>,
    pub(crate) cache: PacketCache,
    pub(crate) rx_size: RingSize,
    pub(crate) tx_size: RingSize,
    pub(crate) rx_tail: Doorbell,
    pub(crate) tx_tail: Doorbell,
    pub(crate) interrupt: Option<Arm>,
}

impl QueuePair {
    /// So many calls in a row for a batch that is not full yet come back with nothing: some 0.2
    /// microseconds. The next one takes what has come.
    pub const PATIENCE: u8 = 8;

    /// Rings in memory of the device's, nothing posted yet.
    pub(crate) fn new(parts: QueueParts, dma: &dyn DmaSpace) -> Result<Self, DmaError> {
        let scatter = Scatter {
            max_buffers: MAX_BUFFERS,
        };
        let mut rx = ReceiveRing::new(dma, parts.rx_size, parts.rx_tail, scatter)?;
        rx.set_patience(Self::PATIENCE);
        Ok(Self {
            rx,
            tx: TransmitRing::new(
                dma,
                parts.tx_size,
                parts.tx_tail,
                AdvancedTransmit::default(),
            )?,
            index: parts.index,
            idle_polls: 0,
            quiet: parts.quiet,
            interrupt: parts.interrupt,
            cache: parts.cache,
        })
    }

    /// Which pair of the port's this is.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Whether it is of the port that tells its pairs there whether it is quiet.
    pub(crate) fn is_of(&self, quiet: &Arc<AtomicBool>) -> bool {
        Arc::ptr_eq(&self.quiet, quiet)
    }

    /// Where the device finds the receive and the transmit descriptors.
    pub(crate) fn ring_addresses(&self) -> (Iova, Iova) {
        (self.rx.iova(), self.tx.iova())
    }

    /// Puts a buffer into every receive descriptor; fails with the number of buffers lacking.
    pub(crate) fn fill(&mut self) -> Result<(), u32> {
        let filled = self.rx.fill(&mut self.cache);
        // What is left of the stock may be what another queue's ring still lacks.
        self.cache.flush();
        filled
    }

    /// Tells the device, whose queues are enabled now, of the receive descriptors.
    pub(crate) fn announce(&mut self) {
        self.rx.announce();
    }

    /// Gives every posted buffer back to the pool; the device must have been stopped.
    pub(crate) fn drain(&mut self) {
        self.rx.drain(&mut self.cache);
        self.tx.drain(&mut self.cache);
        self.cache.flush();
    }

    #[inline(never)]
    pub(crate) fn idle(&mut self) {
        self.idle_polls = self.idle_polls.wrapping_add(1);
        if self.idle_polls.is_multiple_of(POLLS_BEFORE_RECLAIM) {
            if self.tx.outstanding() > 0 {
                self.tx.reclaim(&mut self.cache);
            }
            self.cache.share();
        }
        core::hint::spin_loop();
    }
}

impl Drop for QueuePair {
    /// Buffers and rings that a device may still write stay withdrawn; all others go back.
    fn drop(&mut self) {
        if self.quiet.load(Ordering::Acquire) {
            self.drain();
        } else {
            self.rx.withhold();
            self.tx.withhold();
        }
    }
}

impl NetQueue for QueuePair {
    #[inline]
    fn receive(&mut self, batch: &mut PacketBatch, limit: usize) -> Result<usize, QueueError> {
        Ok(QueuePair::receive(self, batch, limit)?)
    }

    #[inline]
    fn transmit(&mut self, batch: &mut PacketBatch) -> Result<usize, QueueError> {
        Ok(QueuePair::transmit(self, batch)?)
    }

    /// A pair that has something to transmit is not idle, though nothing came.
    #[inline]
    fn exchange(
        &mut self,
        send: &mut PacketBatch,
        receive: &mut PacketBatch,
        limit: usize,
    ) -> Result<Exchanged, QueueError> {
        let mut exchanged = Exchanged::default();
        if !send.is_empty() {
            exchanged.sent = QueuePair::transmit(self, send)?;
        }
        if limit > 0 {
            exchanged.received = self.rx.reap(&mut self.cache, receive, limit)?;
            if exchanged == Exchanged::default() {
                self.idle();
            }
        }
        Ok(exchanged)
    }

    fn set_prefetch(&mut self, on: bool) {
        self.rx.set_prefetch(on);
    }

    #[inline]
    fn allocate(&mut self, batch: &mut PacketBatch, count: usize, len: u16) -> usize {
        self.cache.allocate(batch, count, len)
    }

    #[inline]
    fn recycle(&mut self, batch: &mut PacketBatch) {
        self.cache.recycle(batch);
    }

    fn reclaim(&mut self) -> u32 {
        self.tx.reclaim(&mut self.cache);
        self.tx.outstanding()
    }

    fn arm(&mut self) -> Result<Armed, QueueError> {
        let Some(interrupt) = &self.interrupt else {
            return Ok(Armed::Never);
        };
        interrupt.arm();
        // A frame whose message was sent already sends no other.
        Ok(match self.rx.completed(1) {
            0 => Armed::Sleep,
            _ => Armed::Ready,
        })
    }

    fn waiting(&self, limit: u32) -> u32 {
        self.rx.completed(limit)
    }

    fn stats(&self) -> QueueStats {
        let rx = self.rx.counters();
        let tx = self.tx.counters();
        QueueStats {
            rx_packets: rx.frames,
            rx_bytes: rx.bytes,
            rx_errors: rx.bad_length + rx.missing_end,
            rx_starved: rx.starved + rx.refused,
            rx_no_buffer: rx.pool_exhausted,
            tx_packets: tx.frames,
            tx_bytes: tx.bytes,
            tx_errors: tx.too_long,
            tx_full: tx.full,
            tx_outstanding: self.tx.outstanding(),
        }
    }
}
