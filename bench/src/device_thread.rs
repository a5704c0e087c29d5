//! The thread that steps the software device and plays its part in every measurement: it answers
//! pings, beats its heart, stands still in phase mode, and moves to the driver's core in stepped mode.
//!
//! One group of ports is active at a time, that of the peer whose turn it is; the others are frozen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::control::{Control, ControlPage};
use sumac_devices::ixgbe::Violations;
use sumac_linux::cores::pin_current_thread as pin;
use sumac_linux::time::ticks;

/// The ports of one peer.
pub trait Ports: Send {
    /// Looks at the control registers.
    fn poll_control(&mut self);
    /// Moves some packets; how many descriptors.
    fn step(&mut self) -> usize;
    /// Whether frames come in.
    fn set_source(&mut self, on: bool);
    /// What the driver did against the device's rules, by port.
    fn violations(&self) -> Vec<Violations>;
}

/// One peer's ports, with the page it shares with the device.
pub struct Group {
    /// The ports.
    pub ports: Box<dyn Ports>,
    /// The page.
    pub page: Arc<ControlPage>,
}

/// Looks at the control registers every so many turns while a window may be running.
const CONTROL_EVERY: u32 = 256;
/// A heartbeat every so many turns.
const HEARTBEAT_EVERY: u32 = 16;
/// This many turns without work in a row: the receive ring is full, the transmit ring is empty.
const SETTLED: u32 = 8;

/// What the harness tells the device thread.
#[derive(Default)]
struct Wish {
    active: AtomicUsize,
    source: AtomicBool,
    /// A driver is being brought up: control registers come first.
    attentive: AtomicBool,
    stepped: AtomicBool,
    stop: AtomicBool,
}

/// The running thread; ends when dropped.
pub struct DeviceThread {
    wish: Arc<Wish>,
    thread: Option<JoinHandle<Vec<Group>>>,
}

impl DeviceThread {
    /// Starts stepping on `core`; in stepped mode on `driver_core`.
    pub fn start(groups: Vec<Group>, core: usize, driver_core: usize) -> Self {
        let wish = Arc::new(Wish::default());
        wish.attentive.store(true, Ordering::Relaxed);
        let wishes = wish.clone();
        let thread = std::thread::spawn(move || {
            let mut device = Device {
                groups,
                wish: wishes,
                core,
                driver_core,
                turns: 0,
                idle: 0,
            };
            device.run();
            device.groups
        });
        Self {
            wish,
            thread: Some(thread),
        }
    }

    /// From now on group `active` has the device. `attentive` while its driver is being brought up.
    pub fn serve(&self, active: usize, source: bool, stepped: bool, attentive: bool) {
        self.wish.active.store(active, Ordering::Relaxed);
        self.wish.source.store(source, Ordering::Relaxed);
        self.wish.attentive.store(attentive, Ordering::Relaxed);
        self.wish.stepped.store(stepped, Ordering::Release);
    }

    /// Ends the thread and gives the groups back. `None` if the device panicked.
    pub fn stop(mut self) -> Option<Vec<Group>> {
        self.wish.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()
    }
}

