//! Every way to fail becomes an error of the call, and leaves the caller as it was.

use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::time::{ClockId, clock_gettime};
use sumac_interface::rpc::{Cause, Gate, RpcError};
use sumac_runtime::Phase;

use crate::crashy::{Kind, descend, gate, heap, keeps_registers, reclaim, spawn, spawn_with};

#[test]
fn a_call_returns_what_the_callee_does() {
    let domain = spawn("works");
    let gate = gate(domain);
    let (a, b) = std::hint::black_box((3u64, 4u64));
    assert_eq!(gate.cross(|| a * b), Ok(12));
    let inside = gate.cross(|| sumac_runtime::Domain::current().map(|domain| domain.id()));
    assert_eq!(inside, Ok(Some(domain.id())));
    assert_eq!(sumac_runtime::Domain::current(), None);
    reclaim(domain);
}

#[test]
fn every_kind_of_failure_is_an_error_of_the_call() {
    for kind in Kind::PROMPT {
        for turn in 0..3 {
            let domain = spawn("fails");
            let gate = gate(domain);
            let error = RpcError::Dead(kind.cause());
            let kept = keeps_registers(|| {
                assert_eq!(
                    gate.cross(|| kind.fail()),
                    Err(error),
                    "{kind:?}, turn {turn}"
                );
            });
            assert!(kept, "{kind:?} changed registers that a callee preserves");
            assert_eq!(domain.phase(), Phase::Dead(kind.cause()));
            assert_eq!(gate.cross(|| 1), Err(error), "a call after {kind:?}");
            reclaim(domain);
            assert_eq!(domain.phase(), Phase::Reclaimed);
            assert_eq!(gate.cross(|| 1), Err(error), "a call after reclaiming");
        }
    }
}

#[test]
fn what_it_said_is_kept() {
    let domain = spawn("talks");
    let _ = gate(domain).cross(|| Kind::Panic.fail());
    assert_eq!(domain.last_words(), "oh");
    assert_eq!(domain.name(), "talks");
    reclaim(domain);
    assert_eq!((domain.last_words(), domain.name()), Default::default());
    assert_eq!(domain.cause(), Some(Cause::Panic));
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    let domain = spawn_with("spins", 5_000_000);
    let start = Instant::now();
    let result = gate(domain).cross(|| Kind::Spin.fail());
    assert_eq!(result, Err(RpcError::Dead(Cause::Deadline)));
    assert!(start.elapsed() >= Duration::from_millis(5), "not before");
    reclaim(domain);
}

/// As in a virtual machine whose host has the processor stand still: the thread's clock goes on, and it hears nothing.
#[test]
fn a_thread_that_does_not_run_is_not_over_its_deadline() {
    let processor_time = || {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has it");
        Duration::from(time)
    };
    let stand_still = || {
        let hears = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let start = processor_time();
        while processor_time() - start < Duration::from_millis(100) {}
        hears.and_then(|hears| hears.thread_set_mask())
    };
    let domain = spawn_with("stalls", 5_000_000);
    assert_eq!(gate(domain).cross(stand_still), Ok(Ok(())));
    reclaim(domain);
}

#[test]
fn many_short_calls_are_no_long_one() {
    let domain = spawn_with("short", 5_000_000);
    let gate = gate(domain);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(100) {
        let call = Instant::now();
        let busy = || while call.elapsed() < Duration::from_micros(200) {};
        assert_eq!(gate.cross(busy), Ok(()));
    }
    reclaim(domain);
}

#[test]
fn time_in_a_callee_is_not_its_callers() {
    let (outer, inner) = (spawn_with("outer", 5_000_000), spawn("inner"));
    let (to_outer, to_inner) = (gate(outer), gate(inner));
    let busy = || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(40) {
            std::hint::spin_loop();
        }
    };
    assert_eq!(to_outer.cross(move || to_inner.cross(busy)), Ok(Ok(())));
    reclaim(outer);
    reclaim(inner);
}

#[test]
fn failures_at_every_depth_of_mixed_domains_come_back_frame_by_frame() {
    for count in 1..=3 {
        for depth in 1..=64 {
            let kind = Kind::PROMPT[depth % Kind::PROMPT.len()];
            let all: Vec<_> = (0..count).map(|_| spawn("nested")).collect();
            let gates: Vec<_> = all.iter().map(|domain| gate(*domain)).collect();
            let mut results = Vec::new();
            descend(&gates, depth, kind, &mut results);
            assert_eq!(results.len(), depth);
            let dead = RpcError::Dead(kind.cause());
            let caller_dead = RpcError::CallerDead;
            for (level, result) in results.iter().enumerate() {
                // The domain of index 0 failed; whoever calls it, or is it and calls, is told.
                let expected = match (level % count, (level + 1) % count, level + 1 == depth) {
                    (0, 0, false) if level != 0 => Err(caller_dead),
                    (0, _, _) => Err(dead),
                    (_, 0, false) => Err(caller_dead),
                    _ => Ok(()),
                };
                assert_eq!(
                    *result, expected,
                    "{kind:?} {count} domains, {level} of {depth}"
                );
            }
            all.into_iter().for_each(|domain| _ = reclaim(domain));
        }
    }
}

#[test]
fn stack_overflows_repeat() {
    // The reserve of the stack is closed again after each.
    for _ in 0..200 {
        for kind in [Kind::TrustedOverflow, Kind::StackOverflow] {
            let domain = spawn("overflows");
            let result = gate(domain).cross(|| kind.fail());
            assert_eq!(
                result,
                Err(RpcError::Dead(Cause::StackOverflow)),
                "{kind:?}"
            );
            reclaim(domain);
        }
    }
}

#[test]
fn a_panic_leaves_the_heap_without_what_the_dead_owned() {
    let domain = spawn("owner");
    let object = heap().allocate(5u64).expect("room");
    let gate = gate(domain);
    let result = gate.cross(move || {
        let _object = gate.give(object);
        Kind::NullRead.fail();
    });
    assert_eq!(result, Err(RpcError::Dead(Cause::MemoryFault)));
    assert_eq!(heap().count_owned(domain.id()), 1);
    reclaim(domain);
    assert_eq!(heap().count_owned(domain.id()), 0);
}
