//! Network ports: [`Net`] for a port as a whole, [`NetQueue`] for one pair of queues on one core.

use alloc::string::String;
use alloc::vec::Vec;

use sumac_idl::Exchangeable;
pub use sumac_packet::MacAddress;
pub use sumac_rref::ForeignPool;
use sumac_rref::PacketBatch;

use crate::RpcError;

/// Why a port cannot do what was asked. The text names the device and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The device is not there any more: every register reads as all ones.
    #[error("{device}: the device is gone; check its slot, then start again")]
    Gone {
        /// The device.
        device: String,
    },
    /// The device is there, but not as its driver left it: it knows nothing of its queues.
    #[error("{device}: somebody else reset or replaced the device; start again")]
    Reset {
        /// The device.
        device: String,
    },
    /// The device does not do what its specification says, or not in time.
    #[error("{device}: {what}")]
    Device {
        /// The device.
        device: String,
        /// What happened and what helps.
        what: String,
    },
}

/// Why a queue took or gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The batch is of another pool than the queue.
    #[error(transparent)]
    ForeignPool(#[from] ForeignPool),
    /// The driver is in a domain of its own, which did not answer; a batch that it had is gone.
    #[error("the driver's domain: {0}")]
    Domain(#[from] RpcError),
}

/// What whoever lent a queue to another domain tells that of its failure.
impl From<QueueError> for RpcError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::ForeignPool(_) => Self::Refused,
            QueueError::Domain(error) => error,
        }
    }
}

/// How many frames went each way in an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Frames taken for transmit.
    pub sent: usize,
    /// Frames received.
    pub received: usize,
}

/// What becomes of whoever has armed a queue's interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Exchangeable)]
pub enum Armed {
    /// Frames have come: receive them.
    Ready,
    /// None has: sleep. The next one wakes.
    Sleep,
    /// The queue wakes nobody: look now and then.
    Never,
}

/// What one pair of queues counted. Nothing is dropped without one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Exchangeable)]
pub struct QueueStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Their bytes, without FCS.
    pub rx_bytes: u64,
    /// Frames dropped on receive since the device described them wrongly.
    pub rx_errors: u64,
    /// Frames of several buffers dropped on receive since the pool had no buffer to go on with.
    pub rx_starved: u64,
    /// Times receiving stopped since the pool had no buffer; the frames wait in the ring.
    pub rx_no_buffer: u64,
    /// Frames taken over for transmit.
    pub tx_packets: u64,
    /// Their bytes, without FCS.
    pub tx_bytes: u64,
    /// Frames dropped on transmit since no ring could take them.
    pub tx_errors: u64,
    /// Times frames were handed back since the ring was full.
    pub tx_full: u64,
    /// Descriptors posted for transmit and not reported done.
    pub tx_outstanding: u32,
}

impl core::ops::AddAssign for QueueStats {
    fn add_assign(&mut self, other: Self) {
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.rx_errors += other.rx_errors;
        self.rx_starved += other.rx_starved;
        self.rx_no_buffer += other.rx_no_buffer;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        self.tx_errors += other.tx_errors;
        self.tx_full += other.tx_full;
        self.tx_outstanding += other.tx_outstanding;
    }
}

/// One receive and one transmit queue, for one core: nothing in it is shared with another.
pub trait NetQueue: Send {
    /// Adds up to `limit` received frames to `batch`, as many as have come and fit; returns how many.
    /// A few calls may return nothing until a batch is full; frames that have come are never kept for
    /// longer. When calls keep finding none, finished transmit buffers are given back to the pool.
    ///
    /// # Errors
    /// [`QueueError`].
    fn receive(&mut self, batch: &mut PacketBatch, limit: usize) -> Result<usize, QueueError>;

    /// Takes frames from the front of `batch` as long as the ring has room; returns how many. The
    /// rest stay in the batch.
    ///
    /// # Errors
    /// [`QueueError`].
    fn transmit(&mut self, batch: &mut PacketBatch) -> Result<usize, QueueError>;

