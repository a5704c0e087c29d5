//! The receive ring against a reference: a device that reports whole frames, chains, bad lengths and
//! frames without end; pools that run out; buffers held by the application and released later.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;
use sumac_device::ring::{ForeignPool, ReceiveCounters, ReceiveRing, RingSize, Scatter};
use sumac_rref::{Packet, PacketBatch, PacketCache, PacketPool};
use sumac_testbed::format::PlainReceive;
use sumac_testbed::host::{HeapDma, Registers, Tail, with_pool};
use sumac_testbed::model::ReceiveModel;

const MAX_BUFFERS: u16 = 4;

#[derive(Clone, Debug)]
enum Op {
    /// The device fills buffers: reported length and whether the frame ends.
    Device(Vec<(u16, bool)>),
    Reap(usize),
    /// The application takes packets out of the batch and keeps them.
    Hold(usize),
    Release(usize),
    /// The application takes buffers that have nothing to do with the ring.
    Take(usize),
    Refill,
}

fn piece() -> impl Strategy<Value = (u16, bool)> {
    let len = prop_oneof![
        8 => 1u16..=2048,
        1 => Just(0u16),
        1 => Just(2049u16),
        1 => any::<u16>(),
    ];
    (len, prop::bool::weighted(0.7))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => vec(piece(), 1..20).prop_map(Op::Device),
        2 => vec((60u16..1500).prop_map(|len| (len, true)), 1..20).prop_map(Op::Device),
        6 => (0usize..70).prop_map(Op::Reap),
        2 => (0usize..20).prop_map(Op::Hold),
        2 => (0usize..20).prop_map(Op::Release),
        1 => (0usize..20).prop_map(Op::Take),
        1 => Just(Op::Refill),
    ]
}

/// The reference: what the ring must do with what the device reported.
#[derive(Default)]
struct Reference {
    reported: VecDeque<(Vec<u8>, u16, bool)>,
    partial: Vec<Vec<u8>>,
    skipping: bool,
    counters: ReceiveCounters,
}

impl Reference {
    /// Frames that a reap of up to `limit` gives with `free` buffers in the pool.
    fn reap(&mut self, limit: usize, mut free: usize, size: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut steps = 0;
        while frames.len() < limit {
            let Some((bytes, len, end)) = self.reported.front().cloned() else {
                break;
            };
            if free == 0 {
                self.counters.pool_exhausted += 1;
                if !self.partial.is_empty() {
                    self.partial.clear();
                    self.skipping = true;
                    self.counters.starved += 1;
                }
                break;
            }
            free -= 1;
            steps += 1;
            self.reported.pop_front();
            let frame = self.buffer(bytes, len, end, &mut free);
            if frame.is_none() && steps == size {
                break;
            }
            frames.extend(frame);
        }
        self.counters.frames += frames.len() as u64;
        self.counters.bytes += frames.iter().map(|f| f.len() as u64).sum::<u64>();
        frames
    }

    fn buffer(&mut self, bytes: Vec<u8>, len: u16, end: bool, free: &mut usize) -> Option<Vec<u8>> {
        if self.skipping {
            self.skipping = !end;
            *free += 1;
            return None;
        }
        let good = (1..=2048).contains(&len);
        self.partial.push(bytes);
        if good && end {
            return Some(std::mem::take(&mut self.partial).concat());
        }
        if good && self.partial.len() < usize::from(MAX_BUFFERS) {
            return None;
        }
        if good {
            self.counters.missing_end += 1;
        } else {
            self.counters.bad_length += 1;
        }
        *free += self.partial.len();
        self.partial.clear();
        self.skipping = !end;
        None
    }
}

struct Bench<'a> {
    dma: &'a std::sync::Arc<HeapDma>,
    pool: &'static PacketPool,
    registers: std::sync::Arc<Registers>,
    cache: PacketCache,
    ring: ReceiveRing<PlainReceive>,
    device: ReceiveModel,
    batch: PacketBatch,
    expected: VecDeque<Vec<u8>>,
    held: Vec<Packet>,
    reference: Reference,
    sequence: usize,
}

