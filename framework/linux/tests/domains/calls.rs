//! What calls move, lend and refuse.

use std::sync::atomic::{AtomicU32, Ordering};

use sumac_interface::rpc::{Cause, Gate, RpcError, RpcResult};
use sumac_linux::domains;
use sumac_rref::{DomainId, Object, SharedHeap};
use sumac_runtime::thread::NESTING;
use sumac_runtime::{Domain, GateTo};

use crate::crashy::{Kind, gate, heap, reclaim, spawn};

#[test]
fn owners_follow_arguments_and_results() {
    let domain = spawn("owner");
    let object = heap().allocate(5u64).expect("room");
    assert_eq!(object.header().owner(), DomainId::HOST);
    let id = domain.id();
    let gate = gate(domain);
    let result = gate.cross(move || {
        let mut object = gate.give(object);
        assert_eq!(object.header().owner(), id);
        *object += 1;
        let made = heap().allocate(7u32).expect("room");
        assert_eq!(made.header().owner(), id);
        gate.accept((object, made))
    });
    let (object, made) = result.expect("the domain lives");
    assert_eq!((*object, *made), (6, 7));
    assert_eq!(object.header().owner(), DomainId::HOST);
    assert_eq!(made.header().owner(), DomainId::HOST);
    reclaim(domain);
    assert_eq!(*object, 6);
}

#[test]
fn borrows_are_counted_back_after_crashes_too() {
    let object = heap().allocate(5u64).expect("room");
    for crash in [false, true] {
        let domain = spawn("borrower");
        let gate = gate(domain);
        let result = gate.lend(&object, |object| {
            gate.cross(|| {
                assert_eq!(object.header().borrows(), 1);
                assert_eq!(object.header().owner(), DomainId::HOST);
                if crash {
                    Kind::Undefined.fail();
                }
                **object
            })
        });
        let dead = RpcError::Dead(Cause::IllegalInstruction);
        assert_eq!(result, if crash { Err(dead) } else { Ok(5) });
        assert_eq!(object.header().borrows(), 0);
        reclaim(domain);
    }
}

#[test]
fn nesting_has_a_limit() {
    fn deeper(gate: GateTo, depth: usize) -> (usize, RpcResult<()>) {
        match gate.cross(|| deeper(gate, depth + 1)) {
            Ok(inner) => inner,
            Err(error) => (depth, Err(error)),
        }
    }
    let domain = spawn("nests");
    let (depth, result) = deeper(gate(domain), 0);
    assert_eq!(depth, NESTING);
    assert_eq!(result, Err(RpcError::Nesting));
    assert_eq!(gate(domain).cross(|| 1), Ok(1));
    reclaim(domain);
}

#[test]
fn too_little_stack_is_an_error_not_a_crash() {
    #[inline(never)]
    fn deeper(gate: GateTo) -> RpcResult<()> {
        let room = [0u8; 32 * 1024];
        std::hint::black_box(&room);
        match gate.cross(|| ()) {
            Ok(()) => deeper(gate),
            error => error,
        }
    }
    let domain = spawn("shallow");
    assert_eq!(deeper(gate(domain)), Err(RpcError::Stack));
    assert_eq!(gate(domain).cross(|| 1), Ok(1));
    reclaim(domain);
}

/// Counts how often, and where, it is dropped.
struct Dropped(&'static AtomicU32);

trait Thing: Send {
    fn number(&self) -> u32;
}

impl Thing for Dropped {
    fn number(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        let domain = Domain::current().map_or(0, |domain| domain.id().get());
        self.0.store(domain, Ordering::Relaxed);
    }
}

#[test]
fn objects_are_dropped_inside_their_domain_while_it_lives() {
    static LIVING: AtomicU32 = AtomicU32::new(0);
    static DEAD: AtomicU32 = AtomicU32::new(0);
    for (dropped, dead) in [(&LIVING, false), (&DEAD, true)] {
        let domain = spawn("maker");
        let gate = gate(domain);
        let object: Object<dyn Thing> = Object::from_box(Box::new(Dropped(dropped)));
        assert_eq!(object.number(), 0);
        if dead {
            domain.kill(Cause::Killed);
        }
        gate.release(object);
        let expected = if dead { 0 } else { domain.id().get() };
        assert_eq!(dropped.load(Ordering::Relaxed), expected);
        reclaim(domain);
    }
}

#[test]
fn gates_to_the_caller_lead_back() {
    let (one, other) = (spawn("one"), spawn("other"));
    let (to_one, to_other) = (gate(one), gate(other));
    let back = to_one.cross(|| {
        let here = to_other.to_caller();
        assert_eq!(here.id(), one.id());
        to_other.cross(|| here.cross(|| Domain::current().map(Domain::id)))
    });
    assert_eq!(back, Ok(Ok(Ok(Some(one.id())))));
    assert_eq!(to_one.to_caller().id(), DomainId::HOST);
    reclaim(one);
    reclaim(other);
}

#[test]
fn arguments_of_a_call_that_is_refused_are_dropped() {
    let domain = spawn("dead");
    domain.kill(Cause::Killed);
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let heap = SharedHeap::create_for(domains::hooks());
    let object = heap.allocate([1u8; 700]).expect("room");
    let gate = gate(domain);
    let result = gate.cross(move || {
        COUNT.fetch_add(1, Ordering::Relaxed);
        drop(gate.give(object));
    });
    assert_eq!(result, Err(RpcError::Dead(Cause::Killed)));
    assert_eq!(COUNT.load(Ordering::Relaxed), 0);
    assert_eq!(heap.count(), 0);
    reclaim(domain);
}
