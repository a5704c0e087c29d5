//! The real driver on the software 82599: bring-up, settings, frames and faults. Every test ends with
//! the device's list of protocol violations empty.

use sumac_device::Clock;
use sumac_devices::ixgbe::in_process::SystemClock;
use sumac_devices::ixgbe::{
    DEVICE_KR, DEVICE_KX4, DEVICE_SFP, Fault as Misbehaviour, FaultKind, Identity, Module,
    Sim82599, Sim82599Config,
};
use sumac_devices::memory::SimDma;
use sumac_devices::wire::{NullWire, PeerWire, pair};
use sumac_interface::net::{MacAddress, Net, NetError};
use sumac_ixgbe::{
    Control, Error, Fault, FlowControl, LinkState, Port, PortConfig, QueuePair, RssConfig, Speed,
    Wait,
};
use sumac_rref::{Packet, PacketBatch, PacketPool, SharedHeap};

const MAC: [u8; 6] = [0x02, 0x53, 0x55, 0x4d, 0x41, 0x00];

/// A device with nobody at the other end, and a pool in memory it reaches.
struct Bench {
    device: Sim82599,
    pool: &'static PacketPool,
    clock: SystemClock,
}

impl Bench {
    fn new(device_id: u16, module: Module) -> Self {
        let dma = SimDma::new().expect("address space for DMA");
        let mut config = Sim82599Config::new("sim0", NullWire::new());
        config.identity = Identity {
            device_id,
            module,
            ..Identity::default()
        };
        config.strict_deep = true;
        Self {
            device: Sim82599::new(config, &dma),
            pool: PacketPool::create(SharedHeap::create(), &dma, 4096).expect("memory for packets"),
            clock: SystemClock::new(),
        }
    }

    fn kx4() -> Self {
        Self::new(DEVICE_KX4, Module::Absent)
    }

    fn faulty(kind: FaultKind) -> Self {
        let bench = Self::kx4();
        bench.device.inject(Misbehaviour::always(kind));
        bench
    }

    fn control(&self, config: &PortConfig) -> Result<Control, Error> {
        Control::open(self.device.backing(), config)
    }

    fn port(&self, config: &PortConfig) -> Port {
        Port::open(self.device.backing(), self.pool, config).expect("the device is well")
    }

    /// Lets the device work until it has nothing more to do.
    fn settle(&self) {
        while self.device.poll(self.clock.now_ns()) > 0 {}
    }

    fn batch(&self, frames: u8, bytes: usize) -> PacketBatch {
        let mut batch = self.pool.batch().expect("room for a batch");
        for number in 0..frames {
            let packet = Packet::from_frame(self.pool, &vec![number; bytes]).expect("a buffer");
            assert!(batch.push_back(packet).is_ok());
        }
        batch
    }

    /// Nothing was done against the datasheet, and every buffer is back.
    fn end(self) {
        let violations = self.device.violations();
        assert_eq!(violations.total(), 0, "{violations:?}");
        let account = self.pool.account();
        assert_eq!(
            (account.free, account.device, account.held),
            (account.total, 0, 0)
        );
    }
}

/// The wait that opening a port ended in, with this fault in the device.
fn wait_with(kind: FaultKind) -> Wait {
    let bench = Bench::faulty(kind);
    let error = bench
        .control(&PortConfig::default())
        .err()
        .expect("must fail");
    assert_eq!(error.device, "sim0");
    bench.device.heal();
    assert!(
        bench.control(&PortConfig::default()).is_ok(),
        "well again, it opens"
    );
    bench.end();
    match error.fault {
        Fault::TimedOut { wait, .. } => wait,
        other => panic!("{kind:?} ended in {other}"),
    }
}

#[test]
fn every_kind_of_port_comes_up() {
    for id in [DEVICE_KX4, DEVICE_KR, DEVICE_SFP] {
        let bench = Bench::new(id, Module::Absent);
        let control = bench
            .control(&PortConfig::default())
            .expect("the device is well");
        bench.settle();
        assert_eq!(control.mac(), MacAddress(MAC));
        assert_eq!(
            control.wait_for_link(1_000_000_000),
            Ok(LinkState::Up(Some(Speed::G10)))
        );
        assert_eq!(control.module(), Ok(None));
        assert_eq!(control.phy(), Ok(None));
        drop(control);
        bench.end();
    }
}

