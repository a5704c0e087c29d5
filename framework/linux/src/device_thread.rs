//! The thread on which a process's software devices live: one for all of them.
//!
//! It polls without end, as silicon does. When there was nothing to do for a while it offers its
//! core to others each turn, so that driver and devices also get on where they share one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::cores::{self, CoreError};
use crate::time::monotonic_ns;

/// Turns without work before the core is offered to others.
const SPINS: u32 = 256;

/// How busy a device thread was since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Polls of all devices.
    pub turns: u64,
    /// Those in which no device had anything to do.
    pub idle_turns: u64,
}

impl Load {
    /// The share of turns with nothing to do, 0 to 1. Near 0: the device sets the pace.
    pub fn idle_share(self) -> f64 {
        if self.turns == 0 {
            return 1.0;
        }
        self.idle_turns as f64 / self.turns as f64
    }

    /// What happened since an `earlier` reading.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            turns: self.turns.saturating_sub(earlier.turns),
            idle_turns: self.idle_turns.saturating_sub(earlier.idle_turns),
        }
    }
}

/// A running device thread; it ends when this is dropped.
#[derive(Debug)]
pub struct DeviceThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// On a cache line of its own: the thread writes it each turn.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shared {
    stop: AtomicBool,
    turns: AtomicU64,
    idle_turns: AtomicU64,
}

impl DeviceThread {
    /// Starts it, pinned to `core` if one is given. `poll` is called with the time in nanoseconds
    /// (CLOCK_MONOTONIC), does a bounded amount of work on each device and says how much it was.
    ///
    /// # Errors
    /// [`CoreError`].
    pub fn start(
        core: Option<usize>,
        poll: impl FnMut(u64) -> usize + Send + 'static,
    ) -> Result<Self, CoreError> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = cores::spawn("sumac-device", core, move || run(&seen, poll))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How busy it was so far. Read while it runs, the two numbers may be of neighbouring turns.
    pub fn load(&self) -> Load {
        let idle_turns = self.shared.idle_turns.load(Ordering::Relaxed);
        let turns = self.shared.turns.load(Ordering::Relaxed);
        Load { turns, idle_turns }
    }

    /// Whether it still runs; it ends by itself only if a device panicked.
    pub fn is_alive(&self) -> bool {
        (self.thread.as_ref()).is_some_and(|thread| !thread.is_finished())
    }

    /// Ends it and waits until it has. Devices stand still afterwards. Whether all was well:
    /// `false` if a device panicked.
    pub fn stop(&mut self) -> bool {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for DeviceThread {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, mut poll: impl FnMut(u64) -> usize) {
    let mut load = Load::default();
    let mut idle_streak = 0u32;
    while !shared.stop.load(Ordering::Relaxed) {
        let work = poll(monotonic_ns());
        load.turns += 1;
        shared.turns.store(load.turns, Ordering::Relaxed);
        if work > 0 {
            idle_streak = 0;
            continue;
        }
        load.idle_turns += 1;
        shared.idle_turns.store(load.idle_turns, Ordering::Relaxed);
        idle_streak = idle_streak.saturating_add(1);
        if idle_streak > SPINS {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn polls_until_stopped() {
        let (sender, polls) = mpsc::channel();
        let mut left = 1000;
        let poll = move |now_ns| {
            let _ = sender.send(now_ns);
            left -= i32::from(left > 0);
            usize::from(left > 0)
        };
        let mut thread = DeviceThread::start(None, poll).unwrap();
        let times: Vec<u64> = polls.iter().take(2000).collect();
        assert!(times.is_sorted());
        assert!(thread.is_alive());
        assert!(thread.stop());
        assert!(!thread.is_alive());
        let load = thread.load();
        assert!(load.turns >= 2000);
        assert_eq!(load.turns - load.idle_turns, 999);
        assert_eq!(polls.iter().count() as u64, load.turns - 2000);
        assert!(thread.stop());
    }

    #[test]
    fn ends_when_dropped() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let thread = DeviceThread::start(None, move |_| Arc::strong_count(&held)).unwrap();
        drop(thread);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn needs_a_core_that_is_there() {
        assert!(matches!(
            DeviceThread::start(Some(1023), |_| 0),
            Err(CoreError::NotUsable { core: 1023, .. })
        ));
    }

    #[test]
    fn shares() {
        let early = Load {
            turns: 10,
            idle_turns: 10,
        };
        let late = Load {
            turns: 50,
            idle_turns: 20,
        };
        assert_eq!(late.since(early).idle_share(), 0.25);
        assert_eq!(Load::default().idle_share(), 1.0);
    }
}
