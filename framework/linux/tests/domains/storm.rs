//! The crash storm: failures of all kinds, at all depths, on several threads, in mixed domains; nothing
//! leaks and nothing is lost. `SUMAC_CRASHES` says how many, a million in the long runs, and
//! `SUMAC_SOAK_SEED` which; both are printed. A program of its own, so that all pages there are are its own.
// UNSAFETY: the tests do on purpose what domains may not: faults, endless loops, stack overflows.
#![expect(unsafe_code)]

#[expect(dead_code, reason = "the other tests use the rest")]
mod crashy;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sumac_interface::rpc::{Cause, Gate, RpcError, RpcResult};
use sumac_linux::domains::mapped_pages;
use sumac_rref::{RRef, SharedHeap};
use sumac_runtime::domain::ReclaimError;
use sumac_runtime::{Domain, GateTo};

use crate::crashy::{Kind, gate, spawn, spin};

const CRASHES: usize = 50_000;

/// Small numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

/// Hands an object down through nested calls; the innermost fails, or all return it.
fn pass(
    heap: &'static SharedHeap,
    gates: &[GateTo],
    depth: usize,
    fail: Option<Kind>,
    object: RRef<u64>,
) -> RpcResult<RRef<u64>> {
    let gate = gates[(depth - 1) % gates.len()];
    let lent = heap.allocate(depth as u64).map_err(|_| RpcError::Refused)?;
    let work = move || {
        let object = gate.give(object);
        assert_eq!(object.header().owner(), gate.id());
        if depth > 1 {
            return Ok(gate.accept(pass(heap, gates, depth - 1, fail, object)?));
        }
        // What the innermost owns when it dies: this and the object.
        let _own = heap.allocate(1u32).map_err(|_| RpcError::Refused)?;
        Domain::current().and_then(|domain| domain.grow(4096));
        if let Some(kind) = fail {
            kind.fail();
        }
        Ok(gate.accept(object))
    };
    let result = gate.lend(&lent, |_| gate.cross(work));
    assert_eq!(lent.header().borrows(), 0);
    result?
}

/// Frees `domain`, which is dead or about to be.
fn free(heap: &'static SharedHeap, domain: Domain) {
    domain.kill(Cause::Killed);
    loop {
        match domain.reclaim(heap) {
            Ok(_) => break,
            // Another thread's call looked at the dead domain just now.
            Err(ReclaimError::Frames(_)) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(heap.count_owned(domain.id()), 0);
    assert_eq!(domain.pages(), 0);
}

/// Crashes domains of this thread's own.
fn storm(heap: &'static SharedHeap, seed: u64, crashes: usize) {
    let mut random = Random(seed);
    let mut domains: Vec<Domain> = (0..3).map(|_| spawn("storm")).collect();
    for turn in 0..crashes {
        let depth = 1 + random.below(64);
        let count = 1 + random.below(domains.len());
        let gates: Vec<_> = domains[..count]
            .iter()
            .map(|domain| gate(*domain))
            .collect();
        let object = heap.allocate(turn as u64).expect("room");
        let returned = pass(heap, &gates, depth, None, object).expect("all live");
        assert_eq!(*returned, turn as u64);
        let kind = Kind::PROMPT[random.below(Kind::PROMPT.len())];
        let result = pass(heap, &gates, depth, Some(kind), returned);
        // The outermost callee is the one that failed, or was told by one that did.
        let error = result.map(drop).expect_err("the innermost failed");
        let known = [RpcError::Dead(kind.cause()), RpcError::CallerDead];
        assert!(known.contains(&error), "{error}");
        assert_eq!(gates[0].cross(|| ()), Err(RpcError::Dead(kind.cause())));
        free(heap, domains[0]);
        domains[0] = spawn("storm");
    }
    domains.into_iter().for_each(|domain| free(heap, domain));
}

/// Several threads in one domain while one of them crashes it, or it is ended from outside.
fn together(heap: &'static SharedHeap, rounds: usize) {
    for round in 0..rounds {
        let domain = spawn("shared");
        let gate = gate(domain);
        let begun = AtomicUsize::new(0);
        thread::scope(|scope| {
            for index in 0..3 {
                let begun = &begun;
                scope.spawn(move || {
                    let mut turn = 0;
                    let error = loop {
                        let object = heap.allocate(turn).expect("room");
                        let result = gate.cross(move || gate.accept(gate.give(object)));
                        match result {
                            Ok(object) => assert_eq!(*object, turn),
                            Err(error) => break error,
                        }
                        turn += 1;
                        if turn == 20 {
                            begun.fetch_add(1, Ordering::Relaxed);
                        }
                        if turn > 20 && index == 0 {
                            let _ = gate.cross(|| spin());
                        }
                    };
                    assert!(matches!(error, RpcError::Dead(_)), "{error}");
                });
            }
            while begun.load(Ordering::Relaxed) < 3 {
                thread::yield_now();
            }
            let kind = Kind::PROMPT[round % Kind::PROMPT.len()];
            if round % 2 == 0 {
                domain.kill(Cause::Killed);
            } else {
                let result = gate.cross(|| kind.fail());
                assert_eq!(result, Err(RpcError::Dead(kind.cause())));
            }
            free(heap, domain);
        });
    }
}

#[test]
fn nothing_leaks_and_nothing_is_lost() {
    let crashes = std::env::var("SUMAC_CRASHES").ok();
    let crashes = crashes.map_or(CRASHES, |text| text.parse().expect("a number of crashes"));
    // A heap of its own: nothing of other tests is counted.
    let heap = SharedHeap::create_for(sumac_linux::domains::hooks());
    let seed = std::env::var("SUMAC_SOAK_SEED").ok();
    let seed: u64 = seed.map_or(0, |text| text.parse().expect("a seed"));
    // More threads than processors would wait for locks of those that do not run.
    let threads = thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4));
    println!("{crashes} crashes on {threads} threads, seed {seed}");
    thread::scope(|scope| {
        for index in 0..threads {
            let seed = 0x9e37_79b9_7f4a_7c15 ^ seed.rotate_left(32) ^ index as u64;
            scope.spawn(move || storm(heap, seed, crashes.div_ceil(threads)));
        }
    });
    together(heap, crashes.div_ceil(100));
    assert_eq!(heap.count(), 0, "objects that nobody owns");
    assert_eq!(mapped_pages(), 0, "pages of no domain");
}
