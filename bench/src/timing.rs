//! Times our driver exactly as `peers/dpdk_peer.c` times DPDK's: same windows, same turns a look at
//! the clock, same gates. Change one and the other together.

use std::sync::atomic::Ordering;

use sumac_linux::time::ticks;

use crate::control::{Control, DEVICE, Kind, Mode, Order, PEER, Window};
use crate::processor::involuntary_switches;

/// A driver's loop, one turn at a time. Port 0 receives, port 1 sends.
pub trait Peer {
    /// Receives up to `batch` packets, reads what is known of each, gives them back. How many.
    fn receive(&mut self, batch: usize) -> usize;
    /// Takes `batch` buffers from the pool, sets their lengths, sends them all. How many.
    fn transmit(&mut self, batch: usize) -> usize;
    /// Receives up to `batch` packets and sends them all, untouched. How many.
    fn forward(&mut self, batch: usize) -> usize;
    /// The same with source and destination addresses swapped.
    fn macswap(&mut self, batch: usize) -> usize;
}

/// Serves orders until told to end.
pub fn serve(control: &Control, peer: &mut impl Peer) {
    let mut done = 0;
    loop {
        let (number, order) = control.take(done);
        match (order.kind, order.mode) {
            (Kind::Quit, _) => return,
            (_, Mode::Receive) => run(control, order, |batch| peer.receive(batch)),
            (_, Mode::Transmit) => run(control, order, |batch| peer.transmit(batch)),
            (_, Mode::Forward) => run(control, order, |batch| peer.forward(batch)),
            (_, Mode::Macswap) => run(control, order, |batch| peer.macswap(batch)),
        }
        done = number;
        control.finish(done);
    }
}

/// One order: its windows go to the page. Compiled once a turn.
#[inline(always)]
pub fn run(control: &Control, order: Order, mut turn: impl FnMut(usize) -> usize) {
    for index in 0..order.windows as usize {
        let window = match order.kind {
            Kind::Stream => stream(control, order, &mut turn),
            Kind::Phase => phase(control, order, &mut turn),
            Kind::Stepped | Kind::Quit => stepped(control, order, &mut turn),
        };
        control.set_window(index, window);
    }
}

const ROUNDS: usize = 33;

/// The median of 33 round trips of a cache line to the device's core, in ticks.
fn round_trip(control: &Control) -> u64 {
    let (ping, pong) = (&control.ping.0, &control.pong.0);
    let play = |number| {
        ping.store(number, Ordering::Release);
        while pong.load(Ordering::Acquire) != number {}
    };
    play(1);
    let mut took = [0; ROUNDS];
    for (number, took) in (2..).zip(&mut took) {
        let start = ticks();
        play(number);
        *took = ticks() - start;
    }
    play(0);
    took.sort_unstable();
    took[ROUNDS / 2]
}

/// Loop turns between two looks at the clock: about a thousand packets.
fn turns_per_chunk(batch: usize) -> usize {
    1024 / batch // 16 at the largest batch
}

#[inline(always)]
fn stream(control: &Control, order: Order, turn: &mut impl FnMut(usize) -> usize) -> Window {
    let batch = order.batch as usize;
    let turns = turns_per_chunk(batch);
    let mut window = Window {
        round_trip: round_trip(control),
        ..Window::default()
    };
    let pulse = &control.pulse;
    let device_turns = pulse.turns.load(Ordering::Relaxed);
    let device_idle = pulse.idle_turns.load(Ordering::Relaxed);
    let switches = involuntary_switches();
    let start = ticks();
    let mut last = start;
    while last - start < order.window_ticks {
        for _ in 0..turns {
            let count = turn(batch);
            window.packets += count as u64;
            window.empty += u64::from(count == 0);
        }
        let (now, beat) = (ticks(), pulse.heartbeat.load(Ordering::Relaxed));
        window.longest = window.longest.max(now - last);
        window.stale = window.stale.max(now.saturating_sub(beat));
        last = now;
    }
    window.ticks = last - start;
    window.switches = involuntary_switches() - switches;
    let device_turns = pulse.turns.load(Ordering::Relaxed) - device_turns;
    let device_idle = pulse.idle_turns.load(Ordering::Relaxed) - device_idle;
    window.device_idle = (device_idle * 1000).checked_div(device_turns).unwrap_or(0);
    window
}

fn ask_device(control: &Control, what: u32) {
    control.pause.0.store(what, Ordering::Release);
    while control.paused.0.load(Ordering::Acquire) != what {
        std::hint::spin_loop();
    }
}

/// Packets of a phase.
const PHASE_PACKETS: usize = 416;

#[inline(always)]
fn phase(control: &Control, order: Order, turn: &mut impl FnMut(usize) -> usize) -> Window {
    let batch = order.batch as usize;
    let mut window = Window {
        round_trip: round_trip(control),
        ..Window::default()
    };
    ask_device(control, 1);
    let switches = involuntary_switches();
    let start = ticks();
    for _ in 0..PHASE_PACKETS / batch {
        let count = turn(batch);
        window.packets += count as u64;
        window.empty += u64::from(count == 0);
    }
    window.ticks = ticks() - start;
    window.switches = involuntary_switches() - switches;
    window.longest = window.ticks;
    ask_device(control, 2);
    window
}

/// Timed sections of a stepped window.
const SECTIONS: usize = 256;
/// Packets of a section.
const SECTION_PACKETS: usize = 64;

#[inline(always)]
fn stepped(control: &Control, order: Order, turn: &mut impl FnMut(usize) -> usize) -> Window {
    let batch = order.batch as usize;
    let mut window = Window::default();
    let mut took = [0; SECTIONS];
    for took in &mut took {
        control.hand_over(DEVICE, PEER);
        let start = ticks();
        for _ in 0..SECTION_PACKETS / batch {
            let count = turn(batch);
            window.packets += count as u64;
            window.empty += u64::from(count == 0);
        }
        *took = ticks() - start;
    }
    took.sort_unstable();
    window.ticks = took[SECTIONS / 2] * SECTIONS as u64;
    window.longest = took[SECTIONS - 1];
    window
}