    /// Transmits what `send` holds, then adds up to `limit` received frames to `receive`: a forwarder's round,
    /// in one call where a call is what costs. Nothing is asked of the side that has nothing to do.
    ///
    /// # Errors
    /// [`QueueError`].
    #[inline]
    fn exchange(
        &mut self,
        send: &mut PacketBatch,
        receive: &mut PacketBatch,
        limit: usize,
    ) -> Result<Exchanged, QueueError> {
        let mut exchanged = Exchanged::default();
        if !send.is_empty() {
            exchanged.sent = self.transmit(send)?;
        }
        if limit > 0 {
            exchanged.received = self.receive(receive, limit)?;
        }
        Ok(exchanged)
    }

    /// Whether the beginnings of frames are fetched while they are received: for those who look into
    /// frames. Off at first.
    fn set_prefetch(&mut self, on: bool);

    /// Adds up to `count` packets of `len` bytes each to `batch`, to be written and sent; returns how
    /// many the pool and the batch had room for. Their bytes are what earlier use left there.
    fn allocate(&mut self, batch: &mut PacketBatch, count: usize, len: u16) -> usize;

    /// Drops all packets of `batch`, their buffers going to this queue's own stock.
    fn recycle(&mut self, batch: &mut PacketBatch);

    /// Gives finished transmit buffers back to the pool; returns how many frames' descriptors are
    /// still with the device.
    fn reclaim(&mut self) -> u32;

    /// Lets the queue's interrupt happen once more, if it has one: when the next frame comes, or at once if one
    /// came since the last; then looks for frames once more. In this order no wake-up is lost. The queue only
    /// says whether to sleep: whoever called does, on what the interrupt rings.
    ///
    /// # Errors
    /// [`QueueError`].
    fn arm(&mut self) -> Result<Armed, QueueError>;

    /// How many received frames wait, looking at `limit` of them at most.
    fn waiting(&self, limit: u32) -> u32;

    /// What was counted since the queue was made.
    fn stats(&self) -> QueueStats;
}

/// The state of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Exchangeable)]
pub struct Link {
    /// Whether frames can pass.
    pub up: bool,
    /// Speed in Mbit/s; zero while down.
    pub mbps: u32,
}

/// A network port as a whole: everything but its queues' fast path.
pub trait Net: Send {
    /// The port's queue pairs.
    type Queue: NetQueue;

    /// How people name the device.
    fn name(&self) -> &str;

    /// The port's own address.
    fn mac(&self) -> MacAddress;

    /// The link now.
    fn link(&self) -> Link;

    /// The link now if it changed since this was asked last, even if it changed back: to be asked now and then, or
    /// when the link's interrupt happened, which can happen again then.
    ///
    /// # Errors
    /// [`NetError::Gone`] or [`NetError::Device`].
    fn link_change(&mut self) -> Result<Option<Link>, NetError>;

    /// Looks after the device: fails when it is gone, or was and is back. Call it now and then.
    ///
    /// # Errors
    /// [`NetError`].
    fn check(&mut self) -> Result<(), NetError>;

    /// The device's own counters since the port was opened, by their usual names; of a device that
    /// is gone, what was read from it last.
    fn counters(&mut self) -> Vec<(String, u64)>;

    /// The queue pairs that are at home, in order; each may go to a core of its own.
    fn take_queues(&mut self) -> Vec<Self::Queue>;

    /// Takes queue pairs back. If the port stands still, their buffers go back to the pool.
    fn return_queues(&mut self, queues: Vec<Self::Queue>);

    /// Starts the port. All queue pairs must be at home.
    ///
    /// # Errors
    /// [`NetError::Device`] with the step that failed and what helps.
    fn start(&mut self) -> Result<(), NetError>;

    /// Lets no more frames in; those that came stay to be received. The first step of a clean stop.
    ///
    /// # Errors
    /// [`NetError::Gone`] or [`NetError::Device`].
    fn stop_receiving(&mut self) -> Result<(), NetError>;

    /// Stops the port. Queue pairs give their buffers back now, those away when they return.
    ///
    /// # Errors
    /// [`NetError`]; the device was reset then.
    fn stop(&mut self) -> Result<(), NetError>;
}