#[test]
fn modules_are_identified() {
    for (module, name) in [
        (Module::ShortRange, "10GBASE-SR"),
        (Module::DirectAttach, "passive direct-attach cable"),
    ] {
        let bench = Bench::new(DEVICE_SFP, module);
        let control = bench
            .control(&PortConfig::default())
            .expect("the device is well");
        let module = control.module().expect("it answers");
        assert_eq!(module.map(|module| module.name()), Some(name));
        drop(control);
        bench.end();
    }
}

#[test]
fn waits_that_never_end_are_named() {
    assert_eq!(wait_with(FaultKind::ResetNeverCompletes), Wait::Reset);
    assert_eq!(wait_with(FaultKind::EepromNeverDone), Wait::EepromWord);
    assert_eq!(wait_with(FaultKind::DmaInitNeverDone), Wait::DmaInit);
    assert_eq!(wait_with(FaultKind::SemaphoreHeld), Wait::DriverSemaphore);
}

#[test]
fn a_semaphore_held_for_once_is_free_again() {
    let bench = Bench::kx4();
    for occasion in 0..16 {
        let held = Misbehaviour::once(FaultKind::SemaphoreHeld, occasion);
        bench.device.inject(held);
        let _open_or_not = bench.control(&PortConfig::default());
        bench.device.heal();
        let control = bench.control(&PortConfig::default());
        assert!(control.is_ok(), "{occasion}: {:?}", control.err());
    }
    bench.end();
}

#[test]
fn a_bad_eeprom_is_refused_unless_told_otherwise() {
    let bench = Bench::kx4();
    bench
        .device
        .inject(Misbehaviour::once(FaultKind::EepromGarbage, 5));
    let error = bench
        .control(&PortConfig::default())
        .err()
        .expect("must fail");
    assert!(
        matches!(error.fault, Fault::EepromChecksum { .. }),
        "{error}"
    );
    bench
        .device
        .inject(Misbehaviour::once(FaultKind::EepromGarbage, 5));
    let lenient = PortConfig {
        check_eeprom: false,
        ..PortConfig::default()
    };
    assert!(bench.control(&lenient).is_ok());
    bench.end();
}

/// A device that was pulled out and put back between two looks answers as ever; but nothing would pass any more.
#[test]
fn a_device_that_was_away_is_not_taken_for_the_one_that_was_started() {
    let bench = Bench::kx4();
    let mut port = bench.port(&PortConfig::default());
    port.start().expect("the device is well");
    assert_eq!(port.check(), Ok(()));
    bench
        .device
        .inject(Misbehaviour::always(FaultKind::SurpriseRemoval));
    bench.device.heal();
    let lost = port.check().map_err(|error| error.fault);
    assert_eq!(lost, Err(Fault::Reset));
    assert!(matches!(Net::check(&mut port), Err(NetError::Reset { .. })));
    // It is started again like any other.
    port.reset().expect("the device is well");
    port.start().expect("the device is well");
    assert_eq!(port.check(), Ok(()));
    port.stop().expect("the device is well");
    drop(port);
    bench.end();
}

#[test]
fn a_device_that_is_gone_is_an_error_everywhere() {
    let bench = Bench::kx4();
    let mut port = bench.port(&PortConfig::default());
    port.start().expect("the device is well");
    bench
        .device
        .inject(Misbehaviour::always(FaultKind::SurpriseRemoval));
    assert!(matches!(Net::check(&mut port), Err(NetError::Gone { .. })));
    let gone = |result: Result<(), Error>| result.map_err(|error| error.fault);
    assert_eq!(
        gone(port.control_mut().set_mtu(9000)),
        Err(Fault::DeviceGone)
    );
    assert_eq!(
        gone(port.control_mut().set_promiscuous(true)),
        Err(Fault::DeviceGone)
    );
    assert!(port.control_mut().stats().is_err());
    assert!(!Net::link(&port).up);
    assert_eq!(gone(port.stop()), Err(Fault::DeviceGone));
    drop(port);
    bench.end();
}

