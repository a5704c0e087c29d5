//! A core with its wire behind one lock, and the thread that polls several: what fronts that trap
//! accesses have in common.
//!
//! Invariant: the polling thread holds a lock for one bounded poll at a time and stands back while a
//! register access waits for it, so that accesses take microseconds.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use sumac_device::Clock;

use super::device::Core;
use super::in_process::SystemClock;
use crate::memory::Access;
use crate::wire::{AnyWire, Wire, WireVisitor};

/// Polls without work before a device thread gives way to others.
const SPINS: u32 = 2_000;
/// Further polls, giving way each time, before it sleeps.
const YIELDS: u32 = 2_000;
/// How long it sleeps at a time: this part of the time in which nothing was done, within limits. So a frame after a
/// pause waits for a thousandth of the pause, and a device that nobody uses costs next to nothing.
const SLEEP_PART: u64 = 1_000;
const SHORTEST_SLEEP_NS: u64 = 50_000;
const LONGEST_SLEEP_NS: u64 = 10_000_000;
/// Tries at a device's lock before a thread gives way to others: some 20 microseconds.
const TRIES: u32 = 1000;
/// Polls with work between two looks at the clock.
const POLLS_PER_CLOCK: u32 = 8;

/// What a [`DeviceThread`] polls.
pub trait Polled {
    /// One poll, at `now_ns` of a monotonic clock. Returns how much was done.
    fn poll(&self, now_ns: u64) -> usize;

    /// Whether somebody waits for the device meanwhile.
    fn is_wanted(&self) -> bool;
}

/// Core and wire together.
pub(crate) struct Port {
    pub core: Core,
    pub wire: AnyWire,
}

/// The same for several threads.
pub(crate) struct LockedPort {
    port: Mutex<Port>,
    /// Register accesses that want the lock.
    waiting: AtomicU32,
}

impl LockedPort {
    pub fn new(core: Core, wire: AnyWire) -> Self {
        Self {
            port: Mutex::new(Port { core, wire }),
            waiting: AtomicU32::new(0),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock before the device thread takes it again. That holds it for microseconds, which is less than
    /// this thread would sleep.
    pub fn lock_first(&self) -> MutexGuard<'_, Port> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let mut tries = 0;
        let port = loop {
            match self.port.try_lock() {
                Ok(port) => break port,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if tries < TRIES => std::hint::spin_loop(),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
            tries += 1;
        };
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        port
    }

    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Acquire) != 0
    }
}

impl Port {
    pub fn poll(&mut self, access: &Access<'_>, now_ns: u64) -> usize {
        struct Poll<'a, 'b> {
            core: &'a mut Core,
            access: &'a Access<'b>,
            now_ns: u64,
        }
        impl WireVisitor for Poll<'_, '_> {
            type Output = usize;
            fn visit<W: Wire>(self, wire: &mut W) -> usize {
                self.core.poll(self.access, wire, self.now_ns)
            }
        }
        self.wire.visit(Poll {
            core: &mut self.core,
            access,
            now_ns,
        })
    }
}

/// A thread that polls devices until it is dropped.
pub struct DeviceThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DeviceThread {
    /// Polls `devices` in turn on a thread of their own, on processor `core` if one is given (and
    /// the system allows it).
    ///
    /// # Errors
    /// What the system says when it makes no thread.
    pub fn spawn<P>(devices: &[P], core: Option<usize>) -> std::io::Result<Self>
    where
        P: Polled + Clone + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let devices = devices.to_vec();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("sumac-device".into())
            .spawn(move || {
                if let Some(core) = core {
                    pin(core);
                }
                run(&devices, &stopped);
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Whether it still polls; it ends by itself only if a device panicked.
    pub fn is_alive(&self) -> bool {
        (self.thread.as_ref()).is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for DeviceThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A device that panicked has said so on standard error already.
            let _ = thread.join();
        }
    }
}

/// Where it is not allowed, the thread runs where it may.
fn pin(core: usize) {
    let mut set = nix::sched::CpuSet::new();
    if set.set(core).is_ok() {
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    }
}

fn run<P: Polled>(devices: &[P], stop: &AtomicBool) {
    let clock = SystemClock::new();
    let mut now_ns = clock.now_ns();
    let mut worked_ns = now_ns;
    let mut idle = 0_u32;
    let mut turns = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let mut work = 0;
        for device in devices {
            work += device.poll(now_ns);
            while device.is_wanted() {
                std::thread::yield_now();
            }
        }
        turns = turns.wrapping_add(1);
        idle = idle.saturating_add(1);
        if work > 0 {
            (idle, worked_ns) = (0, now_ns);
        }
        if idle > 0 || turns.is_multiple_of(POLLS_PER_CLOCK) {
            now_ns = clock.now_ns();
        }
        match idle {
            0 => {}
            1..=SPINS => std::hint::spin_loop(),
            spins if spins <= SPINS + YIELDS => std::thread::yield_now(),
            _ => std::thread::sleep(sleep_after(now_ns.saturating_sub(worked_ns))),
        }
    }
}

fn sleep_after(idle_ns: u64) -> Duration {
    let part = idle_ns / SLEEP_PART;
    Duration::from_nanos(part.clamp(SHORTEST_SLEEP_NS, LONGEST_SLEEP_NS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_sleeps_longer_the_longer_nothing_happens() {
        let seconds = [0.01, 0.2, 1.0, 60.0].map(|s| sleep_after((s * 1e9) as u64).as_secs_f64());
        assert_eq!(seconds, [50e-6, 200e-6, 1e-3, 10e-3]);
    }
}
