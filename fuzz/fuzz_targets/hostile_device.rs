//! The whole driver against a device whose registers say anything and that writes anything into any
//! descriptor.
//!
//! Beneath is the software 82599, so that the driver gets somewhere; what the driver reads of it is
//! falsified as the input says. Invariants: no panic; every wait ends; the pool accounts for every
//! buffer; once the device is honest again, a reset brings the port back, and in the end every
//! buffer is free, once.
#![no_main]

use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use libfuzzer_sys::fuzz_target;
use sumac_device::registers::{Readable, Writable};
use sumac_device::{Bar, RegisterIo};
use sumac_devices::ixgbe::{
    DEVICE_KX4, DEVICE_SFP, Identity, Sim82599, Sim82599Config, SteppedClock,
};
use sumac_devices::memory::SimDma;
use sumac_devices::wire::{GenOptions, GenWire, Rate};
use sumac_interface::net::NetQueue;
use sumac_ixgbe::{Port, PortConfig, QueuePair};
use sumac_rref::{Packet, PacketPool, SharedHeap};

const BUFFERS: u32 = 512;
/// Descriptors of each ring.
const RING: u16 = 64;
const BAR_BYTES: u32 = 0x2_0000;
/// RDBAL(0) and TDBAL(0) (sections 8.2.3.8.1 and 8.2.3.9.5).
const RING_BASES: [u32; 2] = [0x1000, 0x6000];

/// Any register.
#[derive(Clone, Copy)]
struct Raw(u32);

impl Readable for Raw {
    fn offset(self) -> u32 {
        self.0
    }
}

impl Writable for Raw {
    fn offset(self) -> u32 {
        self.0
    }
}

/// Registers that lie as long as there are lies in store: one for each read.
struct Liar {
    honest: Bar,
    lies: Mutex<Vec<u8>>,
}

// SAFETY: no register is mapped.
unsafe impl RegisterIo for Liar {
    fn len(&self) -> u32 {
        BAR_BYTES
    }
    fn read32(&self, offset: u32) -> u32 {
        let value = self.honest.read(Raw(offset));
        let mut lies = self.lies.lock().unwrap();
        match lies.pop() {
            Some(200..220) => u32::MAX,
            Some(220..230) => 0,
            Some(230..245) => value ^ 1 << (lies.pop().unwrap_or(0) % 32),
            Some(245..) => u32::from_le_bytes([0; 4].map(|_: u8| lies.pop().unwrap_or(0))),
            _ => value,
        }
    }
    fn write32(&self, offset: u32, value: u32) {
        self.honest.write(Raw(offset), value);
    }
    fn mapped(&self, _: u32) -> Option<NonNull<AtomicU32>> {
        None
    }
}

/// Arbitrary bytes as a source of choices; at the end, zeroes.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A word for a descriptor: often one that looks good but for a detail.
    fn word(&mut self) -> u64 {
        let len = u64::from(self.byte()) << 32;
        match self.byte() % 6 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 | len,
            3 => 3 | len,
            4 => 1 << 32,
            _ => u64::from_le_bytes([0; 8].map(|_: u8| self.byte())),
        }
    }
}

struct Bench {
    dma: SimDma,
    pool: &'static PacketPool,
}

std::thread_local! {
    static BENCH: Bench = {
        let dma = SimDma::new().expect("address space for DMA");
        let pool = PacketPool::create(SharedHeap::create(), &dma, BUFFERS).expect("memory for packets");
        Bench { dma, pool }
    };
}

fuzz_target!(|data: &[u8]| BENCH.with(|bench| bench.run(data)));

