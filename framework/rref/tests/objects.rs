//! Shared objects: who owns what, and that what goes away goes away once.

use std::collections::{HashMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;
use sumac_rref::{DomainId, Exchangeable, Packet, RRef, RRefDeque, SharedHeap, TypeTag};
use sumac_testbed::host::with_pool;

#[test]
fn a_child_has_no_owner_and_gets_the_roots_when_taken_out() {
    let heap = SharedHeap::create();
    let mut queue = RRefDeque::<RRef<u64>, 4>::new(heap, ()).expect("the heap has room");
    let object = heap.allocate(7u64).expect("fits");
    assert_eq!(heap.count_owned(DomainId::HOST), 2);
    queue.push_back(object).expect("there is room");
    assert_eq!(heap.count_owned(DomainId::HOST), 1);
    assert_eq!(heap.count_owned(DomainId::NONE), 1);
    let object = queue.pop_front().expect("one is in it");
    assert_eq!(object.header().owner(), queue.header().owner());
    assert_eq!(*object, 7);
    assert_eq!(heap.count_owned(DomainId::HOST), 2);
}

#[test]
fn a_queue_dropped_drops_its_items() {
    let heap = SharedHeap::create();
    let mut queue = RRefDeque::<RRef<[u8; 100]>, 3>::new(heap, ()).expect("the heap has room");
    for i in 0..3 {
        let object = heap.allocate([i; 100]).expect("fits");
        queue.push_back(object).expect("there is room");
    }
    assert!(queue.is_full());
    let one_more = heap.allocate([9; 100]).expect("fits");
    let refused = queue.push_back(one_more).expect_err("it is full");
    assert_eq!(refused.header().owner(), DomainId::HOST);
    assert_eq!(heap.count(), 5);
    drop(refused);
    assert_eq!(queue.pop_front().map(RRef::into_inner), Some([0; 100]));
    drop(queue);
    assert_eq!(heap.count(), 0);
}

/// An object that holds others, as its last field another one that does.
type Tree = (
    Option<RRef<u64>>,
    [RRef<[u8; 100]>; 2],
    RRef<(RRef<u32>, u8)>,
);

fn tree(heap: &'static SharedHeap) -> RRef<Tree> {
    let object = |value| heap.allocate([value; 100]).expect("fits");
    let leaf = heap.allocate(4u32).expect("fits");
    let inner = heap.allocate((leaf, 5u8)).expect("fits");
    let first = heap.allocate(1u64).expect("fits");
    heap.allocate((Some(first), [object(2), object(3)], inner))
        .expect("fits")
}

#[test]
fn what_an_object_holds_goes_with_it_and_gets_an_owner_when_taken_out() {
    let heap = SharedHeap::create();
    let mut root = tree(heap);
    // Two leaves and two of bytes, a pair, and the root, which alone has an owner.
    assert_eq!((heap.count(), heap.count_owned(DomainId::HOST)), (6, 1));
    assert_eq!((root.1[1][99], *root.2.0), (3, 4));
    let taken = root.edit(|tree| {
        assert_eq!(
            heap.count_owned(DomainId::HOST),
            5,
            "all but what the pair holds"
        );
        let other = heap.allocate([7; 100]).expect("fits");
        (tree.0.take(), std::mem::replace(&mut tree.1[0], other))
    });
    let (Some(first), bytes) = taken else {
        panic!("there was one");
    };
    assert_eq!((*first, bytes[0]), (1, 2));
    let owners = [first.header().owner(), bytes.header().owner()];
    assert_eq!(owners, [DomainId::HOST; 2]);
    assert_eq!((heap.count(), heap.count_owned(DomainId::HOST)), (7, 3));
    let (none, [seven, three], pair) = root.into_inner();
    assert!(none.is_none());
    assert_eq!(
        heap.count_owned(DomainId::HOST),
        5,
        "what it held, not the leaf"
    );
    let (leaf, five) = pair.into_inner();
    assert_eq!((seven[0], three[0], *leaf, five), (7, 3, 4, 5));
    assert_eq!(leaf.header().owner(), DomainId::HOST);
    drop((first, bytes, seven, three, leaf));
    assert_eq!(heap.count(), 0);
}

#[test]
fn an_object_that_is_dropped_takes_what_it_holds_along() {
    let heap = SharedHeap::create();
    drop(tree(heap));
    assert_eq!(heap.count(), 0);
    let mut queue = RRefDeque::<RRef<Tree>, 2>::new(heap, ()).expect("fits");
    queue.push_back(tree(heap)).expect("room");
    queue.push_back(tree(heap)).expect("room");
    assert_eq!((heap.count(), heap.count_owned(DomainId::HOST)), (13, 1));
    let one = queue.pop_front().expect("two are in it");
    assert_eq!(heap.count_owned(DomainId::HOST), 2);
    drop(queue);
    assert_eq!(heap.count(), 6);
    drop(one);
    assert_eq!(heap.count(), 0);
}

#[test]
fn packets_are_children_in_a_batch_and_owned_out_of_it() {
    with_pool(70, |_, pool| {
        let mut batch = pool.batch().expect("the heap has room");
        for i in 0..64u8 {
            let packet = Packet::from_frame(pool, &[i; 60]).expect("the pool has room");
            assert_eq!(packet.header().map(|h| h.owner()), Some(DomainId::HOST));
            batch.push_back(packet).expect("there is room");
        }
        assert_eq!(pool.count_owned(DomainId::HOST), 0);
        assert_eq!(pool.account().held, 64);
        let packet = batch.pop_front().expect("64 are in it");
        assert_eq!(
            (packet.data(), pool.count_owned(DomainId::HOST)),
            (&[0; 60][..], 1)
        );
        drop(packet);
        assert_eq!(pool.count_owned(DomainId::HOST), 0);
        drop(batch);
        assert_eq!((pool.account().held, pool.heap().count()), (0, 0));
    });
}

#[test]
fn chains_go_with_their_packet() {
    with_pool(20, |_, pool| {
        let mut batch = pool.batch().expect("the heap has room");
        let chain = Packet::from_frame(pool, &[5; 9000]).expect("the pool has room");
        batch.push_back(chain).expect("there is room");
        for packet in batch.packets_mut() {
            assert_eq!((packet.frame_len(), packet.segments().count()), (9000, 5));
        }
        assert_eq!(pool.account().held, 5);
        drop(batch.pop_front());
        assert_eq!(pool.account().held, 0);
        let chain = Packet::from_frame(pool, &[5; 9000]).expect("the pool has room");
        batch.push_back(chain).expect("there is room");
        batch.clear();
        assert_eq!(pool.account().held, 0);
    });
}

#[test]
fn a_packet_of_another_pool_is_handed_back() {
    with_pool(3, |_, pool| {
        with_pool(4, |_, other| {
            let mut batch = pool.batch().expect("the heap has room");
            let packet = Packet::allocate(other).expect("the pool has room");
            let packet = batch.push_back(packet).expect_err("it is of another pool");
            assert_eq!(packet.header().map(|h| h.owner()), Some(DomainId::HOST));
            assert!(batch.is_empty());
        });
    });
}

/// Numbers, arrays and arrays of arrays: all tags differ.
#[test]
fn type_tags_differ() {
    let mut seen: HashMap<TypeTag, &str> = HashMap::new();
    let mut add = |tag, name| {
        assert_ne!(tag, TypeTag(0));
        assert_eq!(seen.insert(tag, name), None, "{name} shares its tag");
    };
    macro_rules! numbers {
        ($($number:ty),+) => {$(
            add(<$number>::TAG, stringify!($number));
            add(<[$number; 0]>::TAG, stringify!([$number; 0]));
            add(<[$number; 1]>::TAG, stringify!([$number; 1]));
            add(<[$number; 2]>::TAG, stringify!([$number; 2]));
            add(<[$number; 3]>::TAG, stringify!([$number; 3]));
            add(<[$number; 4]>::TAG, stringify!([$number; 4]));
            add(<[$number; 8]>::TAG, stringify!([$number; 8]));
            add(<[[$number; 2]; 4]>::TAG, stringify!([[$number; 2]; 4]));
            add(<[[$number; 4]; 2]>::TAG, stringify!([[$number; 4]; 2]));
        )+};
    }
    numbers!(u8, u16, u32, u64, i8, i16, i32, i64);
}

proptest! {
    /// A queue of packets of every length, against `VecDeque`.
    #[test]
    fn a_queue_is_a_bounded_fifo(ops in vec(prop::option::of(0usize..5000), 1..200)) {
        with_pool(64, |_, pool| {
            let heap = SharedHeap::create();
            let mut queue = RRefDeque::<Packet, 7>::new(heap, pool).expect("the heap has room");
            let mut reference = VecDeque::new();
            for (i, op) in ops.into_iter().enumerate() {
                match op {
                    Some(len) => {
                        let frame = vec![i as u8; len];
                        let packet = Packet::from_frame(pool, &frame).expect("the pool has room");
                        let pushed = queue.push_back(packet).is_ok();
                        assert_eq!(pushed, reference.len() < 7);
                        if pushed {
                            reference.push_back(frame);
                        }
                    }
                    None => {
                        let packet = queue.pop_front();
                        let bytes = packet.map(|p| p.segments().flatten().copied().collect());
                        assert_eq!(bytes, reference.pop_front());
                    }
                }
                assert_eq!(queue.len(), reference.len());
                let lengths: Vec<_> = queue.packets_mut().map(|p| p.frame_len()).collect();
                let expected: Vec<_> = reference.iter().map(Vec::len).collect();
                assert_eq!(lengths, expected);
            }
        });
    }

    /// The heap under allocation and release of several sizes.
    #[test]
    fn objects_keep_their_values(ops in vec((any::<u64>(), 0usize..4), 1..300)) {
        let heap = SharedHeap::create();
        let (mut words, mut blocks) = (Vec::new(), Vec::new());
        for (value, op) in ops {
            match op {
                0 => words.push((heap.allocate(value).expect("fits"), value)),
                1 => {
                    let block = [value as u8; 9000];
                    blocks.push((heap.allocate(block).expect("fits"), block));
                }
                2 if !words.is_empty() => {
                    let (object, expected) = words.swap_remove(value as usize % words.len());
                    assert_eq!(object.into_inner(), expected);
                }
                _ if !blocks.is_empty() => drop(blocks.swap_remove(value as usize % blocks.len())),
                _ => {}
            }
            assert_eq!(heap.count(), words.len() + blocks.len());
        }
        assert!(words.iter().all(|(object, value)| **object == *value));
        assert!(blocks.iter().all(|(object, value)| **object == *value));
    }
}
