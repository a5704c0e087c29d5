//! Types that may cross: what is derived for structs and enums of every form, and what moving them does.

#![allow(dead_code)]

mod gate;

use std::collections::BTreeSet;

use gate::{TestGate, current, heap};
use sumac_interface::{Exchangeable, Gate};
use sumac_rref::{DomainId, PacketBatch, PoolGrant, RRef};

#[derive(Exchangeable)]
struct Unit;

#[derive(Exchangeable)]
struct Numbers {
    wide: u64,
    flag: bool,
    bytes: [u8; 3],
    pair: (u16, Option<i32>),
}

#[derive(Exchangeable)]
struct Tuple(u8, Numbers);

#[derive(Exchangeable)]
struct Handles<T: Exchangeable, const N: usize> {
    many: [RRef<T>; N],
    maybe: Option<RRef<T>>,
}

#[derive(Exchangeable)]
enum Message {
    Nothing,
    Number(u32),
    One(RRef<u64>),
    Two { left: RRef<u64>, right: RRef<u64> },
}

#[derive(Exchangeable)]
struct Holder {
    message: Message,
    result: Result<RRef<u64>, u8>,
}

#[derive(Exchangeable)]
struct Batches {
    receive: PacketBatch,
    send: Option<PacketBatch>,
}

fn object(value: u64) -> RRef<u64> {
    heap().allocate(value).expect("fits")
}

/// Gives `value` to a domain; the owners that `of` then finds in it.
fn owners<T: Exchangeable, const N: usize>(value: T, of: fn(&T) -> [DomainId; N]) -> [u32; N] {
    let gate = TestGate::one();
    let before = of(&value);
    assert!(before.iter().all(|owner| *owner == current()), "{before:?}");
    let value = gate.cross(|| gate.give(value)).expect("it lives");
    of(&value).map(DomainId::get)
}

#[test]
fn every_object_in_a_value_moves_with_it() {
    let handles = Handles {
        many: [object(1), object(2)],
        maybe: Some(object(3)),
    };
    let found = owners(handles, |handles| {
        let maybe = handles.maybe.as_ref().expect("given");
        [&handles.many[0], &handles.many[1], maybe].map(|rref| rref.header().owner())
    });
    assert_eq!(found, [2, 2, 2]);
}

#[test]
fn the_objects_of_the_variant_there_is_move() {
    let one = owners(Message::One(object(1)), |message| match message {
        Message::One(object) => [object.header().owner()],
        _ => [DomainId::NONE],
    });
    assert_eq!(one, [2]);
    let two = Message::Two {
        left: object(1),
        right: object(2),
    };
    let two = owners(two, |message| match message {
        Message::Two { left, right } => [left, right].map(|object| object.header().owner()),
        _ => [DomainId::NONE; 2],
    });
    assert_eq!(two, [2, 2]);
    let holder = Holder {
        message: Message::Number(7),
        result: Ok(object(9)),
    };
    let held = owners(holder, |holder| match &holder.result {
        Ok(object) => [object.header().owner()],
        Err(_) => [DomainId::NONE],
    });
    assert_eq!(held, [2]);
}

#[test]
fn what_holds_objects_is_known() {
    let plain = [Unit::ROOTS, Numbers::ROOTS, Tuple::ROOTS];
    assert_eq!(plain, [false; 3]);
    let holding = [
        Message::ROOTS,
        Holder::ROOTS,
        Handles::<u8, 1>::ROOTS,
        Batches::ROOTS,
    ];
    assert_eq!(holding, [true; 4]);
    let numbers = Numbers {
        wide: 1,
        flag: true,
        bytes: [1, 2, 3],
        pair: (4, None),
    };
    let on_heap = heap().allocate(Tuple(5, numbers)).expect("fits");
    assert_eq!((on_heap.0, on_heap.1.bytes[2]), (5, 3));
    let holder = Handles {
        many: [object(1)],
        maybe: Some(object(2)),
    };
    let mut on_heap = heap().allocate(holder).expect("fits");
    assert_eq!(on_heap.many[0].header().owner(), DomainId::NONE);
    let taken = on_heap.edit(|holder| holder.maybe.take()).expect("there");
    assert_eq!((*taken, taken.header().owner()), (2, current()));
    let grants = [PoolGrant::GRANT, Option::<(u8, PoolGrant)>::GRANT];
    assert_eq!(grants, [true; 2]);
    assert_eq!([Holder::GRANT, Batches::GRANT], [false; 2]);
}

#[test]
fn tags_differ() {
    let tags = [
        Unit::TAG,
        Numbers::TAG,
        Tuple::TAG,
        Message::TAG,
        Holder::TAG,
        Batches::TAG,
        Handles::<u8, 1>::TAG,
        Handles::<u8, 2>::TAG,
        Handles::<u16, 1>::TAG,
        RRef::<Numbers>::TAG,
        <(Numbers,)>::TAG,
        <[Numbers; 1]>::TAG,
        Option::<Numbers>::TAG,
        Result::<Numbers, Unit>::TAG,
    ];
    let distinct: BTreeSet<_> = tags.iter().map(|tag| tag.0).collect();
    assert_eq!(distinct.len(), tags.len());
}
