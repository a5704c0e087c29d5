//! Two ports back to back, the driver on both, in counted time: it passes only when somebody waits,
//! and the devices work whenever it does.

use std::sync::Arc;

use sumac_device::Clock;
use sumac_devices::ixgbe::{DEVICE_KX4, Identity, Sim82599, Sim82599Config, SteppedClock};
use sumac_devices::memory::SimDma;
use sumac_devices::wire::pair;
use sumac_ixgbe::{Port, PortConfig, QueuePair};
use sumac_rref::{Packet, PacketBatch, PacketPool, SharedHeap};
use sumac_testbed::graveyard::Graveyard;

/// The far port's address.
pub const FAR: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The near port's address.
pub const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 0];

/// A port, its pairs and its device.
pub struct End {
    pub device: Sim82599,
    pub port: Port,
    pub pairs: Vec<QueuePair>,
}

/// What a test has in hand.
pub struct Cable {
    pub near: End,
    pub far: End,
    pub pool: &'static PacketPool,
    pub clock: Arc<SteppedClock>,
    /// Where rings lie that were let go of.
    pub graves: Arc<Graveyard>,
}

impl End {
    pub fn start(&mut self) {
        self.port.return_queues(self.pairs.drain(..));
        self.port.start().expect("the device is well");
        self.pairs = self.port.take_queues();
    }

    /// Makes the device good again and the port with it.
    pub fn recover(&mut self) {
        self.device.heal();
        self.port.return_queues(self.pairs.drain(..));
        self.port.reset().expect("the device is well again");
        self.start();
    }
}

impl Cable {
    /// Both ports run.
    pub fn new(near: &PortConfig, far: &PortConfig) -> Self {
        let dma = SimDma::new().expect("address space for DMA");
        let (wire, other) = pair();
        let device = |name, wire, mac| {
            let mut config = Sim82599Config::new(name, wire);
            config.identity = Identity {
                device_id: DEVICE_KX4,
                mac,
                ..Identity::default()
            };
            config.strict_deep = true;
            Sim82599::new(config, &dma)
        };
        let devices = [device("near", wire, NEAR), device("far", other, FAR)];
        let clock = Arc::new(SteppedClock::new(&devices));
        let pool =
            PacketPool::create(SharedHeap::create(), &dma, 8192).expect("memory for packets");
        let graves = Arc::new(Graveyard::new(Arc::new(dma)));
        let [near, far] = [(0, near), (1, far)].map(|(index, config)| {
            let device: Sim82599 = devices[index].clone();
            let mut backing = device.backing();
            backing.clock = clock.clone();
            backing.dma = graves.clone();
            let port = Port::open(backing, pool, config).expect("the device is well");
            let mut end = End {
                device,
                port,
                pairs: Vec::new(),
            };
            end.start();
            end
        });
        Self {
            near,
            far,
            pool,
            clock,
            graves,
        }
    }

    /// A packet that holds `frame`.
    pub fn packet(&self, frame: &[u8]) -> Packet {
        Packet::from_frame(self.pool, frame).expect("a buffer")
    }

    pub fn batch(&self) -> PacketBatch {
        self.pool.batch().expect("room for a batch")
    }

    /// Lets the devices work until they are done.
    pub fn settle(&self) {
        (0..200).for_each(|_| self.clock.sleep_ns(1_000));
    }

    /// Transmits on the near port's first queue; what it does not take is dropped. How many it took.
    pub fn send(&mut self, packets: impl IntoIterator<Item = Packet>) -> usize {
        let mut batch = self.batch();
        for packet in packets {
            batch.push_back(packet).expect("no more than a batch");
        }
        let sent = self.near.pairs[0].transmit(&mut batch).expect("one pool");
        self.settle();
        sent
    }

    /// What the far port received: queue and packet.
    pub fn receive(&mut self) -> Vec<(usize, Packet)> {
        let mut batch = self.batch();
        let mut received = Vec::new();
        for (queue, pair) in self.far.pairs.iter_mut().enumerate() {
            let mut empty = 0;
            while empty <= QueuePair::PATIENCE {
                if pair.receive(&mut batch, 64).expect("one pool") == 0 {
                    empty += 1;
                } else {
                    empty = 0;
                }
                received.extend(std::iter::from_fn(|| batch.pop_front()).map(|p| (queue, p)));
            }
        }
        received
    }

    /// Frames of 100 bytes, numbered from zero.
    pub fn numbered(&self, frames: u8) -> Vec<Packet> {
        let frame = |number| {
            let mut frame = [FAR, NEAR].concat();
            frame.extend([0x88, 0xb5]);
            frame.resize(100, number);
            self.packet(&frame)
        };
        (0..frames).map(frame).collect()
    }

    /// Ten frames come through unharmed.
    pub fn works(&mut self) {
        assert_eq!(self.send(self.numbered(10)), 10);
        let numbers: Vec<u8> = self.receive().iter().map(|(_, p)| p.data()[99]).collect();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    }

    /// Drops the ports as they are: no rule was broken, and every buffer is back, once, as are the rings.
    pub fn end(self) {
        let Self {
            near,
            far,
            pool,
            clock,
            graves,
        } = self;
        for End {
            device,
            port,
            pairs,
        } in [near, far]
        {
            drop(port);
            drop(pairs);
            let violations = device.violations();
            assert_eq!(violations.total(), 0, "{violations}");
        }
        clock.sleep_ns(1_000_000);
        assert!(graves.check() > 0, "the rings are gone");
        assert_eq!(pool.audit(), Ok(8192));
        let account = pool.account();
        assert_eq!((account.device, account.held), (0, 0));
    }
}
