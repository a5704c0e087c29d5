//! Runs somebody else's driver on software 82599s whose wires generate and verify frames.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sumac_devices::ixgbe::{Violation, Violations};
use sumac_devices::shared_bar::{
    PortIdentity, Reservation, SharedBar, SharedBarError, SharedPorts,
};
use sumac_devices::wire::{AnyWire, Wire, WireReport};
use sumac_linux::cores::{CoreError, pin_current_thread};
use sumac_linux::open::OpenError;
use sumac_linux::spec::SpecError;

/// What a plain BAR cannot judge, since the device sees a register only when it looks, not when it is
/// written. Where the enable bit and the tail are both new at one look, it cannot tell which came first;
/// and a receiver that was stopped and started again between two looks never stopped for the device.
pub const UNSEEN: &[Violation] = &[
    Violation::TailWhileDisabled,
    Violation::ControlWriteWhileReceiving,
];

/// What DPDK's driver is known to do: no more than [`UNSEEN`].
pub const KNOWN_OF_DPDK: &[Violation] = UNSEEN;

/// What was violated beyond what is known, as text.
pub fn unexpected(violations: &Violations, known: &[Violation]) -> Option<String> {
    let known: u64 = known.iter().map(|&known| violations.count(known)).sum();
    (violations.total() > known).then(|| violations.to_string())
}

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
    /// What is to be plugged in cannot be.
    #[error(transparent)]
    Wire(#[from] OpenError),
    /// What is to be plugged in is not understood.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The device's core.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The device panicked, and said why on standard error.
    #[error("the software device panicked")]
    Panicked,
    /// The command could not be interrupted.
    #[error("interrupting the driver: {0}")]
    Interrupt(#[from] nix::errno::Errno),
    /// The command could not be waited for.
    #[error("waiting for the driver: {0}")]
    Wait(#[from] std::io::Error),
}

/// While frames flow, control registers are looked at every so many polls; else at each, since a driver
/// that resets the device gives it ten microseconds.
const POLLS_PER_CONTROL: u32 = 16;

/// How long a driver may take to end after it was interrupted.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs `command` on the ports until it ends. As soon as `enough` holds of the wires' reports, it is
/// interrupted as by Ctrl-C; if it does not end then, killed. The device is stepped by the calling
/// thread.
///
/// # Errors
/// [`BenchError`], above all when not root. Nothing is left behind.
pub fn run(
    bench: Bench,
    command: &mut Command,
    enough: impl FnMut(&[WireReport]) -> bool + Send,
) -> Result<Outcome, BenchError> {
    // A thread of its own, since it is bound to a core.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| serve(bench, command, enough));
        thread.join().unwrap_or(Err(BenchError::Panicked))
    })
}

fn serve(
    bench: Bench,
    command: &mut Command,
    mut enough: impl FnMut(&[WireReport]) -> bool,
) -> Result<Outcome, BenchError> {
    let _pages = Reservation::new(bench.huge_pages)?;
    let identities = vec![PortIdentity::new(bench.device); bench.wires.len()];
    let bar = SharedBar::new(&identities)?;
    let mut ports = SharedPorts::new(&bar, bench.wires);
    let _watch = bar.watch();
    let mut child = Driver(bar.spawn(command)?);
    // After the start: the driver is not to be bound to the device's core.
    pin_current_thread(bench.core)?;
    let mut interrupted: Option<Instant> = None;
    let status = loop {
        step(&mut ports);
        if interrupted.is_none() && enough(&reports(&mut ports)) {
            kill(Pid::from_raw(child.0.id() as i32), Signal::SIGINT)?;
            interrupted = Some(Instant::now());
        }
        if interrupted.is_some_and(|since| since.elapsed() > END_TIMEOUT) {
            child.0.kill()?;
        }
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
    };
    for wire in ports.wires() {
        wire.finish();
    }
    let violations = (0..identities.len()).filter_map(|port| ports.violations(port).cloned());
    Ok(Outcome {
        status,
        violations: violations.collect(),
        reports: reports(&mut ports),
    })
}

/// Some thousand polls.
fn step(ports: &mut SharedPorts<AnyWire>) {
    for poll in 0..4096_u32 {
        if ports.poll() == 0 || poll.is_multiple_of(POLLS_PER_CONTROL) {
            ports.poll_control();
        }
    }
}

fn reports(ports: &mut SharedPorts<AnyWire>) -> Vec<WireReport> {
    ports.wires().map(|wire| wire.report()).collect()
}

/// The command; killed if the device's side fails.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