#[test]
fn settings_change_under_traffic_without_a_violation() {
    let bench = Bench::kx4();
    let config = PortConfig {
        queues: 4,
        vlan_strip: true,
        ..PortConfig::default()
    };
    let mut port = bench.port(&config);
    port.start().expect("the device is well");
    let control = port.control_mut();
    for mtu in [9000, 68, 9710, 1500] {
        control.set_mtu(mtu).expect("in range");
    }
    control.set_promiscuous(true).expect("the device is well");
    control.set_promiscuous(false).expect("the device is well");
    control.set_all_multicast(true).expect("the device is well");
    control.set_broadcast(false).expect("the device is well");
    control
        .add_unicast(MacAddress([2, 0, 0, 0, 0, 7]))
        .expect("room");
    control
        .remove_unicast(MacAddress([2, 0, 0, 0, 0, 7]))
        .expect("the device is well");
    control
        .add_multicast(MacAddress([1, 0, 0x5e, 0, 0, 1]))
        .expect("a group");
    control.set_vlan(100, true).expect("a VLAN");
    control.filter_vlans(false).expect("the device is well");
    control
        .set_flow_control(FlowControl::Full)
        .expect("the device is well");
    let reversed = RssConfig {
        table: Some([3; 128]),
        ..RssConfig::default()
    };
    control.set_rss(reversed).expect("queue 3 exists");
    control
        .set_mac(MacAddress([2, 0, 0, 0, 0, 8]))
        .expect("a station");
    assert_eq!(control.mac(), MacAddress([2, 0, 0, 0, 0, 8]));
    port.stop().expect("the device is well");
    drop(port);
    bench.end();
}

#[test]
fn frames_sent_are_counted_by_the_device() {
    let bench = Bench::kx4();
    let mut port = bench.port(&PortConfig {
        queues: 2,
        ..PortConfig::default()
    });
    port.start().expect("the device is well");
    let mut pairs: Vec<QueuePair> = port.take_queues();
    for (pair, frames) in pairs.iter_mut().zip([10, 20]) {
        let mut batch = bench.batch(frames, 100);
        assert_eq!(pair.transmit(&mut batch), Ok(usize::from(frames)));
    }
    bench.settle();
    assert!(Net::check(&mut port).is_ok());
    let stats = port
        .control_mut()
        .stats()
        .expect("the device is well")
        .clone();
    assert_eq!((stats.tx_packets(), stats.tx_bytes()), (30, 3000));
    let of_queues: u64 = stats.queues().iter().map(|queue| queue.tx_packets).sum();
    assert_eq!(of_queues, 30);
    assert_eq!(stats.get("tx_size_65_to_127_packets"), Some(30));
    // Read twice, counted once.
    assert_eq!(
        port.control_mut()
            .stats()
            .expect("the device is well")
            .tx_packets(),
        30
    );
    port.return_queues(pairs);
    port.stop().expect("the device is well");
    drop(port);
    bench.end();
}

#[test]
fn ports_start_stop_and_reset_without_a_leak() {
    let bench = Bench::kx4();
    let mut port = bench.port(&PortConfig {
        queues: 2,
        ..PortConfig::default()
    });
    for round in 0..20 {
        port.start().expect("the device is well");
        assert_eq!(bench.pool.account().device, 2 * 512);
        let mut pairs = port.take_queues();
        let mut batch = bench.batch(8, 60);
        assert_eq!(
            pairs.first_mut().map(|pair| pair.transmit(&mut batch)),
            Some(Ok(8))
        );
        bench.settle();
        match round % 3 {
            0 => {
                port.return_queues(pairs);
                port.stop().expect("the device is well");
            }
            1 => {
                port.stop().expect("the device is well");
                port.return_queues(pairs);
            }
            _ => {
                port.return_queues(pairs);
                port.reset().expect("the device is well");
            }
        }
        assert_eq!(bench.pool.account().device, 0);
    }
    drop(port);
    bench.end();
}

#[test]
fn a_pair_that_is_away_keeps_its_port_from_starting() {
    let bench = Bench::kx4();
    let mut port = bench.port(&PortConfig::default());
    let pairs = port.take_queues();
    let error = port.start().expect_err("must fail");
    assert_eq!(error.fault, Fault::QueueAway(0));
    port.return_queues(pairs);
    port.start().expect("the device is well");
    port.stop().expect("the device is well");
    drop(port);
    bench.end();
}