impl Bench {
    fn run(&self, data: &[u8]) {
        let mut choices = Choices(data);
        let wire = GenWire::new(&GenOptions {
            rate: Rate::Max,
            size: if choices.byte() & 1 == 0 { 64 } else { 5000 },
            ..GenOptions::default()
        });
        let mut config = Sim82599Config::new("sim0", wire.expect("in range"));
        config.identity = Identity {
            device_id: if choices.byte() & 1 == 0 {
                DEVICE_KX4
            } else {
                DEVICE_SFP
            },
            ..Identity::default()
        };
        let device = Sim82599::new(config, &self.dma);
        let mut backing = device.backing();
        let liar = Arc::new(Liar {
            honest: backing.bar,
            lies: Mutex::new(Vec::new()),
        });
        backing.bar = Bar::new(liar.clone());
        backing.clock = Arc::new(SteppedClock::new(std::slice::from_ref(&device)));
        if choices.byte() & 7 == 0 {
            liar.invent(&mut choices);
        }
        let config = PortConfig {
            queues: u16::from(choices.byte() % 2) + 1,
            rx_descriptors: RING,
            tx_descriptors: RING,
            mtu: 9000,
            ..PortConfig::default()
        };
        if let Ok(port) = Port::open(backing, self.pool, &config) {
            self.drive(port, &device, &liar, &mut choices);
        }
        let account = self.pool.account();
        assert_eq!((account.device, account.held), (0, 0));
        assert_eq!(self.pool.audit(), Ok(BUFFERS));
    }

    fn drive(&self, mut port: Port, device: &Sim82599, liar: &Liar, choices: &mut Choices<'_>) {
        let mut batch = self.pool.batch().expect("the heap has room");
        let mut pairs: Vec<QueuePair> = Vec::new();
        let mut now_ns = 1 << 40;
        while !choices.0.is_empty() {
            let argument = choices.byte();
            match choices.byte() % 14 {
                0 => {
                    port.return_queues(pairs.drain(..));
                    let _ = port.start();
                    pairs = port.take_queues();
                }
                1 => {
                    if argument & 1 == 0 {
                        port.return_queues(pairs.drain(..));
                    }
                    let _ = port.stop();
                    port.return_queues(pairs.drain(..));
                }
                2 => {
                    port.return_queues(pairs.drain(..));
                    let _ = port.reset();
                }
                3 => _ = port.check(),
                4 => _ = port.control_mut().stats().map(|stats| stats.iter().count()),
                5 => _ = port.control_mut().set_mtu(u16::from(argument) * 40),
                6 => _ = port.control_mut().set_promiscuous(argument & 1 == 0),
                7 | 8 if port.control().is_running() => {
                    for pair in &mut pairs {
                        let frames = pair.receive(&mut batch, usize::from(argument % 65));
                        assert!(frames.is_ok_and(|frames| frames <= 64));
                    }
                }
                9 | 10 if port.control().is_running() => {
                    if let Some(packet) = Packet::from_frame(self.pool, &[argument; 3000]) {
                        let _ = batch.push_back(packet);
                    }
                    for pair in &mut pairs {
                        assert!(pair.transmit(&mut batch).is_ok());
                        pair.reclaim();
                    }
                }
                11 => self.scribble(liar, argument, choices),
                12 => liar.invent(choices),
                _ => {
                    now_ns += u64::from(argument) * 1000;
                    device.poll(now_ns);
                }
            }
            let account = self.pool.account();
            assert_eq!(account.free + account.device + account.held, account.total);
        }
        // Honest again, the device is reset, and the port with it.
        liar.lies.lock().unwrap().clear();
        drop(batch);
        port.return_queues(pairs);
        port.reset().expect("the device is well again");
        assert_eq!(self.pool.account().device, 0);
    }

    /// Writes a word into a descriptor of queue 0, wherever the driver said that its ring is.
    fn scribble(&self, liar: &Liar, argument: u8, choices: &mut Choices<'_>) {
        let base = RING_BASES[usize::from(argument >> 7)];
        let [low, high] = [base, base + 4].map(|at| u64::from(liar.honest.read(Raw(at))));
        let access = self.dma.window().access();
        let Some(ring) = access.ring(low | high << 32, u32::from(RING)) else {
            return;
        };
        ring.write_status(u32::from(argument) % u32::from(RING), choices.word());
    }
}

impl Liar {
    /// Up to 64 lies for the next reads.
    fn invent(&self, choices: &mut Choices<'_>) {
        let count = usize::from(choices.byte() % 64);
        let mut lies = self.lies.lock().unwrap();
        *lies = (0..count).map(|_| choices.byte()).collect();
    }
}
