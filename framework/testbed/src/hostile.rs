//! A device that keeps no rule: anything in any descriptor at any time, against both rings.
//!
//! Invariants: no panic; no two holders of one buffer; `free + device + held = total` after every
//! step; after the end every buffer is free, once.

use std::collections::HashSet;
use std::sync::Arc;

use sumac_device::ring::{ReceiveRing, RingSize, Scatter, TransmitRing};
use sumac_rref::{DomainId, Packet, PacketBatch, PacketCache, PacketPool, SharedHeap};

use crate::format::{PlainReceive, PlainTransmit};
use crate::host::{HeapDma, Registers, Tail, with_pool};

/// Descriptors of each ring.
const SIZE: u32 = 16;
/// Buffers: both rings, a few frames under way, and no more, so that they run out.
const BUFFERS: u32 = 48;

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
        match self.byte() % 8 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 | len,
            3 | 4 => 3 | len,
            5 => 3 | 2049 << 32,
            6 => 1 << 32,
            _ => u64::from_le_bytes([0; 8].map(|_: u8| self.byte())),
        }
    }
}

struct Bench {
    pool: &'static PacketPool,
    cache: PacketCache,
    rx: ReceiveRing<PlainReceive>,
    tx: TransmitRing<PlainTransmit>,
    batch: PacketBatch,
    held: Vec<Packet>,
}

/// Drives both rings as `data` says.
pub fn hostile(data: &[u8]) {
    with_pool(BUFFERS, |dma, pool| {
        let mut bench = Bench::new(dma, pool);
        bench.rx.fill(&mut bench.cache).expect("the pool is full");
        let mut choices = Choices(data);
        while !choices.0.is_empty() {
            bench.step(dma, &mut choices);
            bench.check();
        }
        bench.rx.drain(&mut bench.cache);
        bench.tx.drain(&mut bench.cache);
    });
}

std::thread_local! {
    static HEAP: &'static SharedHeap = SharedHeap::create();
}

impl Bench {
    fn new(dma: &Arc<HeapDma>, pool: &'static PacketPool) -> Self {
        let registers = Registers::new();
        let size = RingSize::new(SIZE).expect("a power of two");
        let (rx_tail, tx_tail) = (Tail::Receive, Tail::Transmit);
        let scatter = Scatter { max_buffers: 5 };
        Self {
            pool,
            cache: pool.claim_cache().expect("one is free"),
            rx: ReceiveRing::new(&**dma, size, registers.doorbell(rx_tail), scatter)
                .expect("the heap has room"),
            tx: TransmitRing::new(
                &**dma,
                size,
                registers.doorbell(tx_tail),
                PlainTransmit::default(),
            )
            .expect("the heap has room"),
            batch: pool.batch().expect("the heap has room"),
            held: Vec::new(),
        }
    }

    fn step(&mut self, dma: &HeapDma, choices: &mut Choices<'_>) {
        let argument = choices.byte();
        match choices.byte() % 16 {
            0..=4 => {
                let ring = if argument & 0x80 == 0 {
                    self.rx.iova()
                } else {
                    self.tx.iova()
                };
                let slot = u64::from(argument) % u64::from(SIZE);
                let address = ring.to_bits() + slot * 16;
                if argument & 0x40 != 0 {
                    dma.store(address, choices.word());
                }
                dma.store(address + 8, choices.word());
            }
            5..=7 => {
                let limit = usize::from(argument % 40);
                let reaped = self.rx.reap(&mut self.cache, &mut self.batch, limit);
                assert!(reaped.is_ok_and(|frames| frames <= limit));
            }
            8 | 9 => {
                let before = self.batch.len();
                let posted = self.tx.post(&mut self.cache, &mut self.batch);
                assert_eq!(posted, Ok(before - self.batch.len()));
            }
            10 => self.held.extend(self.batch.pop_front()),
            11 => self.held.truncate(usize::from(argument % 4)),
            12 => self.put_back(argument),
            13 => self.tx.reclaim(&mut self.cache),
            14 => self.cache.flush(),
            _ => {
                self.rx.drain(&mut self.cache);
                self.tx.drain(&mut self.cache);
                if argument & 1 == 0 {
                    // Too few buffers leave the ring empty, which is one more thing to survive.
                    let _ = self.rx.fill(&mut self.cache);
                }
            }
        }
    }

    /// Puts a packet of the application's into the batch: one it held, or a new one.
    fn put_back(&mut self, argument: u8) {
        let bytes = [argument; 5000];
        let new = || Packet::from_frame(self.pool, &bytes[..usize::from(argument) * 19]);
        let Some(mut packet) = self.held.pop().or_else(new) else {
            return;
        };
        if argument & 1 == 0 {
            packet.request_vlan(u16::from(argument));
        }
        if let Err(packet) = self.batch.push_back(packet) {
            self.held.push(packet);
        }
    }

    fn check(&mut self) {
        let account = self.pool.account();
        assert_eq!(account.free + account.device + account.held, account.total);
        let owned = self.pool.count_owned(DomainId::HOST);
        assert_eq!(owned, self.held.len());
        let mut seen = HashSet::new();
        for packet in &self.held {
            for bytes in packet.segments() {
                assert!(seen.insert(bytes.as_ptr()), "two packets in one buffer");
            }
        }
        for packet in self.batch.packets_mut() {
            for bytes in packet.segments() {
                assert!(seen.insert(bytes.as_ptr()), "two packets in one buffer");
            }
        }
        // The rest is the frame that the receive ring is assembling.
        let partial = (account.held as usize).checked_sub(seen.len());
        assert!(partial.is_some_and(|buffers| buffers < 5), "{account:?}");
        let device = account.device.checked_sub(self.tx.outstanding());
        assert!(device.unwrap_or(0) <= SIZE, "{account:?}");
    }
}
