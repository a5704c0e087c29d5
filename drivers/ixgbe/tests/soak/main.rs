//! Soak test of the driver: two ports of the real driver on two software 82599s forward to each
//! other while everything that can be done to a port is done to them, at random.
//!
//! Runs for `SUMAC_SOAK_SECONDS` (default 3). `SUMAC_SOAK_SEED` repeats a run: where devices are
//! stepped, time is counted instead of measured, and every choice and frame is the same again.
//! Invariants: the device has nothing to complain of; every frame that came is accounted for as
//! sent or lost for a reason; every buffer is where the books say, and back in the end, once.
#![forbid(unsafe_code)]

mod actions;
mod choices;
mod session;
mod side;
mod time;

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use choices::Choices;
use session::Session;
use sumac_devices::memory::SimDma;
use sumac_rref::{PacketPool, SharedHeap};

/// Buffers of the pools: from hardly more than the smallest rings take to plenty.
const POOLS: [u32; 4] = [160, 400, 1500, 8192];

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|e| panic!("{variable}={text}: {e}")),
    )
}

#[test]
fn ports_under_random_treatment_lose_nothing() {
    let time = Duration::from_secs(number("SUMAC_SOAK_SECONDS").unwrap_or(3));
    let seed = number("SUMAC_SOAK_SEED")
        .unwrap_or_else(|| RandomState::new().hash_one(0))
        .max(1);
    println!("SUMAC_SOAK_SEED={seed}");
    let dma = SimDma::new().expect("address space for DMA");
    let pools = POOLS.map(|buffers| {
        PacketPool::create(SharedHeap::create(), &dma, buffers).expect("memory for packets")
    });
    let (start, mut sessions, mut steps, mut frames) = (Instant::now(), 0_u64, 0_u64, 0_u64);
    // Where one takes as long as usually many do, it may be one of those that filter everything out.
    while start.elapsed() < time || sessions < 10 {
        // A seed of its own for each session, so that one can be repeated without those before.
        let session_seed = seed.wrapping_add(sessions).max(1);
        let mut choices = Choices::new(session_seed);
        let pool = choices.of(&pools);
        println!("session {sessions}, seed {session_seed}:");
        let mut session = Session::begin(&dma, pool, &mut choices);
        for _ in 0..20 + choices.below(40) {
            session.act(&mut choices);
            steps += 1;
        }
        frames += session.end(&mut choices);
        sessions += 1;
    }
    println!("{sessions} sessions, {steps} steps, {frames} frames forwarded, seed {seed}");
    assert!(frames > 0, "nothing was forwarded");
}
