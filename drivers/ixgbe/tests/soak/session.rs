//! Two ports, a generator on each, and the traffic between them.

use std::time::{Duration, Instant};

use sumac_devices::ixgbe::{DEVICE_KR, DEVICE_KX4, DEVICE_SFP, Identity, Sim82599, Sim82599Config};
use sumac_devices::memory::SimDma;
use sumac_devices::wire::{GenOptions, GenWire, LinkSwitch, Rate, Wire};
use sumac_interface::net::NetQueue;
use sumac_ixgbe::{FlowControl, PortConfig};
use sumac_rref::{PacketBatch, PacketPool, SharedHeap};

use crate::choices::Choices;
use crate::side::Side;
use crate::time::Time;

/// Rounds until everything that was under way must have arrived, where time is counted.
const SETTLE_ROUNDS: u32 = 100_000;
/// The same where it is not.
const SETTLE_TIME: Duration = Duration::from_secs(120);

/// One direction: received here, not yet transmitted there.
pub struct Lane {
    pub pending: PacketBatch,
    /// Packets the application made itself, and threw away, since the session began.
    pub made: u64,
    pub thrown: u64,
}

/// Two ports that forward to each other.
pub struct Session {
    pub sides: [Side; 2],
    pub lanes: [Lane; 2],
    pub pool: &'static PacketPool,
    pub time: Time,
    /// Frames may span several buffers, so that the rings hold parts of them.
    jumbo: bool,
}

impl Session {
    /// Opens and starts two ports on new devices.
    pub fn begin(dma: &SimDma, pool: &'static PacketPool, choices: &mut Choices) -> Self {
        let size = choices.of(&[64, 64, 64, 65, 128, 600, 1518, 2052, 2053, 4500, 9728]);
        let made = [0, 1].map(|number| device(dma, number, size, choices));
        let devices = made.each_ref().map(|(device, _)| device.clone());
        let time = match choices.once_in(4) {
            true => Time::running(&devices),
            false => Time::stepped(&devices),
        };
        println!("  {} buffers, {size}-byte frames", pool.account().total);
        let _heap = SharedHeap::create();
        let lane = || Lane {
            pending: pool.batch().expect("room for a batch"),
            made: 0,
            thrown: 0,
        };
        let (lanes, clock) = ([lane(), lane()], time.clock());
        let sides = made.map(|(device, cable)| {
            let config = config(pool, choices);
            Side::open(device, cable, clock.clone(), pool, &config)
        });
        let jumbo = size - 4 > 2048;
        let mut session = Self {
            sides,
            lanes,
            pool,
            time,
            jumbo,
        };
        session.start_both();
        session
    }

    /// Starts both ports; one may keep in its stock what the other lacks, so if need be from rest.
    pub fn start_both(&mut self) {
        let started = self
            .sides
            .iter_mut()
            .map(|side| side.running || side.start());
        if started.fold(true, |all, one| all & one) {
            return;
        }
        for (side, lane) in self.sides.iter_mut().zip(&mut self.lanes) {
            side.stop(true).expect("the device is well");
            lane.thrown += lane.pending.len() as u64;
            lane.pending.clear();
        }
        let account = self.pool.account();
        assert_eq!(account.free, account.total, "both ports stand still");
        for side in &mut self.sides {
            assert!(side.start(), "rings were chosen to fit the pool");
        }
    }

    /// Forwards for some rounds.
    pub fn traffic(&mut self, rounds: u64, choices: &mut Choices) {
        let limit = choices.below(64) as usize + 1;
        for _ in 0..rounds {
            self.time.pass(choices.below(4_000) + 1);
            (0..2).for_each(|from| _ = self.forward(from, limit));
        }
        self.check_buffers(0);
    }

    /// Receives from every queue of one port and transmits on the other's; how many came.
    pub fn forward(&mut self, from: usize, limit: usize) -> usize {
        let [first, second] = &mut self.sides;
        let (near, far) = match from {
            0 => (first, second),
            _ => (second, first),
        };
        let pending = &mut self.lanes[from].pending;
        let mut received = 0;
        for (index, pair) in near.pairs.iter_mut().enumerate() {
            if near.running {
                received += pair.receive(pending, limit).expect("one pool");
            }
            if far.running {
                let to = index % far.pairs.len();
                far.pairs[to].transmit(pending).expect("one pool");
            }
        }
        received
    }

    /// The application holds what is pending, and `elsewhere` buffers, and nobody else any.
    pub fn check_buffers(&mut self, elsewhere: usize) {
        let of = |lane: &mut Lane| {
            let packets = lane.pending.packets_mut();
            packets
                .map(|packet| packet.segments().count())
                .sum::<usize>()
        };
        let mine: usize = self.lanes.iter_mut().map(of).sum::<usize>() + elsewhere;
        let held = self.pool.account().held as usize;
        // A ring assembles a frame of at most six buffers.
        let rings: usize = self.sides.iter().map(|side| 5 * side.pairs.len()).sum();
        let hostile = self.sides.iter().any(|side| side.hostile);
        let partial = if self.jumbo || hostile { rings } else { 0 };
        assert!(
            (mine..=mine + partial).contains(&held),
            "{held} held, {mine} by the application"
        );
    }

