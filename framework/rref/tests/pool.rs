//! The packet pool and its caches: accounting, spilling and restocking at their edges, claims,
//! exhaustion, several threads.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use sumac_device::ring::{BufferId, BufferPool};
use sumac_device::{DmaError, DmaMemory, DmaSpace};
use sumac_rref::{Packet, PacketCache, PacketPool, PoolError, SharedHeap};
use sumac_testbed::host::{HeapDma, with_pool};

#[derive(Clone, Debug)]
enum Op {
    Take(usize),
    Stock(usize),
    Give(usize),
    Packets(usize),
    Flush,
    /// The cache is dropped, which frees its claim, and another claimed.
    Reclaim,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0usize..700).prop_map(Op::Take),
        3 => (0usize..170).prop_map(Op::Stock),
        4 => (0usize..700).prop_map(Op::Give),
        1 => (0usize..50).prop_map(Op::Packets),
        1 => Just(Op::Flush),
        1 => Just(Op::Reclaim),
    ]
}

/// # Panics
/// When an id was handed out twice.
fn hold(held: &mut HashSet<BufferId>, id: BufferId) {
    assert!(held.insert(id), "buffer {id} was handed out twice");
}

/// A buffer, which the test holds by its number.
#[expect(unsafe_code, reason = "buffers are taken by number")]
fn take(cache: &mut PacketCache) -> Option<BufferId> {
    // SAFETY: the tests give back what they took.
    unsafe { cache.take() }
}

/// Takes what the cache shows of `wanted` buffers, but the first one.
#[expect(unsafe_code, reason = "buffers are taken by count")]
fn take_stock(cache: &mut PacketCache, wanted: usize) -> Vec<BufferId> {
    let shown = cache.stock(wanted);
    assert!(shown.len() <= wanted);
    let ids = shown.get(1..).unwrap_or(&[]).to_vec();
    // SAFETY: it showed one more; they are taken here.
    unsafe { cache.use_stock(ids.len()) };
    ids
}

/// Gives back `count` of the held buffers in one call.
#[expect(unsafe_code, reason = "buffers are given back by number")]
fn give(cache: &mut PacketCache, held: &mut HashSet<BufferId>, count: usize) {
    let ids: Vec<BufferId> = held.iter().take(count).copied().collect();
    held.retain(|id| !ids.contains(id));
    // SAFETY: they were taken from a cache of this pool, and `held` forgot them.
    unsafe { cache.give(&ids) };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_buffer_is_in_one_place(
        ops in vec((op(), any::<bool>()), 1..40),
        buffers in prop::sample::select(vec![1u32, 5, 130, 511, 1100, 2000]),
    ) {
        with_pool(buffers, |_, pool| {
            let claim = || pool.claim_cache().expect("one is free");
            let mut caches = [claim(), claim()];
            let mut held = HashSet::new();
            for (op, which) in ops {
                let cache = &mut caches[usize::from(which)];
                match op {
                    Op::Take(count) => {
                        for id in (0..count).map_while(|_| take(cache)) {
                            hold(&mut held, id);
                        }
                    }
                    Op::Stock(count) => {
                        for _ in 0..count {
                            take_stock(cache, 4).into_iter().for_each(|id| hold(&mut held, id));
                        }
                    }
                    Op::Give(count) => give(cache, &mut held, count),
                    Op::Packets(count) => {
                        let all: Vec<_> = (0..count).map_while(|_| Packet::allocate(pool)).collect();
                        assert_eq!(pool.account().held as usize, held.len() + all.len());
                    }
                    Op::Flush => cache.flush(),
                    Op::Reclaim => {
                        cache.flush();
                        *cache = claim();
                    }
                }
                let account = pool.account();
                assert_eq!(account.held as usize, held.len());
                assert_eq!(account.free + account.held, account.total);
                assert_eq!(account.device, 0);
            }
            give(&mut caches[0], &mut held, usize::MAX);
        });
    }
}

#[test]
fn a_cache_alone_can_take_all_and_hold_a_shelf() {
    with_pool(1024, |_, pool| {
        let mut cache = pool.claim_cache().expect("one is free");
        let mut held: HashSet<_> = std::iter::from_fn(|| take(&mut cache)).collect();
        assert_eq!(held.len(), 1024);
        assert_eq!(cache.stock(4), []);
        assert_eq!(pool.exhausted(), 2);
        // Somebody found the depot empty: what comes back first goes there.
        give(&mut cache, &mut held, 1);
        assert_eq!(pool.audit(), Ok(1));
        give(&mut cache, &mut held, 512);
        assert_eq!((pool.account().free, pool.audit()), (513, Ok(1)));
        // The shelf is full: one more spills to the depot.
        give(&mut cache, &mut held, 1);
        assert!(pool.audit().is_ok_and(|in_depot| in_depot > 1));
        give(&mut cache, &mut held, 510);
        assert_eq!(pool.account().free, 1024);
    });
}

