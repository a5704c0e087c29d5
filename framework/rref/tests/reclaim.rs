//! What a domain owned comes back when it is gone: objects by type, packets, caches and what its rings
//! had posted. Each buffer once, and nothing of anybody else's.
// UNSAFETY: the tests stand in for gates and for the runtime that reclaims.
#![expect(unsafe_code)]

use sumac_device::ring::{BufferPool, NO_BUFFER};
use sumac_rref::{DomainId, Exchangeable, Mover, Packet, PacketPool, SharedHeap};
use sumac_testbed::host::HeapDma;
use sumac_testbed::pretend::{HOOKS, inside};

const DRIVER: DomainId = DomainId::new(7);
const OTHER: DomainId = DomainId::new(8);

fn pool(buffers: u32) -> &'static PacketPool {
    let heap = SharedHeap::create_for(HOOKS);
    PacketPool::create(heap, &HeapDma::default(), buffers).expect("memory for packets")
}

#[test]
fn batches_of_the_dead_are_dropped_by_type() {
    let pool = pool(64);
    let heap = pool.heap();
    let mut batch = inside(DRIVER, || pool.batch().expect("room"));
    for _ in 0..5 {
        let packet = Packet::from_frame(pool, &[1; 5000]).expect("buffers are left");
        batch.push_back(packet).expect("room");
    }
    let number = inside(DRIVER, || heap.allocate(7u64).expect("room"));
    let others = inside(OTHER, || heap.allocate(8u64).expect("room"));
    assert_eq!(heap.count_owned(DRIVER), 2);
    assert_eq!(pool.account().held, 15);
    std::mem::forget((batch, number));
    // SAFETY: no thread runs as the domain, and what it held was forgotten.
    let report = unsafe { heap.reclaim(DRIVER) };
    assert_eq!((report.freed, report.borrowed, report.unknown), (2, 0, 0));
    assert_eq!((heap.count(), *others), (1, 8));
    assert_eq!(pool.account().free, 64);
}

#[test]
fn what_moved_away_lives_on_and_what_is_borrowed_waits() {
    let heap = SharedHeap::create_for(HOOKS);
    let moved = inside(DRIVER, || heap.allocate(1u32).expect("room"));
    // SAFETY: the object is handed over right here.
    moved.move_to(&unsafe { Mover::to(OTHER) });
    let lent = inside(DRIVER, || heap.allocate(2u32).expect("room"));
    // SAFETY: released below.
    unsafe { lent.header().borrow() };
    // SAFETY: no thread runs as the domain; what it lent is not freed.
    let first = unsafe { heap.reclaim(DRIVER) };
    assert_eq!((first.freed, first.borrowed), (0, 1));
    assert_eq!((*moved, *lent), (1, 2));
    // SAFETY: ends the borrow above.
    unsafe { lent.header().release() };
    std::mem::forget(lent);
    // SAFETY: as above; the handle was forgotten.
    let second = unsafe { heap.reclaim(DRIVER) };
    assert_eq!((second.freed, second.borrowed), (1, 0));
    assert_eq!(heap.count(), 1);
}

#[test]
fn buffers_of_the_dead_come_back_once() {
    let pool = pool(1024);
    let (mut cache, single, chain) = inside(DRIVER, || {
        let cache = pool.claim_cache().expect("a shelf is free");
        let single = Packet::allocate(pool).expect("a buffer is left");
        let chain = Packet::from_frame(pool, &[2; 6000]).expect("buffers are left");
        (cache, single, chain)
    });
    let kept = Packet::from_frame(pool, &[3; 6000]).expect("buffers are left");
    // A ring's table: eight posted, some twice as after a death half way, then a frame under way.
    // SAFETY: the table knows what is taken, as a ring's does.
    let mut take = || unsafe { cache.take() }.expect("stocked");
    let mut table: Vec<u32> = (0..8).map(|_| take()).collect();
    table.extend([table[0], NO_BUFFER, 5_000_000]);
    let (head, part) = (take(), take());
    table.push(head);
    // SAFETY: both were just taken; the table has eight more.
    unsafe {
        cache.link(head, part, 100);
        cache.account(8, 0);
    }
    std::mem::forget((cache, single, chain));
    // SAFETY: no thread runs as the domain, what it held was forgotten, and there is no device.
    unsafe { pool.recover(DRIVER, [&table[..]]) };
    let account = pool.account();
    assert_eq!((account.free, account.device, account.held), (1021, 0, 3));
    // SAFETY: as above; nothing is left to come back.
    assert_eq!(unsafe { pool.recover(DRIVER, [&[NO_BUFFER][..]]) }, 0);
    assert_eq!(kept.frame_len(), 6000);
    drop(kept);
    assert_eq!(pool.account().free, 1024);
    // Each is handed out once again.
    let mut cache = pool.claim_cache().expect("the shelf was given up");
    // SAFETY: the test ends here, and the pool with it.
    let mut all: Vec<_> = std::iter::from_fn(|| unsafe { cache.take() }).collect();
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..1024));
}

#[test]
fn a_tree_whose_owner_dies_is_freed_once() {
    let heap = SharedHeap::create_for(HOOKS);
    let (root, moved) = inside(DRIVER, || {
        let leaf = |value: u64| heap.allocate(value).expect("room");
        let mut root = heap.allocate([Some(leaf(1)), Some(leaf(2))]).expect("room");
        let moved = root.edit(|held| held[1].take()).expect("there");
        (root, moved)
    });
    // SAFETY: the object is handed over right here.
    moved.move_to(&unsafe { Mover::to(OTHER) });
    assert_eq!((heap.count(), heap.count_owned(DRIVER)), (3, 1));
    std::mem::forget(root);
    // SAFETY: no thread runs as the domain, and what it held was forgotten.
    let report = unsafe { heap.reclaim(DRIVER) };
    assert_eq!((report.freed, report.unknown), (1, 0));
    assert_eq!((heap.count(), *moved), (1, 2));
}

#[test]
fn a_tree_whose_owner_died_changing_it_is_freed_once() {
    let heap = SharedHeap::create_for(HOOKS);
    let kept = inside(DRIVER, || {
        let leaf = |value: u64| heap.allocate([value; 9]).expect("room");
        let mut root = heap.allocate([Some(leaf(1)), Some(leaf(2))]).expect("room");
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            root.edit(|held| {
                let taken = held[1].take().expect("there");
                // SAFETY: as if its domain ended here: neither this nor what holds it is used again, but
                // for the parts that are looked at below.
                let report = unsafe { heap.reclaim(DRIVER) };
                std::mem::forget(taken);
                // What is left in the root is gone as well.
                std::mem::forget(held[0].take());
                panic!("{report:?}");
            })
        }));
        std::mem::forget(root);
        died.map(drop).expect_err("it panicked")
    });
    let said = kept.downcast_ref::<String>().expect("a text");
    assert!(
        said.contains("freed: 3") && said.contains("unknown: 0"),
        "{said}"
    );
    assert_eq!(heap.count(), 0);
}