impl<'a> Bench<'a> {
    fn new(dma: &'a std::sync::Arc<HeapDma>, pool: &'static PacketPool, size: u32) -> Self {
        let registers = Registers::new();
        let mut cache = pool.claim_cache().expect("one is free");
        let mut ring = ReceiveRing::new(
            &**dma,
            RingSize::new(size).expect("a power of two"),
            registers.doorbell(Tail::Receive),
            Scatter {
                max_buffers: MAX_BUFFERS,
            },
        )
        .expect("the heap has room");
        ring.fill(&mut cache).expect("the pool has enough");
        ring.announce();
        Self {
            device: ReceiveModel::new(dma, &registers, ring.iova(), size),
            dma,
            pool,
            registers,
            cache,
            ring,
            batch: pool.batch().expect("the heap has room"),
            expected: VecDeque::new(),
            held: Vec::new(),
            reference: Reference::default(),
            sequence: 0,
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Device(pieces) => pieces.iter().for_each(|piece| self.complete(*piece)),
            Op::Reap(limit) => self.reap(*limit),
            Op::Hold(count) => (0..*count).for_each(|_| self.hold()),
            Op::Release(count) => self.held.truncate(self.held.len().saturating_sub(*count)),
            Op::Take(count) => {
                let taken = (0..*count).map_while(|_| Packet::allocate(self.pool));
                self.held.extend(taken);
            }
            Op::Refill => self.refill(),
        }
    }

    fn complete(&mut self, (len, end): (u16, bool)) {
        self.sequence += 1;
        let bytes: Vec<u8> = (0..len.min(2048))
            .map(|i| (usize::from(i) * 7 + self.sequence * 31) as u8)
            .collect();
        if self.device.receive(&bytes, len, end) {
            self.reference.reported.push_back((bytes, len, end));
        }
    }

    fn reap(&mut self, limit: usize) {
        let room = sumac_rref::BATCH - self.batch.len();
        let free = self.pool.account().free as usize;
        let size = self.ring.size() as usize;
        let frames = self.reference.reap(limit.min(room), free, size);
        let reaped = self.ring.reap(&mut self.cache, &mut self.batch, limit);
        assert_eq!(reaped, Ok(frames.len()));
        self.expected.extend(frames);
        assert_eq!(self.ring.counters(), self.reference.counters);
        let left = self.reference.reported.len() as u32;
        assert_eq!(self.ring.completed(u32::MAX), left);
    }

    fn hold(&mut self) {
        let packet = self.batch.pop_front();
        assert_eq!(packet.is_some(), !self.expected.is_empty());
        if let (Some(packet), Some(expected)) = (packet, self.expected.pop_front()) {
            let bytes: Vec<u8> = packet.segments().flatten().copied().collect();
            assert_eq!(bytes, expected);
            assert_eq!(packet.frame_len(), expected.len());
            self.held.push(packet);
        }
    }

    /// The device is stopped, the ring emptied and filled again.
    fn refill(&mut self) {
        let partial = self.reference.partial.len() as u32;
        let back = self.ring.drain(&mut self.cache);
        assert_eq!(back, self.ring.size() + partial);
        self.reference.reported.clear();
        self.reference.partial.clear();
        self.reference.skipping = false;
        self.check(0);
        if self.ring.fill(&mut self.cache).is_err() {
            self.held.clear();
            self.ring
                .fill(&mut self.cache)
                .expect("the pool has enough");
        }
        self.ring.announce();
        let (ring, size) = (self.ring.iova(), self.ring.size());
        self.device = ReceiveModel::new(self.dma, &self.registers, ring, size);
    }

    fn check(&self, posted: u32) {
        let account = self.pool.account();
        let batch = self.expected.iter().map(|f| f.len().div_ceil(2048).max(1));
        assert!(batch.sum::<usize>() <= account.held as usize);
        assert_eq!(account.device, posted);
        assert_eq!(account.free + account.device + account.held, account.total);
    }