    /// Lets no more frames in and waits until all have left; then the books must balance.
    pub fn settle(&mut self) {
        for side in &mut self.sides {
            side.cable.set(true);
            let control = side.port().control_mut();
            control.stop_receiving().expect("the device is well");
        }
        let start = Instant::now();
        let mut rounds = 0;
        while self.under_way() {
            self.time.pass(2_000);
            rounds += 1;
            let late = match self.time {
                Time::Stepped(_) => rounds > SETTLE_ROUNDS,
                Time::Running { .. } => start.elapsed() > SETTLE_TIME,
            };
            let account = self.pool.account();
            assert!(
                !late,
                "frames stay under way: {account:?}, {:?}",
                self.stats()
            );
        }
        self.check_books();
    }

    /// Forwards once; whether anything moved or still has to.
    fn under_way(&mut self) -> bool {
        let received: usize = (0..2).map(|from| self.forward(from, 64)).sum();
        let outstanding = |side: &mut Side| {
            let pairs = side.pairs.iter_mut();
            pairs
                .map(|pair| pair.reclaim() + pair.waiting(1))
                .sum::<u32>()
        };
        let left: u32 = self.sides.iter_mut().map(outstanding).sum();
        let pending: usize = self.lanes.iter().map(|lane| lane.pending.len()).sum();
        received > 0 || left > 0 || pending > 0
    }

    fn stats(&self) -> [sumac_interface::net::QueueStats; 2] {
        self.sides.each_ref().map(Side::stats)
    }

    fn check_books(&mut self) {
        self.sides.iter().for_each(Side::check_books);
        let stats = self.stats();
        for (from, lane) in self.lanes.iter().enumerate() {
            let there = stats[1 - from];
            assert_eq!(
                stats[from].rx_packets + lane.made,
                there.tx_packets + there.tx_errors + lane.thrown,
                "frames are missing between the ports"
            );
        }
        if !self.sides.iter().any(|side| side.hostile) {
            let corrupt = |side: &Side| side.device.wire_report().errors.corrupt;
            assert_eq!(self.sides.each_ref().map(corrupt), [0, 0]);
        }
    }

    /// Stops and closes everything; returns how many frames were forwarded.
    pub fn end(mut self, choices: &mut Choices) -> u64 {
        self.start_both();
        self.settle();
        self.check_buffers(0);
        for side in &mut self.sides {
            let at_home = choices.once_in(2);
            if choices.once_in(2) {
                side.stop(at_home).expect("the device is well");
            }
            side.close(at_home);
        }
        self.check_books();
        let sent = self.sides.each_ref().map(|side| {
            let wire = side.device.wire_report();
            (wire.to_device_frames, wire.from_device_frames)
        });
        let [a, b] = sent;
        println!("  in {} out {}, in {} out {}", a.0, b.1, b.0, a.1);
        let pool = self.pool;
        drop(self);
        assert_eq!(pool.audit(), Ok(pool.account().total));
        assert_eq!(pool.account().held + pool.account().device, 0);
        a.1 + b.1
    }
}

/// A device with a generator.
fn device(dma: &SimDma, number: u16, size: usize, choices: &mut Choices) -> (Sim82599, LinkSwitch) {
    let mac = [2, 0, 0, 0, 0, number as u8];
    let options = GenOptions {
        size,
        rate: choices.of(&[Rate::Max, Rate::Line, Rate::MilliFps(500_000_000)]),
        flows: choices.of(&[1, 7, 64]),
        generator: number,
        destination: choices.of(&[mac, mac, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]]),
        udp_checksum: choices.once_in(2),
        ..GenOptions::default()
    };
    let wire = GenWire::new(&options).expect("in range");
    let cable = wire.link().clone();
    let mut config = Sim82599Config::new(format!("sim{number}"), wire);
    config.identity = Identity {
        device_id: choices.of(&[DEVICE_KX4, DEVICE_KR, DEVICE_SFP]),
        mac,
        ..Identity::default()
    };
    config.strict_deep = true;
    (Sim82599::new(config, dma), cable)
}

/// A set-up whose receive rings take at most 45 of 100 buffers.
pub fn config(pool: &PacketPool, choices: &mut Choices) -> PortConfig {
    let room = pool.account().total * 45 / 100;
    let (queues, rx_descriptors) = loop {
        let queues = choices.of(&[1, 1, 2, 3, 4, 16]);
        let descriptors = choices.of(&[64, 64, 128, 512, 1024]);
        if u32::from(queues) * u32::from(descriptors) <= room {
            break (queues, descriptors);
        }
    };
    PortConfig {
        queues,
        rx_descriptors,
        tx_descriptors: choices.of(&[64, 128, 512]),
        mtu: choices.of(&[68, 1500, 4000, 9000, 9710, 9710]),
        promiscuous: choices.once_in(2),
        all_multicast: choices.once_in(2),
        vlan_strip: choices.once_in(2),
        flow_control: choices.of(&[FlowControl::None, FlowControl::Full]),
        ..PortConfig::default()
    }
}
