//! Several threads inside a domain, and domains ended from other threads.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sumac_interface::rpc::{Cause, Gate, RpcError};
use sumac_linux::domains;
use sumac_rref::SharedHeap;

use crate::crashy::{Kind, begin_whole, end_whole, gate, reclaim, spawn, spin, spin_until};

#[test]
fn a_spinning_domain_is_ended_from_another_thread() {
    for _ in 0..20 {
        let domain = spawn("spins");
        let thread = thread::spawn(move || gate(domain).cross(|| spin()));
        while domain.frames() == 0 {
            thread::yield_now();
        }
        assert!(domain.kill(Cause::Killed));
        let result = thread.join().expect("the thread ends well");
        assert_eq!(result, Err(RpcError::Dead(Cause::Killed)));
        reclaim(domain);
    }
}

#[test]
fn all_threads_inside_leave_when_one_fails() {
    for round in 0..20 {
        let domain = spawn("shared");
        let gate = gate(domain);
        let inside: Vec<_> = (0..4)
            .map(|_| thread::spawn(move || gate.cross(|| spin())))
            .collect();
        while domain.frames() < 4 {
            thread::yield_now();
        }
        let kind = Kind::PROMPT[round % Kind::PROMPT.len()];
        let dead = Err(RpcError::Dead(kind.cause()));
        assert_eq!(gate.cross(|| kind.fail()), dead);
        for thread in inside {
            assert_eq!(thread.join().expect("the thread ends well"), dead);
        }
        reclaim(domain);
    }
}

#[test]
fn the_caller_dies_while_its_callee_runs() {
    let (caller, callee) = (spawn("caller"), spawn("callee"));
    static GO_ON: AtomicU32 = AtomicU32::new(0);
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        gate(caller).cross(move || {
            let result = gate(callee).cross(|| {
                spin_until(GO_ON.as_ptr());
                5
            });
            tell.send(result).expect("the test listens");
            // Were it not interrupted, it would be here for ever.
            spin();
        })
    });
    while callee.frames() == 0 {
        thread::yield_now();
    }
    caller.kill(Cause::Killed);
    thread::sleep(Duration::from_millis(5));
    assert_eq!(callee.frames(), 1, "the callee's code is not the caller's");
    GO_ON.store(1, Ordering::Relaxed);
    let result = told.recv().expect("the callee returns");
    assert_eq!(result, Err(RpcError::CallerDead));
    let result = thread.join().expect("the thread ends well");
    assert_eq!(result, Err(RpcError::Dead(Cause::Killed)));
    assert_eq!(gate(callee).cross(|| 1), Ok(1));
    reclaim(caller);
    reclaim(callee);
}

#[test]
fn a_callee_that_died_meanwhile_gives_no_result() {
    let domain = spawn("late");
    let result = gate(domain).cross(|| {
        // Trusted code is not interrupted: the call returns, its result is the dead's.
        domain.kill(Cause::Killed);
        7
    });
    assert_eq!(result, Err(RpcError::Dead(Cause::Killed)));
    reclaim(domain);
}

#[test]
fn a_result_accepted_from_one_that_died_meanwhile_is_not_lost() {
    let domain = spawn("late");
    let heap = SharedHeap::create_for(domains::hooks());
    let gate = gate(domain);
    let result = gate.cross(|| {
        let made = heap.allocate(1u64).expect("room");
        domain.kill(Cause::Killed);
        gate.accept(made)
    });
    assert_eq!(result.map(drop), Err(RpcError::Dead(Cause::Killed)));
    assert_eq!(heap.count(), 0);
    reclaim(domain);
}

#[test]
fn a_thread_in_trusted_code_is_left_there() {
    let domain = spawn("careful");
    static INSIDE: AtomicU32 = AtomicU32::new(0);
    static GO_ON: AtomicU32 = AtomicU32::new(0);
    static ENDED: AtomicU32 = AtomicU32::new(0);
    let thread = thread::spawn(move || {
        gate(domain).cross(|| {
            begin_whole();
            INSIDE.store(1, Ordering::Relaxed);
            spin_until(GO_ON.as_ptr());
            ENDED.store(1, Ordering::Relaxed);
            end_whole();
            spin();
        })
    });
    while INSIDE.load(Ordering::Relaxed) == 0 {
        thread::yield_now();
    }
    domain.kill(Cause::Killed);
    thread::sleep(Duration::from_millis(10));
    assert_eq!(domain.frames(), 1, "it is still in trusted code");
    GO_ON.store(1, Ordering::Relaxed);
    let result = thread.join().expect("the thread ends well");
    assert_eq!(result, Err(RpcError::Dead(Cause::Killed)));
    assert_eq!(ENDED.load(Ordering::Relaxed), 1, "it came to the end");
    reclaim(domain);
}

#[test]
fn threads_are_attached_by_their_first_call() {
    let domain = spawn("early");
    for _ in 0..50 {
        let gate = gate(domain);
        let float = std::hint::black_box(1.5f64);
        let thread = thread::spawn(move || gate.cross(move || float * 2.0));
        assert_eq!(thread.join().expect("the thread ends well"), Ok(3.0));
    }
    reclaim(domain);
}
