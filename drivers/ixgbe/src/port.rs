//! A port: the control path and the queue pairs together.
//!
//! Queue pairs leave the port to run on cores of their own ([`Port::take_queues`]) and come back to
//! be stopped ([`Port::return_queues`]); their *registers* stay here, so that a port can always stop
//! its device. Invariant: a pair's buffers and rings go back only when its queues stand still; a
//! device that obeys neither stop nor reset keeps them.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use sumac_device::ring::RingSize;
use sumac_device::{Clock, DeviceBacking, Iova, Patience};
use sumac_interface::net::{Link, MacAddress, Net, NetError};
use sumac_rref::PacketPool;
use sumac_rref::pool::BUFFER_BYTES;

use crate::config::{ConfigError, PortConfig};
use crate::control::{Control, QueueControl};
use crate::error::{Error, Fault};
use crate::interrupts::Arm;
use crate::link::LinkState;
use crate::queue::{QueuePair, QueueParts};
use crate::queue_registers::{
    RxQueueRegisters, RxQueueSettings, TxQueueRegisters, TxQueueSettings,
};
use crate::registers::MILLISECOND;

/// How long stopping waits for frames that are posted but not sent.
const DRAIN_TIMEOUT: u64 = 20 * MILLISECOND;
/// How long a transmit queue may stand still with frames posted before it counts as hung, as [`Patience`] counts.
const HANG_TIME: u64 = 5_000 * MILLISECOND;

/// One port with its queue pairs.
pub struct Port {
    // Before the lanes: when dropped, the device is quiet before its rings go.
    control: Control,
    lanes: Vec<Lane>,
    /// [`Control::is_quiet`], for pairs that are dropped away from home; and what tells whose they are.
    quiet: Arc<AtomicBool>,
}

impl Port {
    /// Opens a port: [`Control::open`], then rings for each queue pair. Nothing runs yet.
    ///
    /// # Errors
    /// As [`Control::open`], or [`Fault::Memory`] and [`Fault::Pool`] for the rings.
    pub fn open(
        backing: DeviceBacking,
        pool: &'static PacketPool,
        config: &PortConfig,
    ) -> Result<Self, Error> {
        let control = Control::open(backing, config)?;
        let quiet = Arc::new(AtomicBool::new(true));
        let lanes = (0..config.queues)
            .map(|queue| Lane::new(&control, pool, queue, &quiet))
            .collect::<Result<_, _>>()
            .map_err(|fault| control.error(fault))?;
        Ok(Self {
            control,
            lanes,
            quiet,
        })
    }

    /// Everything about the port but its queues.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Everything about the port but its queues, to change it.
    pub fn control_mut(&mut self) -> &mut Control {
        &mut self.control
    }

    /// Fills the receive rings and starts the port. All queue pairs must be at home.
    ///
    /// # Errors
    /// [`Fault::QueueAway`], [`Fault::PoolTooSmall`], or as [`Control::start`].
    pub fn start(&mut self) -> Result<(), Error> {
        let settings = receive_settings(self.control.config());
        for lane in &mut self.lanes {
            lane.settings = settings;
        }
        self.quiet.store(false, Ordering::Release);
        let started = self.control.start(&mut self.lanes);
        self.tell_quiet();
        started
    }

    /// Tells pairs that are away whether their buffers may go back.
    fn tell_quiet(&self) {
        self.quiet.store(self.control.is_quiet(), Ordering::Release);
    }

    /// Stops the port. Pairs at home give their buffers back now, others when they return.
    ///
    /// # Errors
    /// As [`Control::stop`].
    pub fn stop(&mut self) -> Result<(), Error> {
        let stopped = self.control.stop(&mut self.lanes);
        self.tell_quiet();
        stopped
    }

    /// Resets the device and configures it as it was, stopped; pairs that are away lose what they
    /// had posted only when they return.
    ///
    /// # Errors
    /// As [`Control::reset`].
    pub fn reset(&mut self) -> Result<(), Error> {
        let reset = self.control.reset(&mut self.lanes);
        self.tell_quiet();
        reset
    }

    /// The queue pairs that are at home, in order; each may go to a core of its own.
    pub fn take_queues(&mut self) -> Vec<QueuePair> {
        self.lanes
            .iter_mut()
            .filter_map(|lane| lane.pair.take())
            .collect()
    }

