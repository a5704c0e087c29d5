//! The transmit ring against a device that checks what it is given: plain frames, chains and offloads,
//! reports withheld, reclaim, drain.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use sumac_device::ring::{ForeignPool, RingSize, TransmitRing};
use sumac_rref::{Packet, PacketBatch, PacketCache, PacketPool};
use sumac_testbed::format::PlainTransmit;
use sumac_testbed::host::{HeapDma, Registers, Tail, with_pool};
use sumac_testbed::model::{Sent, TransmitModel};

#[derive(Clone, Debug)]
enum Op {
    /// Frames into the batch: length, and the tag of an offload.
    Frames(Vec<(usize, Option<u16>)>),
    Post,
    Send(usize),
    Report(usize),
    Reclaim,
    Reset,
}

fn frame() -> impl Strategy<Value = (usize, Option<u16>)> {
    let len = prop_oneof![6 => 1usize..2048, 2 => 2048usize..9000, 1 => 9000usize..40_000];
    let tag = prop_oneof![3 => Just(None), 1 => (0u16..3).prop_map(Some)];
    (len, tag)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => vec(frame(), 1..12).prop_map(Op::Frames),
        3 => vec((60usize..1500).prop_map(|len| (len, None)), 1..64).prop_map(Op::Frames),
        6 => Just(Op::Post),
        5 => (0usize..100).prop_map(Op::Send),
        4 => (0usize..10).prop_map(Op::Report),
        1 => Just(Op::Reclaim),
        1 => Just(Op::Reset),
    ]
}

struct Bench<'a> {
    dma: &'a Arc<HeapDma>,
    pool: &'static PacketPool,
    registers: Arc<Registers>,
    cache: PacketCache,
    ring: TransmitRing<PlainTransmit>,
    device: TransmitModel,
    batch: PacketBatch,
    /// In the batch, and posted but not sent.
    waiting: VecDeque<Sent>,
    posted: VecDeque<Sent>,
    too_long: u64,
    sequence: usize,
}

impl<'a> Bench<'a> {
    fn new(dma: &'a Arc<HeapDma>, pool: &'static PacketPool, size: u32) -> Self {
        let registers = Registers::new();
        let ring = TransmitRing::new(
            &**dma,
            RingSize::new(size).expect("a power of two"),
            registers.doorbell(Tail::Transmit),
            PlainTransmit::default(),
        )
        .expect("the heap has room");
        Self {
            device: TransmitModel::new(dma, &registers, ring.iova(), size),
            dma,
            pool,
            registers,
            cache: pool.claim_cache().expect("one is free"),
            ring,
            batch: pool.batch().expect("the heap has room"),
            waiting: VecDeque::new(),
            posted: VecDeque::new(),
            too_long: 0,
            sequence: 0,
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Frames(frames) => frames.iter().for_each(|(len, tag)| self.frame(*len, *tag)),
            Op::Post => self.post(),
            Op::Send(limit) => {
                for sent in self.device.send(*limit) {
                    assert_eq!(Some(sent), self.posted.pop_front());
                }
            }
            Op::Report(limit) => self.device.report(*limit),
            Op::Reclaim => self.ring.reclaim(&mut self.cache),
            Op::Reset => self.reset(),
        }
    }

    fn frame(&mut self, len: usize, tag: Option<u16>) {
        self.sequence += 1;
        let bytes: Vec<u8> = (0..len)
            .map(|i| (i * 5 + self.sequence * 31) as u8)
            .collect();
        let Some(mut packet) = Packet::from_frame(self.pool, &bytes) else {
            return;
        };
        if let Some(tag) = tag {
            packet.request_vlan(tag);
        }
        if self.batch.push_back(packet).is_ok() {
            self.waiting.push_back(Sent { bytes, tag });
        }
    }