impl Drop for DeviceThread {
    fn drop(&mut self) {
        self.wish.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Device {
    groups: Vec<Group>,
    wish: Arc<Wish>,
    core: usize,
    driver_core: usize,
    turns: u64,
    idle: u64,
}

impl Device {
    fn run(&mut self) {
        // A core that is not there: the kernel places the thread, and the round trip shows it.
        let _ = pin(self.core);
        while !self.wish.stop.load(Ordering::Relaxed) {
            let active = self.wish.active.load(Ordering::Relaxed);
            let Some(group) = self.groups.get_mut(active) else {
                std::hint::spin_loop();
                continue;
            };
            let source = self.wish.source.load(Ordering::Relaxed);
            group.ports.set_source(source);
            if self.wish.stepped.load(Ordering::Acquire) {
                let _ = pin(self.driver_core);
                step_in_turns(group, &self.wish, active);
                let _ = pin(self.core);
            } else {
                let every = if self.wish.attentive.load(Ordering::Relaxed) {
                    1
                } else {
                    CONTROL_EVERY
                };
                self.some_turns(active, every);
            }
        }
    }

    /// `CONTROL_EVERY` turns.
    fn some_turns(&mut self, active: usize, control_every: u32) {
        let group = &mut self.groups[active];
        let page: &Control = &group.page;
        for turn in 0..CONTROL_EVERY {
            if turn.is_multiple_of(control_every) {
                group.ports.poll_control();
            }
            if page.paused.0.load(Ordering::Relaxed) != 1 {
                let work = group.ports.step();
                self.turns += 1;
                self.idle += u64::from(work == 0);
            }
            if turn.is_multiple_of(HEARTBEAT_EVERY) {
                let pulse = &page.pulse;
                pulse.heartbeat.store(ticks(), Ordering::Relaxed);
                pulse.turns.store(self.turns, Ordering::Relaxed);
                pulse.idle_turns.store(self.idle, Ordering::Relaxed);
                answer_pings(page);
                answer_pause(page, group.ports.as_mut());
            }
        }
    }
}

/// Plays ping-pong until the peer ends it: nothing else is done meanwhile.
fn answer_pings(page: &Control) {
    let mut last = 0;
    loop {
        let ping = page.ping.0.load(Ordering::Acquire);
        if ping != last {
            page.pong.0.store(ping, Ordering::Release);
            last = ping;
        }
        if ping == 0 {
            return;
        }
    }
}

/// Fills the receive ring and stands still, or runs on, as the peer asks.
fn answer_pause(page: &Control, ports: &mut dyn Ports) {
    let asked = page.pause.0.load(Ordering::Acquire);
    if asked == page.paused.0.load(Ordering::Relaxed) {
        return;
    }
    if asked == 1 {
        settle(ports);
    }
    page.paused.0.store(asked, Ordering::Release);
}

/// Steps until there is nothing left to do.
fn settle(ports: &mut dyn Ports) {
    let mut quiet = 0;
    // A device that turns every frame away never comes to an end: not for ever.
    for _ in 0..1 << 20 {
        quiet = if ports.step() == 0 { quiet + 1 } else { 0 };
        if quiet == SETTLED {
            return;
        }
    }
}

/// The device's turns on the driver's own core.
fn step_in_turns(group: &mut Group, wish: &Wish, active: usize) {
    // Whoever is next may be stepped, too: it is not enough to look whether somebody is.
    while wish.stepped.load(Ordering::Acquire)
        && wish.active.load(Ordering::Relaxed) == active
        && !wish.stop.load(Ordering::Relaxed)
    {
        if group.page.device_turn() {
            group.ports.poll_control();
            settle(group.ports.as_mut());
            group.page.end_device_turn();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::control::{Kind, Mode, Order, Window};
    use crate::timing::{Peer, serve};

    /// Far longer than a device is kept off its core.
    const PATIENCE: Duration = Duration::from_secs(120);

    /// A ring of 64 packets: the source fills it, the peer empties it.
    struct Ring(Arc<AtomicUsize>, bool);

    impl Ports for Ring {
        fn poll_control(&mut self) {}
        fn step(&mut self) -> usize {
            let free = 64 - self.0.load(Ordering::Acquire);
            let work = if self.1 { free } else { 0 };
            self.0.fetch_add(work, Ordering::AcqRel);
            work
        }
        fn set_source(&mut self, on: bool) {
            self.1 = on;
        }
        fn violations(&self) -> Vec<Violations> {
            Vec::new()
        }
    }

    struct Taker(Arc<AtomicUsize>);

    impl Peer for Taker {
        fn receive(&mut self, batch: usize) -> usize {
            let count = self.0.load(Ordering::Acquire).min(batch);
            self.0.fetch_sub(count, Ordering::AcqRel);
            count
        }
        fn transmit(&mut self, batch: usize) -> usize {
            batch
        }
        fn forward(&mut self, batch: usize) -> usize {
            self.receive(batch)
        }
        fn macswap(&mut self, batch: usize) -> usize {
            self.receive(batch)
        }
    }

    #[test]
    fn every_kind_of_window_moves_packets() {
        let ring = Arc::new(AtomicUsize::new(0));
        let page = Arc::new(ControlPage::new().unwrap());
        let group = Group {
            ports: Box::new(Ring(ring.clone(), false)),
            page: page.clone(),
        };
        let device = DeviceThread::start(vec![group], 0, 0);
        let mut idle = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| serve(&page, &mut Taker(ring.clone())));
            for kind in [Kind::Stream, Kind::Phase, Kind::Stepped] {
                device.serve(0, true, kind == Kind::Stepped, false);
                let start = Instant::now();
                let order = || {
                    let number = page.give(Order {
                        mode: Mode::Receive,
                        kind,
                        batch: 8,
                        windows: 3,
                        window_ticks: 100_000,
                    });
                    while !page.finished(number) {
                        std::thread::yield_now();
                    }
                    page.windows(3)
                };
                loop {
                    let windows = order();
                    let moves = |window: &Window| window.packets > 0 && window.ticks > 0;
                    if windows.iter().all(moves) {
                        break;
                    }
                    // A stream does not wait for a device that was taken off its core.
                    if kind != Kind::Stream || start.elapsed() > PATIENCE {
                        idle.push((kind, windows));
                        break;
                    }
                }
            }
            page.give(Order {
                mode: Mode::Receive,
                kind: Kind::Quit,
                batch: 1,
                windows: 0,
                window_ticks: 0,
            });
        });
        assert!(idle.is_empty(), "{idle:?}");
        assert_eq!(device.stop().unwrap().len(), 1);
    }
}