#[test]
fn there_are_256_claims_and_they_are_used_again() {
    with_pool(4, |_, pool| {
        let mut caches: Vec<_> = (0..256).map_while(|_| pool.claim_cache().ok()).collect();
        assert_eq!(caches.len(), 256);
        assert_eq!(pool.claim_cache().err(), Some(PoolError::NoCache));
        let id = take(&mut caches[7]);
        assert!(id.is_some());
        give(&mut caches[200], &mut id.into_iter().collect(), 1);
        caches.truncate(255);
        assert!(pool.claim_cache().is_ok());
    });
}

#[test]
fn sizes_out_of_range_are_refused() {
    let dma = HeapDma::default();
    for buffers in [0, (1 << 22) + 1, u32::MAX] {
        let refused = PacketPool::create(SharedHeap::create(), &dma, buffers);
        assert_eq!(refused.err(), Some(PoolError::BadSize { buffers }));
    }
}

/// A host that hands out less than was asked.
struct Short(HeapDma);

impl DmaSpace for Short {
    fn allocate(&self, len: usize, align: usize) -> Result<DmaMemory, DmaError> {
        self.0.allocate(len - 1, align)
    }
}

#[test]
fn memory_shorter_than_asked_is_refused() {
    let refused = PacketPool::create(SharedHeap::create(), &Short(HeapDma::default()), 8);
    let bytes = 8 * sumac_rref::pool::STRIDE;
    let expected = DmaError::BadMemory { bytes, align: 64 };
    assert_eq!(refused.err(), Some(PoolError::Dma(expected)));
}

#[test]
fn a_frame_that_does_not_fit_the_pool_takes_nothing() {
    with_pool(3, |_, pool| {
        assert!(Packet::from_frame(pool, &[7; 3 * 2048 + 1]).is_none());
        assert_eq!(pool.account().free, 3);
        let frame: Vec<u8> = (0..3 * 2048).map(|i| i as u8).collect();
        let packet = Packet::from_frame(pool, &frame).expect("three buffers");
        assert_eq!(packet.frame_len(), frame.len());
        assert_eq!(
            packet.segments().flatten().copied().collect::<Vec<_>>(),
            frame
        );
        assert_eq!(pool.account().held, 3);
    });
}

#[test]
fn threads_share_a_pool() {
    with_pool(2048, |_, pool| {
        let work = |seed: usize| {
            let mut cache = pool.claim_cache().expect("one is free");
            let mut held = HashSet::new();
            for round in 0..400 {
                let wanted = (seed * 37 + round * 101) % 300;
                for id in (0..wanted).map_while(|_| take(&mut cache)) {
                    hold(&mut held, id);
                }
                let mut packet = Packet::from_frame(pool, &[seed as u8; 3000]);
                if let Some(packet) = &mut packet {
                    packet.data_mut()[0] = round as u8;
                    let mut segments = packet.segments();
                    let first = segments.next().map(|bytes| (bytes[0], bytes[1]));
                    assert_eq!(first, Some((round as u8, seed as u8)));
                    assert!(segments.flatten().all(|byte| *byte == seed as u8));
                }
                give(&mut cache, &mut held, (round * 53) % 350);
            }
            give(&mut cache, &mut held, usize::MAX);
        };
        std::thread::scope(|scope| {
            (1..=4).for_each(|seed| drop(scope.spawn(move || work(seed))));
            // Whoever looks meanwhile sees no more than there is.
            for _ in 0..200 {
                let account = pool.account();
                assert!(account.held <= account.total && account.device == 0);
            }
        });
    });
}

#[test]
fn stock_that_lies_idle_starves_nobody() {
    with_pool(100, |_, pool| {
        let mut first = pool.claim_cache().expect("one is free");
        let mut second = pool.claim_cache().expect("one is free");
        let id = take(&mut first).expect("the pool is full");
        assert_eq!(take(&mut second), None, "all are in the first one's stock");
        // Whoever has none cannot answer the request, not even its own.
        second.share();
        first.share();
        let other = take(&mut second).expect("the first one gave its stock up");
        give(&mut first, &mut HashSet::from([id]), 1);
        give(&mut second, &mut HashSet::from([other]), 1);
    });
}