    fn post(&mut self) {
        let taken = self.ring.post(&mut self.cache, &mut self.batch);
        let taken = taken.expect("it is the ring's pool");
        for frame in self.waiting.drain(..taken) {
            // As many buffers and one for a context must fit, and one slot stays empty.
            if frame.bytes.len().div_ceil(2048) + 1 > self.ring.size() as usize - 1 {
                self.too_long += 1;
            } else {
                self.posted.push_back(frame);
            }
        }
        assert_eq!(self.ring.counters().too_long, self.too_long);
        assert_eq!(self.batch.len(), self.waiting.len());
    }

    fn reset(&mut self) {
        self.ring.drain(&mut self.cache);
        assert_eq!(self.ring.outstanding(), 0);
        assert_eq!(self.pool.account().device, 0);
        self.posted.clear();
        self.registers.doorbell(Tail::Transmit).ring(0);
        let (ring, size) = (self.ring.iova(), self.ring.size());
        self.device = TransmitModel::new(self.dma, &self.registers, ring, size);
    }

    fn check(&mut self) {
        let account = self.pool.account();
        let batch: usize = self.batch.packets_mut().map(|p| p.segments().count()).sum();
        assert_eq!(account.held as usize, batch);
        assert!(account.device <= self.ring.outstanding());
        assert!(self.ring.outstanding() < self.ring.size());
        assert_eq!(account.free + account.device + account.held, account.total);
    }

    /// All is sent and reported: everything must leave the ring, and what waits must find room.
    fn finish(mut self) {
        while !self.batch.is_empty() || !self.posted.is_empty() {
            let before = (self.batch.len(), self.posted.len());
            self.run(&Op::Send(usize::MAX));
            self.device.report(usize::MAX);
            self.post();
            let after = (self.batch.len(), self.posted.len());
            assert_ne!(before, after, "the ring is stuck");
        }
        self.device.report(usize::MAX);
        self.ring.reclaim(&mut self.cache);
        assert_eq!(self.ring.outstanding(), 0);
        let account = self.pool.account();
        assert_eq!((account.free, account.device), (account.total, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn frames_go_whole_and_in_order(
        ops in vec(op(), 1..60),
        size in prop::sample::select(vec![8u32, 16, 32, 128, 256]),
        buffers in prop::sample::select(vec![30u32, 300, 900]),
    ) {
        with_pool(buffers, |dma, pool| {
            let mut bench = Bench::new(dma, pool, size);
            for op in &ops {
                bench.run(op);
                bench.check();
            }
            bench.finish();
        });
    }
}

#[test]
fn a_chain_finds_the_slots_of_finished_frames() {
    with_pool(60, |dma, pool| {
        let mut bench = Bench::new(dma, pool, 32);
        (0..28).for_each(|_| bench.frame(60, None));
        bench.post();
        bench.run(&Op::Send(100));
        bench.device.report(100);
        bench.frame(5 * 2048, None);
        bench.post();
        assert!(bench.batch.is_empty());
        bench.finish();
    });
}

#[test]
fn another_pool_is_refused_while_buffers_are_posted() {
    with_pool(20, |dma, pool| {
        with_pool(21, |_, other| {
            let mut bench = Bench::new(dma, pool, 8);
            bench.frame(60, None);
            bench.post();
            let mut foreign = other.claim_cache().expect("one is free");
            let mut batch = other.batch().expect("the heap has room");
            let refused = bench.ring.post(&mut foreign, &mut batch);
            assert_eq!(refused, Err(ForeignPool));
            let refused = bench.ring.post(&mut foreign, &mut bench.batch);
            assert_eq!(refused, Err(ForeignPool));
            bench.run(&Op::Send(9));
            bench.device.report(9);
            bench.ring.reclaim(&mut foreign);
            assert_eq!(bench.ring.drain(&mut foreign), 0);
            assert_eq!(bench.ring.outstanding(), 1);
            bench.ring.reclaim(&mut bench.cache);
            assert_eq!(bench.ring.post(&mut foreign, &mut batch), Ok(0));
            bench.finish();
        });
    });
}
