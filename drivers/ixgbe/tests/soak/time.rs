//! Time for a session: counted, so that a run can be repeated, or the system's, with the devices on
//! a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sumac_device::Clock;
use sumac_devices::ixgbe::in_process::SystemClock;
use sumac_devices::ixgbe::{DeviceThread, Sim82599};

/// Time that passes only when somebody waits. The devices work whenever it does, so that a
/// driver's waits end as on silicon, in no time.
pub struct SteppedClock {
    now_ns: AtomicU64,
    devices: Vec<Sim82599>,
}

impl SteppedClock {
    /// Lets `ns` pass and each device work once; returns how much they did.
    fn step(&self, ns: u64) -> usize {
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

/// How a session's devices come to work.
pub enum Time {
    /// By and by, on the test's own thread.
    Stepped(Arc<SteppedClock>),
    /// All the time, on a thread of their own.
    Running {
        /// The system's.
        clock: Arc<SystemClock>,
        /// Polls the devices until it is dropped.
        _thread: DeviceThread,
    },
}

impl Time {
    /// Counted time.
    pub fn stepped(devices: &[Sim82599]) -> Self {
        Self::Stepped(Arc::new(SteppedClock {
            now_ns: AtomicU64::new(1),
            devices: devices.to_vec(),
        }))
    }

    /// The system's time.
    pub fn running(devices: &[Sim82599]) -> Self {
        Self::Running {
            clock: Arc::new(SystemClock::new()),
            _thread: DeviceThread::spawn(devices, None).expect("a thread can be made"),
        }
    }

    /// Whether time is counted.
    pub fn is_stepped(&self) -> bool {
        matches!(self, Self::Stepped(_))
    }

    /// The clock for drivers.
    pub fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::Stepped(clock) => clock.clone(),
            Self::Running { clock, .. } => clock.clone(),
        }
    }

    /// Lets about `ns` pass.
    pub fn pass(&self, ns: u64) {
        match self {
            Self::Stepped(clock) => _ = clock.step(ns),
            Self::Running { .. } => std::thread::yield_now(),
        }
    }
}
