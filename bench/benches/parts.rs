//! Benchmarks of the parts a packet passes, without a device's time: the tests' device completes
//! descriptors outside of what is measured. Figures are of 32 packets unless the name says otherwise.
//!
//! `cargo bench -p sumac-bench --bench parts -- --quick` takes a few seconds.
// UNSAFETY: buffers are given back by number.
#![expect(unsafe_code)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sumac_device::ring::{BufferPool, ReceiveFormat, ReceiveRing, RingSize, Scatter};
use sumac_device::ring::{TransmitFormat, TransmitRing};
use sumac_rref::{Packet, PacketBatch, PacketCache, PacketPool, SharedHeap};
use sumac_testbed::format::{PlainReceive, PlainTransmit};
use sumac_testbed::host::{HeapDma, Registers, Tail};

/// Packets a burst.
const BURST: usize = 32;
/// Descriptors of a ring.
const RING: u32 = 512;
/// Status of a whole frame of 60 bytes.
const RECEIVED: u64 = PlainReceive::DONE | PlainReceive::END | 60 << 32;

struct Bench {
    dma: Arc<HeapDma>,
    registers: Arc<Registers>,
    pool: &'static PacketPool,
    cache: PacketCache,
    batch: PacketBatch,
}

impl Bench {
    fn new() -> Self {
        let dma = Arc::new(HeapDma::default());
        let pool =
            PacketPool::create(SharedHeap::create(), &*dma, 2048).expect("the heap has room");
        Self {
            dma,
            registers: Registers::new(),
            pool,
            cache: pool.claim_cache().expect("one is free"),
            batch: pool.batch().expect("the heap has room"),
        }
    }

    fn size() -> RingSize {
        RingSize::new(RING).expect("a power of two")
    }

    fn fill_batch(&mut self, packets: usize) {
        while self.batch.len() < packets {
            let packet = Packet::from_frame(self.pool, &[2; 60]).expect("the pool has room");
            self.batch.push_back(packet).expect("there is room");
        }
    }
}

/// The time `iterations` of `measured` take, `before` each not counted.
fn timed<T>(
    iterations: u64,
    state: &mut T,
    before: impl Fn(&mut T),
    measured: impl Fn(&mut T),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        before(state);
        let start = Instant::now();
        measured(state);
        total += start.elapsed();
    }
    total
}

fn pool(c: &mut Criterion) {
    let mut bench = Bench::new();
    c.bench_function("pool/take-give/32", |b| {
        b.iter(|| {
            let mut ids = [0; BURST];
            for id in &mut ids {
                // SAFETY: given back below.
                *id = unsafe { bench.cache.take() }.expect("the pool has room");
            }
            // SAFETY: they were just taken.
            unsafe { bench.cache.give(black_box(&ids)) };
        });
    });
    c.bench_function("pool/stock-give/32", |b| {
        b.iter(|| {
            let mut ids = [0; BURST];
            ids.copy_from_slice(bench.cache.stock(BURST));
            // SAFETY: it showed 32, which are taken and given back here.
            unsafe {
                bench.cache.use_stock(BURST);
                bench.cache.give(black_box(&ids));
            }
        });
    });
}

fn receive(c: &mut Criterion) {
    let bench = Bench::new();
    let doorbell = bench.registers.doorbell(Tail::Receive);
    let scatter = Scatter { max_buffers: 6 };
    let ring = ReceiveRing::<PlainReceive>::new(&*bench.dma, Bench::size(), doorbell, scatter);
    let mut state = (bench, ring.expect("the heap has room"));
    let (bench, ring) = &mut state;
    ring.fill(&mut bench.cache).expect("the pool has room");
    c.bench_function("receive/reap/32", |b| {
        b.iter_custom(|iterations| {
            let complete = |(bench, ring): &mut (Bench, ReceiveRing<PlainReceive>)| {
                bench.batch.clear();
                for slot in 0..BURST as u32 {
                    let slot = (ring.next_index() + slot) % RING;
                    let status = ring.iova().to_bits() + u64::from(slot) * 16 + 8;
                    bench.dma.store(status, RECEIVED);
                }
            };
            timed(iterations, &mut state, complete, |(bench, ring)| {
                let reaped = ring.reap(&mut bench.cache, &mut bench.batch, BURST);
                assert_eq!(reaped, Ok(BURST));
            })
        });
    });
}

fn transmit(c: &mut Criterion) {
    let bench = Bench::new();
    let ring = TransmitRing::new(
        &*bench.dma,
        Bench::size(),
        bench.registers.doorbell(Tail::Transmit),
        PlainTransmit::default(),
    );
    let mut state = (bench, ring.expect("the heap has room"), 0u32);
    c.bench_function("transmit/post-reclaim/32", |b| {
        b.iter_custom(|iterations| {
            let prepare = |(bench, ring, head): &mut (Bench, TransmitRing<PlainTransmit>, u32)| {
                bench.fill_batch(BURST);
                // All that was posted is sent; reports are at the last descriptor of each burst.
                let tail = bench.registers.tail(Tail::Transmit);
                while *head != tail {
                    let status = ring.iova().to_bits() + u64::from(*head) * 16 + 8;
                    let word = bench.dma.load(status);
                    if word & PlainTransmit::REPORT != 0 {
                        bench.dma.store(status, word | PlainTransmit::DONE);
                    }
                    *head = (*head + 1) % RING;
                }
            };
            timed(iterations, &mut state, prepare, |(bench, ring, _)| {
                let posted = ring.post(&mut bench.cache, &mut bench.batch);
                assert_eq!(posted, Ok(BURST));
            })
        });
    });
}

fn batch(c: &mut Criterion) {
    let mut bench = Bench::new();
    bench.fill_batch(BURST);
    c.bench_function("batch/pop-push/1", |b| {
        b.iter(|| {
            let packet = bench.batch.pop_front().expect("32 are in it");
            let pushed = bench.batch.push_back(black_box(packet));
            assert!(pushed.is_ok());
        });
    });
    c.bench_function("batch/rewrite-macs/32", |b| {
        let macs = black_box(*b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02");
        b.iter(|| {
            for mut packet in bench.batch.packets_mut() {
                if let Some(header) = packet.data_mut().first_chunk_mut::<12>() {
                    *header = macs;
                }
            }
        });
    });
    c.bench_function("packet/allocate-drop/1", |b| {
        b.iter(|| Packet::allocate(bench.pool).map(|packet| packet.frame_len()));
    });
}

criterion_group!(parts, pool, receive, transmit, batch);
criterion_main!(parts);