    fn finish(mut self) {
        while !self.batch.is_empty() {
            self.hold();
        }
        assert!(self.expected.is_empty());
        let held: usize = self.held.iter().map(|p| p.segments().count()).sum();
        let partial = self.reference.partial.len();
        assert_eq!(self.pool.account().held as usize, held + partial);
        self.ring.drain(&mut self.cache);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn frames_come_whole_and_in_order(
        ops in vec(op(), 1..60),
        size in prop::sample::select(vec![8u32, 16, 64]),
        spare in prop::sample::select(vec![1u32, 3, 40, 400]),
    ) {
        with_pool(size + spare, |dma, pool| {
            let mut bench = Bench::new(dma, pool, size);
            for op in &ops {
                bench.run(op);
                bench.check(size);
            }
            bench.finish();
        });
    }
}

#[test]
fn a_frame_that_finds_the_pool_empty_does_not_block_the_ring() {
    with_pool(10, |dma, pool| {
        let mut bench = Bench::new(dma, pool, 8);
        for piece in [
            (2048, false),
            (2048, false),
            (2048, false),
            (9, true),
            (60, true),
        ] {
            bench.complete(piece);
        }
        bench.reap(64);
        assert_eq!(bench.ring.counters().starved, 1);
        bench.reap(64);
        bench.hold();
        assert_eq!(bench.ring.counters().frames, 1);
        bench.finish();
    });
}

#[test]
fn another_pool_is_refused() {
    with_pool(20, |dma, pool| {
        with_pool(21, |_, other| {
            let mut bench = Bench::new(dma, pool, 8);
            let mut foreign = other.claim_cache().expect("one is free");
            let mut batch = other.batch().expect("the heap has room");
            bench.complete((60, true));
            let refused = bench.ring.reap(&mut bench.cache, &mut batch, 1);
            assert_eq!(refused, Err(ForeignPool));
            let refused = bench.ring.reap(&mut foreign, &mut batch, 1);
            assert_eq!(refused, Err(ForeignPool));
            assert_eq!(bench.ring.drain(&mut foreign), 0);
            assert_eq!(bench.ring.fill(&mut foreign), Err(8));
            assert_eq!(other.account().free, 21);
            bench.reap(1);
            bench.hold();
            bench.finish();
        });
    });
}

#[test]
fn a_ring_never_filled_gives_nothing() {
    with_pool(20, |dma, pool| {
        let mut bench = Bench::new(dma, pool, 8);
        bench.ring.drain(&mut bench.cache);
        for slot in 0..8 {
            dma.store(bench.ring.iova().to_bits() + slot * 16 + 8, 3 | 60 << 32);
        }
        let reaped = bench.ring.reap(&mut bench.cache, &mut bench.batch, 64);
        assert_eq!(reaped, Ok(0));
        assert!(bench.batch.is_empty());
    });
}

#[test]
fn an_idle_ring_wants_no_buffers() {
    with_pool(9, |dma, pool| {
        let mut bench = Bench::new(dma, pool, 8);
        let last = Packet::allocate(pool).or_else(|| {
            bench.cache.flush();
            Packet::allocate(pool)
        });
        assert!(last.is_some());
        let before = pool.exhausted();
        (0..10).for_each(|_| bench.reap(64));
        assert_eq!(pool.exhausted(), before);
        bench.complete((60, true));
        bench.reap(64);
        assert_eq!(pool.exhausted(), before + 1);
        drop(last);
        bench.reap(64);
        bench.hold();
        bench.finish();
    });
}

#[test]
fn too_few_buffers_post_none() {
    with_pool(7, |dma, pool| {
        let registers = Registers::new();
        let mut cache = pool.claim_cache().expect("one is free");
        let size = RingSize::new(8).expect("a power of two");
        let doorbell = registers.doorbell(Tail::Receive);
        let scatter = Scatter { max_buffers: 1 };
        let ring = ReceiveRing::<PlainReceive>::new(&**dma, size, doorbell, scatter);
        let mut ring = ring.expect("the heap has room");
        assert_eq!(ring.fill(&mut cache), Err(1));
        assert_eq!(pool.account().free, 7);
    });
}