#[test]
fn a_pool_too_small_says_how_much_is_lacking() {
    let bench = Bench::kx4();
    let config = PortConfig {
        queues: 2,
        rx_descriptors: 4096,
        ..PortConfig::default()
    };
    let mut port = bench.port(&config);
    let error = port.start().expect_err("must fail");
    assert!(
        matches!(
            error.fault,
            Fault::PoolTooSmall {
                queue: 1,
                lacking: 1..
            }
        ),
        "{error}"
    );
    drop(port);
    bench.end();
}

#[test]
fn a_queue_that_never_starts_is_named_and_the_port_recovers() {
    let bench = Bench::kx4();
    let mut port = bench.port(&PortConfig::default());
    bench
        .device
        .inject(Misbehaviour::always(FaultKind::QueueNeverEnables));
    let error = port.start().expect_err("must fail");
    assert!(
        matches!(
            error.fault,
            Fault::TimedOut {
                wait: Wait::TxQueueEnable(0),
                ..
            }
        ),
        "{error}"
    );
    bench.device.heal();
    port.start().expect("the device is well again");
    port.stop().expect("the device is well");
    drop(port);
    bench.end();
}

#[test]
fn a_head_beyond_its_ring_is_an_error() {
    let bench = Bench::kx4();
    let mut port = bench.port(&PortConfig::default());
    port.start().expect("the device is well");
    bench
        .device
        .inject(Misbehaviour::always(FaultKind::HeadBeyondRing));
    let error = port.check().expect_err("must fail");
    assert_eq!(
        error.fault,
        Fault::HeadBeyondRing {
            queue: 0,
            head: 512
        }
    );
    bench.device.heal();
    port.stop().expect("the device is well");
    drop(port);
    bench.end();
}

#[test]
fn a_link_that_goes_is_told_and_one_that_never_comes_is_no_error() {
    let bench = Bench::faulty(FaultKind::LinkDown);
    let mut control = bench
        .control(&PortConfig::default())
        .expect("a link is not needed");
    assert_eq!(control.wait_for_link(30_000_000), Ok(LinkState::Down));
    bench.device.heal();
    let up = LinkState::Up(Some(Speed::G10));
    assert_eq!(control.link_change(), Ok(Some(up)));
    assert_eq!(control.link_change(), Ok(None));
    drop(control);
    bench.end();
}

/// Two devices back to back; the second is the one looked at.
struct Cable {
    sender: Bench,
    receiver: Sim82599,
    from: Port,
    out: Vec<QueuePair>,
    to: Port,
    into: Vec<QueuePair>,
}

impl Cable {
    fn new(config: &PortConfig) -> Self {
        let dma = SimDma::new().expect("address space for DMA");
        let (near, far) = pair();
        let make = |name, wire: PeerWire, last| {
            let mut config = Sim82599Config::new(name, wire);
            let mac = [2, 0, 0, 0, 0, last];
            config.identity = Identity {
                device_id: DEVICE_KX4,
                mac,
                ..Identity::default()
            };
            Sim82599::new(config, &dma)
        };
        let sender = Bench {
            device: make("sim0", near, 1),
            pool: PacketPool::create(SharedHeap::create(), &dma, 4096).expect("memory for packets"),
            clock: SystemClock::new(),
        };
        let receiver = make("sim1", far, 2);
        let mut from = sender.port(&PortConfig {
            mtu: 9710,
            ..PortConfig::default()
        });
        let mut to = Port::open(receiver.backing(), sender.pool, config).expect("it is well");
        from.start().expect("the device is well");
        to.start().expect("the device is well");
        let (out, into) = (from.take_queues(), to.take_queues());
        Self {
            sender,
            receiver,
            from,
            out,
            to,
            into,
        }
    }

    /// How many frames come through of one of `bytes` to `destination`, with this VLAN tag.
    fn through(&mut self, destination: [u8; 6], vlan: Option<u16>, bytes: usize) -> usize {
        let mut frame = destination.to_vec();
        frame.extend([2, 0, 0, 0, 0, 1]);
        if let Some(id) = vlan {
            frame.extend([0x81, 0x00]);
            frame.extend(id.to_be_bytes());
        }
        frame.extend([0x88, 0xb5]);
        frame.resize(bytes, 0x5a);
        let mut batch = self.sender.pool.batch().expect("room for a batch");
        let packet = Packet::from_frame(self.sender.pool, &frame).expect("a buffer");
        assert!(batch.push_back(packet).is_ok());
        let pair = self.out.first_mut().expect("one queue");
        assert_eq!(pair.transmit(&mut batch), Ok(1));
        self.sender.settle();
        while self.receiver.poll(self.sender.clock.now_ns()) > 0 {}
        let pair = self.into.first_mut().expect("one queue");
        let mut frames = 0;
        for _ in 0..=QueuePair::PATIENCE {
            frames += pair
                .receive(&mut batch, 64)
                .expect("the pool is the port's");
        }
        assert_eq!(frames, batch.len());
        frames
    }

