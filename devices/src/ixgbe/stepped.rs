//! [`SteppedClock`]: counted time, for drivers under test.

use std::sync::atomic::{AtomicU64, Ordering};

use sumac_device::Clock;

use super::Sim82599;

/// Time that passes only when somebody waits. The devices work whenever it does, on the thread of whoever waits: a
/// driver's waits end as on silicon, in no time, and a run takes the same way each time.
pub struct SteppedClock {
    now_ns: AtomicU64,
    devices: Vec<Sim82599>,
}

impl SteppedClock {
    /// The clock of `devices`, which nobody else polls.
    pub fn new(devices: &[Sim82599]) -> Self {
        Self {
            now_ns: AtomicU64::new(1),
            devices: devices.to_vec(),
        }
    }

    /// Lets `ns` nanoseconds pass and each device work once; how many frames they handled.
    pub fn step(&self, ns: u64) -> usize {
        let now_ns = self.now_ns.fetch_add(ns, Ordering::Relaxed) + ns;
        self.devices.iter().map(|device| device.poll(now_ns)).sum()
    }
}

impl Clock for SteppedClock {
    fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    fn sleep_ns(&self, ns: u64) {
        self.step(ns);
    }
}