    /// Takes queue pairs back. If the port stands still, their buffers go back to the pool. One of another
    /// port, whose device may be at work, is dropped.
    pub fn return_queues(&mut self, pairs: impl IntoIterator<Item = QueuePair>) {
        let quiet = self.control.is_quiet();
        let ours = |pair: &QueuePair| pair.is_of(&self.quiet);
        for mut pair in pairs.into_iter().filter(ours) {
            if quiet {
                pair.drain();
            }
            if let Some(lane) = self.lanes.get_mut(usize::from(pair.index())) {
                lane.pair = Some(pair);
            }
        }
    }

    /// Looks after the device: whether it is there, and was all the time; and whether frames posted
    /// leave while the link is up: a queue hangs if ten looks, over five seconds or more, find it standing still.
    ///
    /// # Errors
    /// [`Fault::DeviceGone`], [`Fault::Reset`], [`Fault::HeadBeyondRing`] or [`Fault::TransmitHang`].
    pub fn check(&mut self) -> Result<(), Error> {
        let link = self.control.link()?;
        if !self.control.is_running() {
            return Ok(());
        }
        self.control.check_started()?;
        let now_ns = self.control.clock().now_ns();
        for lane in &mut self.lanes {
            lane.check(now_ns, link)
                .map_err(|fault| self.control.error(fault))?;
        }
        Ok(())
    }
}

impl Drop for Port {
    /// Stops a port that still runs, so that its buffers go back to the pool.
    fn drop(&mut self) {
        if self.control.is_running() {
            // Nobody is left to act on the error; without quiet buffers and rings stay withdrawn.
            let _stopped_or_withdrawn = self.stop();
        }
    }
}

/// How the receive queues of a port configured so are to work.
fn receive_settings(config: &PortConfig) -> RxQueueSettings {
    RxQueueSettings {
        buffer_bytes: u32::from(BUFFER_BYTES),
        // One queue that nobody empties must not stop the others; with pause frames the partner
        // waits instead.
        drop_when_empty: !config.flow_control.transmits(),
        strip_vlan: config.vlan_strip,
    }
}

/// One queue pair's place in a port.
struct Lane {
    rx: RxQueueRegisters,
    tx: TxQueueRegisters,
    rx_ring: Ring,
    tx_ring: Ring,
    settings: RxQueueSettings,
    pair: Option<QueuePair>,
    standing_still: Option<StandingStill>,
}

/// Where a ring is.
#[derive(Clone, Copy)]
struct Ring {
    iova: Iova,
    size: RingSize,
}

/// A transmit head that did not move, and how much longer it may.
#[derive(Clone, Copy)]
struct StandingStill {
    head: u32,
    patience: Patience,
}

impl Lane {
    fn new(
        control: &Control,
        pool: &'static PacketPool,
        queue: u16,
        quiet: &Arc<AtomicBool>,
    ) -> Result<Self, Fault> {
        let config = control.config();
        let size = |descriptors: u16| {
            RingSize::new(u32::from(descriptors)).ok_or(ConfigError::Descriptors(descriptors))
        };
        let (rx_size, tx_size) = (size(config.rx_descriptors)?, size(config.tx_descriptors)?);
        let rx = RxQueueRegisters::new(control.bar(), queue);
        let tx = TxQueueRegisters::new(control.bar(), queue);
        let parts = QueueParts {
            index: queue,
            quiet: quiet.clone(),
            cache: pool.claim_cache()?,
            rx_size,
            tx_size,
            rx_tail: rx.tail_doorbell(),
            tx_tail: tx.tail_doorbell(),
            interrupt: config.interrupts.then(|| Arm::new(control.bar(), queue)),
        };
        let pair = QueuePair::new(parts, &**control.dma())?;
        let (rx_iova, tx_iova) = pair.ring_addresses();
        Ok(Self {
            rx,
            tx,
            rx_ring: Ring {
                iova: rx_iova,
                size: rx_size,
            },
            tx_ring: Ring {
                iova: tx_iova,
                size: tx_size,
            },
            settings: receive_settings(config),
            pair: Some(pair),
            standing_still: None,
        })
    }