    fn end(mut self) {
        self.from.return_queues(self.out);
        self.to.return_queues(self.into);
        self.from.stop().expect("the device is well");
        self.to.stop().expect("the device is well");
        drop((self.from, self.to));
        let violations = self.receiver.violations();
        assert_eq!(violations.total(), 0, "{violations:?}");
        self.sender.end();
    }
}

#[test]
fn filters_let_through_what_they_are_told() {
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 3];
    const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
    const ALL: [u8; 6] = [0xff; 6];
    let mut cable = Cable::new(&PortConfig::default());
    let come = |cable: &mut Cable| [OWN, OTHER, GROUP, ALL].map(|to| cable.through(to, None, 60));
    assert_eq!(come(&mut cable), [1, 0, 0, 1]);
    cable
        .to
        .control_mut()
        .set_broadcast(false)
        .expect("it is well");
    cable
        .to
        .control_mut()
        .add_unicast(MacAddress(OTHER))
        .expect("room");
    assert_eq!(come(&mut cable), [1, 1, 0, 0]);
    cable
        .to
        .control_mut()
        .remove_unicast(MacAddress(OTHER))
        .expect("it is well");
    cable
        .to
        .control_mut()
        .add_multicast(MacAddress(GROUP))
        .expect("a group");
    assert_eq!(come(&mut cable), [1, 0, 1, 0]);
    cable
        .to
        .control_mut()
        .remove_multicast(MacAddress(GROUP))
        .expect("it is well");
    cable
        .to
        .control_mut()
        .set_promiscuous(true)
        .expect("it is well");
    assert_eq!(come(&mut cable), [1, 1, 1, 1]);
    cable
        .to
        .control_mut()
        .set_promiscuous(false)
        .expect("it is well");
    cable
        .to
        .control_mut()
        .set_mac(MacAddress(OTHER))
        .expect("a station");
    assert_eq!(come(&mut cable), [0, 1, 0, 0]);
    cable.end();
}

#[test]
fn vlans_and_lengths_are_filtered() {
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 2];
    let mut cable = Cable::new(&PortConfig::default());
    let vlans = |cable: &mut Cable| [100, 200].map(|id| cable.through(OWN, Some(id), 64));
    assert_eq!(vlans(&mut cable), [1, 1]);
    cable.to.control_mut().set_vlan(100, true).expect("a VLAN");
    assert_eq!(vlans(&mut cable), [1, 0]);
    cable
        .to
        .control_mut()
        .filter_vlans(false)
        .expect("it is well");
    assert_eq!(vlans(&mut cable), [1, 1]);

    let lengths = |cable: &mut Cable| [1514, 1515, 9014].map(|len| cable.through(OWN, None, len));
    assert_eq!(lengths(&mut cable), [1, 0, 0]);
    assert_eq!(cable.through(OWN, Some(100), 1518), 1);
    cable.to.control_mut().set_mtu(9000).expect("in range");
    assert_eq!(lengths(&mut cable), [1, 1, 1]);
    let stats = cable.to.control_mut().stats().expect("it is well");
    assert_eq!(stats.rx_packets(), 10);
    assert_eq!(stats.get("rx_oversize_errors"), Some(2));
    cable.end();
}

#[test]
fn a_reset_port_is_as_it_was_told_to_be() {
    const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
    let mut cable = Cable::new(&PortConfig::default());
    cable
        .to
        .control_mut()
        .add_multicast(MacAddress(GROUP))
        .expect("a group");
    cable.to.control_mut().set_mtu(4000).expect("in range");
    cable.to.return_queues(cable.into.drain(..));
    cable.to.reset().expect("it is well");
    cable.to.start().expect("it is well");
    cable.into = cable.to.take_queues();
    assert_eq!(cable.through(GROUP, None, 4014), 1);
    assert_eq!(cable.through(GROUP, None, 4015), 0);
    cable.end();
}
