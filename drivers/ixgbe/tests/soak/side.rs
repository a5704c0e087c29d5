//! One of the two ports, its device and its books.
//!
//! The device counts what it delivered and sent; the driver what it took and posted. What lies in
//! between when a port is stopped in mid-traffic is lost, and at most what the rings hold; while a
//! port is left alone nothing is.

use std::sync::Arc;

use sumac_device::Clock;
use sumac_devices::ixgbe::{Counter, Sim82599};
use sumac_devices::wire::LinkSwitch;
use sumac_interface::net::{NetQueue, QueueStats};
use sumac_ixgbe::{Error, Fault, Port, PortConfig, QueuePair};
use sumac_rref::PacketPool;

/// Statistics sets of the device.
const SETS: usize = 16;

/// A port under test.
pub struct Side {
    pub device: Sim82599,
    pub cable: LinkSwitch,
    /// None only while it is opened anew.
    port: Option<Port>,
    /// The port's pairs, at home only while it starts.
    pub pairs: Vec<QueuePair>,
    pub running: bool,
    pool: &'static PacketPool,
    clock: Arc<dyn Clock>,
    /// What pairs that are gone counted.
    ended: QueueStats,
    lost_received: i64,
    lost_transmitted: i64,
    /// By how many frames a hostile device's count may be off from the driver's.
    blur: i64,
    /// How many bus errors were injected: each may swallow a frame.
    bus_errors: u64,
    /// Whether descriptors ever lied, so that frames may be damaged.
    pub hostile: bool,
}

impl Side {
    /// Opens a port, stopped.
    pub fn open(
        device: Sim82599,
        cable: LinkSwitch,
        clock: Arc<dyn Clock>,
        pool: &'static PacketPool,
        config: &PortConfig,
    ) -> Self {
        let port = open(&device, &clock, pool, config).expect("the device is well");
        Self {
            device,
            cable,
            port: Some(port),
            pairs: Vec::new(),
            running: false,
            pool,
            clock,
            ended: QueueStats::default(),
            lost_received: 0,
            lost_transmitted: 0,
            blur: 0,
            bus_errors: 0,
            hostile: false,
        }
    }

