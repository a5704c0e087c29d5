//! Runs somebody else's driver on software 82599s whose wires generate and verify frames.

use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};

use sumac_devices::ixgbe::Violations;
use sumac_devices::shared_bar::{
    PortIdentity, Reservation, SharedBar, SharedBarError, SharedPorts,
};
use sumac_devices::wire::{AnyWire, Wire, WireError, WireReport};
use sumac_linux::cores::{CoreError, pin_current_thread};

/// What to run a driver on.
pub struct Bench {
    /// PCI device id of every port.
    pub device: u16,
    /// What is plugged into each port.
    pub wires: Vec<AnyWire>,
    /// 2 MiB pages that must be free for the driver.
    pub huge_pages: u64,
    /// The device's core.
    pub core: usize,
}

/// How it went.
pub struct Outcome {
    /// How the command ended.
    pub status: ExitStatus,
    /// What passed each wire.
    pub reports: Vec<WireReport>,
    /// What the driver did wrong, by port.
    pub violations: Vec<Violations>,
}

/// What keeps it from running.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The device's side.
    #[error(transparent)]
    Device(#[from] SharedBarError),
    /// A wire.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// No such wire.
    #[error("{0:?} is no wire option; use gen, null, size=BYTES, rate=line|max|FRAMES, ...")]
    Option(String),
    /// The device's core.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The command could not be waited for.
    #[error("waiting for the driver: {0}")]
    Wait(#[from] std::io::Error),
}

/// While frames flow, control registers are looked at every so many polls; else at each, since a driver
/// that resets the device gives it ten microseconds.
const POLLS_PER_CONTROL: u32 = 16;

/// Runs `command` on the ports until it ends, or, if `stop` becomes true, ends it. The device is
/// stepped by the calling thread.
///
/// # Errors
/// [`BenchError`], above all when not root. Nothing is left behind.
pub fn run(bench: Bench, command: &mut Command, stop: &AtomicBool) -> Result<Outcome, BenchError> {
    let _pages = Reservation::new(bench.huge_pages)?;
    let identities = vec![PortIdentity::new(bench.device); bench.wires.len()];
    let bar = SharedBar::new(&identities)?;
    let mut ports = SharedPorts::new(&bar, bench.wires);
    let _watch = bar.watch();
    let mut child = bar.spawn(command)?;
    pin_current_thread(bench.core)?;
    let status = loop {
        for poll in 0..4096_u32 {
            if ports.poll() == 0 || poll.is_multiple_of(POLLS_PER_CONTROL) {
                ports.poll_control();
            }
        }
        if stop.load(Ordering::Relaxed) {
            child.kill()?;
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
    };
    let violations = (0..identities.len()).filter_map(|port| ports.violations(port).cloned());
    let violations = violations.collect();
    let reports = ports.wires().map(|wire| {
        wire.finish();
        wire.report()
    });
    Ok(Outcome {
        status,
        reports: reports.collect(),
        violations,
    })
}
