//! Domains come, have quotas and grants, and go without a trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use sumac_interface::rpc::{Cause, Gate, RpcError};
use sumac_runtime::domain::ReclaimError;
use sumac_runtime::{Domain, Grant, Phase};

use crate::crashy::{Kind, gate, heap, reclaim, spawn};

#[test]
fn memory_stays_within_the_quota_and_goes_whole() {
    let domain = spawn("grows");
    assert!(domain.grow(64 * 4096 + 1).is_none());
    let first = domain.grow(63 * 4096).expect("within the quota");
    // SAFETY: fresh pages, of this test alone.
    assert_eq!(unsafe { first.add(63 * 4096 - 1).read() }, 0);
    assert!(domain.grow(4097).is_none());
    assert!(domain.grow(1).is_some());
    assert!(domain.grow(usize::MAX).is_none());
    assert_eq!(domain.pages(), 64);
    assert_eq!(reclaim(domain).pages, 64);
}

#[test]
fn threads_stay_within_the_quota() {
    let domain = spawn("threads");
    assert!(domain.begin_thread() && domain.begin_thread());
    assert!(!domain.begin_thread());
    domain.end_thread();
    assert!(domain.begin_thread());
    reclaim(domain);
}

#[test]
fn numbers_are_not_used_again_soon() {
    let mut before = std::collections::HashSet::new();
    for _ in 0..5000 {
        let domain = spawn("short");
        assert!(before.insert(domain.id()), "{:?} came twice", domain.id());
        reclaim(domain);
    }
}

#[test]
fn the_living_are_not_reclaimed_and_the_dead_once() {
    let domain = spawn("lives");
    assert_eq!(domain.reclaim(heap()), Err(ReclaimError::Alive));
    assert!(domain.kill(Cause::Killed));
    assert!(!domain.kill(Cause::Panic));
    assert_eq!(domain.phase(), Phase::Dead(Cause::Killed));
    assert!(Domain::all().any(|one| one == domain));
    reclaim(domain);
    assert_eq!(domain.reclaim(heap()), Err(ReclaimError::Reclaimed));
    assert!(Domain::find(domain.id()).is_none());
}

/// Notes how many of the domain's objects there were as it was revoked.
struct Noting {
    domain: Domain,
    owned: Arc<AtomicUsize>,
    pages: Arc<AtomicUsize>,
}

impl Grant for Noting {
    fn revoke(&mut self) {
        let owned = heap().count_owned(self.domain.id());
        self.owned.fetch_add(owned, Ordering::Relaxed);
        self.pages.fetch_add(self.domain.pages(), Ordering::Relaxed);
    }
}

#[test]
fn grants_are_revoked_once_before_anything_is_freed() {
    let domain = spawn("granted");
    let (owned, pages) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    domain.grant(Box::new(Noting {
        domain,
        owned: owned.clone(),
        pages: pages.clone(),
    }));
    domain.grow(3 * 4096).expect("within the quota");
    let made = gate(domain).cross(|| heap().allocate(9u64).expect("room"));
    std::mem::forget(made);
    domain.kill(Cause::Killed);
    assert_eq!(owned.load(Ordering::Relaxed), 0, "not before reclaiming");
    assert_eq!(reclaim(domain).grants, 1);
    assert_eq!(owned.load(Ordering::Relaxed), 1);
    assert_eq!(pages.load(Ordering::Relaxed), 3);
    assert_eq!(heap().count_owned(domain.id()), 0);
}

#[test]
fn reclaiming_waits_for_frames() {
    let (outer, inner) = (spawn("outer"), spawn("inner"));
    let (to_outer, to_inner) = (gate(outer), gate(inner));
    let (entered, is_inside) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let result = to_outer.cross(move || {
            let object = heap().allocate(1u64).expect("room");
            // The outer domain's object is lent to the inner one when the outer one dies.
            let lent = to_inner.lend(&object, |object| {
                to_inner.cross(|| {
                    entered.send(()).expect("the test listens");
                    wait.recv().expect("the test goes on");
                    **object
                })
            });
            assert_eq!(lent, Err(RpcError::CallerDead));
            assert_eq!(object.header().borrows(), 0);
            std::mem::forget(object);
        });
        assert_eq!(result, Err(RpcError::Dead(Cause::Killed)));
    });
    is_inside.recv().expect("the thread gets there");
    assert_eq!((outer.frames(), inner.frames()), (1, 1));
    outer.kill(Cause::Killed);
    assert_eq!(outer.reclaim(heap()), Err(ReclaimError::Frames(1)));
    assert_eq!(heap().count_owned(outer.id()), 1);
    go_on.send(()).expect("the thread waits");
    thread.join().expect("the thread ends well");
    reclaim(outer);
    assert_eq!(heap().count_owned(outer.id()), 0);
    assert_eq!(to_inner.cross(|| 1), Ok(1), "the inner domain lives on");
    reclaim(inner);
}

#[test]
fn a_domain_ended_before_reclaiming_stays_ended() {
    let domain = spawn("ended");
    let _ = gate(domain).cross(|| Kind::Divide.fail());
    assert!(!domain.kill(Cause::Killed), "the first cause stays");
    assert_eq!(domain.phase(), Phase::Dead(Cause::DivideError));
    reclaim(domain);
}
