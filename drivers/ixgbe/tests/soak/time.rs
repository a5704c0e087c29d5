//! Time for a session: counted, so that a run can be repeated, or the system's, with the devices on
//! a thread of their own.

use std::sync::Arc;

use sumac_device::Clock;
use sumac_devices::ixgbe::in_process::SystemClock;
use sumac_devices::ixgbe::{DeviceThread, Sim82599, SteppedClock};

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
        Self::Stepped(Arc::new(SteppedClock::new(devices)))
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