    /// Starts the port. `false`: the pool lacks buffers.
    pub fn start(&mut self) -> bool {
        self.return_pairs();
        let started = self.port().start();
        self.pairs = self.port().take_queues();
        self.running = started.is_ok();
        match started {
            Ok(()) => true,
            Err(Error {
                fault: Fault::PoolTooSmall { lacking, .. },
                ..
            }) => {
                assert!(lacking > 0);
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Stops the port, its pairs at home or away.
    pub fn stop(&mut self, at_home: bool) -> Result<(), Error> {
        if !self.running {
            return Ok(());
        }
        self.running = false;
        if at_home {
            self.return_pairs();
        }
        let stopped = self.port().stop();
        self.bring_home();
        self.write_off();
        stopped
    }

    /// Resets the port, running or not, its pairs at home or away.
    pub fn reset(&mut self, at_home: bool) -> Result<(), Error> {
        self.running = false;
        if at_home {
            self.return_pairs();
        }
        let reset = self.port().reset();
        self.bring_home();
        self.write_off();
        reset
    }

    fn return_pairs(&mut self) {
        let pairs: Vec<QueuePair> = self.pairs.drain(..).collect();
        self.port().return_queues(pairs);
    }

    /// Pairs of a port that stands still give their buffers back when they come home.
    fn bring_home(&mut self) {
        self.return_pairs();
        self.pairs = self.port().take_queues();
    }

    /// Drops the port, running or not, before its pairs or with them at home.
    pub fn close(&mut self, at_home: bool) {
        self.running = false;
        for pair in &self.pairs {
            self.ended += pair.stats();
        }
        self.ended.tx_outstanding = 0;
        let rings = self.rings();
        let mut away: Vec<QueuePair> = self.pairs.drain(..).collect();
        if at_home {
            self.port().return_queues(away.drain(..));
        }
        self.port = None;
        drop(away);
        self.write_off_up_to(rings);
    }

    /// Opens a port that was closed.
    pub fn reopen(&mut self, config: &PortConfig) {
        let port = open(&self.device, &self.clock, self.pool, config);
        self.port = Some(port.expect("the device is well"));
        self.pairs = self.port().take_queues();
    }

    /// The port.
    pub fn port(&mut self) -> &mut Port {
        self.port.as_mut().expect("it is open")
    }

    /// What the driver counted since the session began.
    pub fn stats(&self) -> QueueStats {
        let mut sum = self.ended;
        self.pairs.iter().for_each(|pair| sum += pair.stats());
        sum
    }

    /// Descriptors of all receive and all transmit rings.
    fn rings(&mut self) -> (i64, i64) {
        let config = self.port().control().config();
        let of = |descriptors: u16| i64::from(config.queues) * i64::from(descriptors);
        (of(config.rx_descriptors), of(config.tx_descriptors))
    }

    /// What descriptors lie about from now on may be off by `frames`.
    pub fn blur(&mut self, frames: i64) {
        self.blur += frames;
        self.hostile = true;
    }

    /// A frame may be swallowed by the bus.
    pub fn bus_error(&mut self) {
        self.bus_errors += 1;
    }

    /// The port was stopped: what was in its rings is lost.
    fn write_off(&mut self) {
        if self.port().control().is_quiet() {
            let rings = self.rings();
            self.write_off_up_to(rings);
        }
    }

    fn write_off_up_to(&mut self, (received, transmitted): (i64, i64)) {
        let (in_receive, in_transmit) = self.between();
        let lost = (
            in_receive - self.lost_received,
            in_transmit - self.lost_transmitted,
        );
        let (blur, name) = (self.blur, self.device.name());
        assert!(
            (-blur..=received + blur).contains(&lost.0),
            "{name}: {lost:?}"
        );
        assert!((0..=transmitted).contains(&lost.1), "{name}: {lost:?}");
        (self.lost_received, self.lost_transmitted) = (in_receive, in_transmit);
        self.blur = 0;
    }

    /// Frames the device delivered that the driver has not taken, and that the driver posted and
    /// the device has not sent, since the session began.
    fn between(&self) -> (i64, i64) {
        let (totals, stats) = (self.device.totals(), self.stats());
        let taken = stats.rx_packets + stats.rx_errors + stats.rx_starved;
        (
            totals.get(Counter::DmaReceived) as i64 - taken as i64,
            stats.tx_packets as i64 - totals.get(Counter::GoodTransmitted) as i64,
        )
    }

    /// Nothing moves and nothing waits: every frame is accounted for.
    pub fn check_books(&self) {
        let name = self.device.name();
        let (totals, wire) = (self.device.totals(), self.device.wire_report());
        if self.blur == 0 {
            let (received, transmitted) = self.between();
            let lost = (self.lost_received, self.lost_transmitted);
            assert_eq!((received, transmitted), lost, "{name}: frames are missing");
        }
        let sent = totals.get(Counter::GoodTransmitted);
        assert_eq!(sent, wire.from_device_frames, "{name}");
        let filtered = totals.get(Counter::TotalReceived) - totals.get(Counter::GoodReceived);
        let dropped: u64 = (0..SETS).map(|set| totals.queue_dropped(set)).sum();
        let counted =
            totals.get(Counter::DmaReceived) + filtered + dropped + totals.get(Counter::Missed);
        let uncounted = wire.to_device_frames.checked_sub(counted);
        assert!(
            uncounted.is_some_and(|frames| frames <= self.bus_errors),
            "{name}: of {} frames {counted} are accounted for",
            wire.to_device_frames
        );
        assert_eq!(wire.errors.duplicates, 0, "{name}");
        let violations = self.device.violations();
        assert_eq!(violations.total(), 0, "{name}: {violations}");
    }
}

fn open(
    device: &Sim82599,
    clock: &Arc<dyn Clock>,
    pool: &'static PacketPool,
    config: &PortConfig,
) -> Result<Port, Error> {
    let mut backing = device.backing();
    backing.clock = clock.clone();
    Port::open(backing, pool, config)
}