    fn check(&mut self, now_ns: u64, link: LinkState) -> Result<(), Fault> {
        let queue = self.tx.queue();
        let (head, tail) = (self.tx.head(), self.tx.tail());
        if head >= self.tx_ring.size.get() {
            return Err(Fault::HeadBeyondRing { queue, head });
        }
        if head == tail || !link.is_up() {
            self.standing_still = None;
            return Ok(());
        }
        match &mut self.standing_still {
            Some(still) if still.head == head => {
                let left = still.patience.look(now_ns);
                left.map(drop).ok_or(Fault::TransmitHang { queue })
            }
            moving => {
                let patience = Patience::new(HANG_TIME, now_ns);
                *moving = Some(StandingStill { head, patience });
                Ok(())
            }
        }
    }

    fn drain_at_home(&mut self) {
        if let Some(pair) = &mut self.pair {
            pair.drain();
        }
    }
}

impl QueueControl for Lane {
    fn start_transmit(&mut self, clock: &dyn Clock) -> Result<(), Fault> {
        // The ring of a pair that is away may be gone.
        let queue = self.tx.queue();
        self.pair.as_ref().ok_or(Fault::QueueAway(queue))?;
        self.standing_still = None;
        let Ring { iova, size } = self.tx_ring;
        self.tx
            .program(iova, size.bytes(), TxQueueSettings::default())?;
        self.tx.enable(clock)
    }

    fn start_receive(&mut self, clock: &dyn Clock) -> Result<(), Fault> {
        let queue = self.rx.queue();
        let pair = self.pair.as_mut().ok_or(Fault::QueueAway(queue))?;
        pair.fill()
            .map_err(|lacking| Fault::PoolTooSmall { queue, lacking })?;
        let Ring { iova, size } = self.rx_ring;
        self.rx.program(iova, size.bytes(), self.settings)?;
        self.rx.enable(clock)?;
        pair.announce();
        Ok(())
    }

    fn stop_receive(&mut self, clock: &dyn Clock) -> Result<(), Fault> {
        self.rx.disable(clock)
    }

    fn stop_transmit(&mut self, clock: &dyn Clock) -> Result<(), Fault> {
        // What a link that is down or paused keeps is dropped with the queue.
        match self.tx.drain(clock, DRAIN_TIMEOUT) {
            Ok(()) | Err(Fault::TimedOut { .. }) => {}
            Err(fault) => return Err(fault),
        }
        self.tx.disable(clock)
    }

    fn stopped(&mut self) {
        self.drain_at_home();
    }
}

impl Net for Port {
    type Queue = QueuePair;

    fn name(&self) -> &str {
        self.control.name()
    }

    fn mac(&self) -> MacAddress {
        self.control.mac()
    }

    /// A device that is gone has no link; [`check`](Net::check) tells the two apart.
    fn link(&self) -> Link {
        self.control.link().map_or_else(|_| Link::default(), shown)
    }

    fn link_change(&mut self) -> Result<Option<Link>, NetError> {
        Ok(self.control.link_change()?.map(shown))
    }

    fn check(&mut self) -> Result<(), NetError> {
        Ok(Port::check(self)?)
    }

    /// What was counted up to now; of a device that is gone, what was read from it last.
    fn counters(&mut self) -> Vec<(String, u64)> {
        let _read_or_gone = self.control.stats();
        self.control.last_stats().iter().collect()
    }

    fn take_queues(&mut self) -> Vec<QueuePair> {
        Port::take_queues(self)
    }

    fn return_queues(&mut self, queues: Vec<QueuePair>) {
        Port::return_queues(self, queues);
    }

    fn start(&mut self) -> Result<(), NetError> {
        Ok(Port::start(self)?)
    }

    fn stop_receiving(&mut self) -> Result<(), NetError> {
        Ok(self.control.stop_receiving()?)
    }

    fn stop(&mut self) -> Result<(), NetError> {
        match self.control.is_running() {
            true => Ok(Port::stop(self)?),
            false => Ok(()),
        }
    }
}

/// A link as applications are told of it.
fn shown(link: LinkState) -> Link {
    match link {
        LinkState::Up(speed) => Link {
            up: true,
            mbps: speed.map_or(0, |speed| speed.mbits()),
        },
        LinkState::Down => Link::default(),
    }
}

impl From<Error> for NetError {
    fn from(error: Error) -> Self {
        match error.fault {
            Fault::DeviceGone => Self::Gone {
                device: error.device,
            },
            Fault::Reset => Self::Reset {
                device: error.device,
            },
            fault => Self::Device {
                device: error.device,
                what: fault.to_string(),
            },
        }
    }
}
