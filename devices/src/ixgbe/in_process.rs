//! The front for drivers in this process: control registers trapped, tails shared.
//!
//! Invariant: the core is behind one lock. A device thread holds it for one bounded poll at a time
//! and stands back while a register access waits, so that accesses take microseconds.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sumac_device::{Bar, Clock, DeviceBacking, DeviceControl, PciId};

use super::device::{Access32, Cells, Core};
use super::registers::{BAR_BYTES, Place, QueueRegister, decode};
use super::{Fault, Identity, Totals, VENDOR, Violations};
use crate::memory::{Access, BarCells, GuestMemory, SimDma, Trap, TrappedBar};
use crate::wire::{AnyWire, Wire, WireReport, WireVisitor};

/// Polls without work before a device thread gives way to others.
const SPINS: u32 = 2_000;
/// Further polls, giving way each time, before it sleeps.
const YIELDS: u32 = 2_000;
/// How long it sleeps at a time.
const SLEEP: Duration = Duration::from_micros(50);
/// Polls with work between two looks at the clock.
const POLLS_PER_CLOCK: u32 = 8;

/// What a software 82599 is made from.
pub struct Sim82599Config {
    /// How people name the device: `sim0`.
    pub name: String,
    /// Device id, address and module.
    pub identity: Identity,
    /// What is plugged in.
    pub wire: AnyWire,
    /// What goes wrong, on request.
    pub faults: Vec<Fault>,
    /// Whether to look for buffers posted twice; costs a set operation a descriptor.
    pub strict_deep: bool,
}

impl Sim82599Config {
    /// A healthy device with a wire.
    pub fn new(name: impl Into<String>, wire: impl Into<AnyWire>) -> Self {
        Self {
            name: name.into(),
            identity: Identity::default(),
            wire: wire.into(),
            faults: Vec::new(),
            strict_deep: false,
        }
    }
}

/// A software 82599. Clones are the same device.
#[derive(Clone)]
pub struct Sim82599 {
    shared: Arc<Shared>,
    dma: SimDma,
}

/// The part of the device the BAR and the device thread share.
struct Shared {
    name: String,
    identity: Identity,
    cells: Arc<BarCells>,
    port: Mutex<Port>,
    /// Register accesses that want the lock.
    waiting: AtomicU32,
}

/// Core and wire together.
struct Port {
    core: Core,
    wire: AnyWire,
}

impl Sim82599 {
    /// A device at power-on. All devices of a process may share one `dma`, and with it one pool.
    pub fn new(config: Sim82599Config, dma: &SimDma) -> Self {
        let cells = Arc::new(BarCells::new(BAR_BYTES));
        let core = Core::new(
            Arc::clone(&cells) as Cells,
            Access32::Trapped,
            config.identity,
            config.faults,
            config.strict_deep,
        );
        Self {
            shared: Arc::new(Shared {
                name: config.name,
                identity: config.identity,
                cells,
                port: Mutex::new(Port {
                    core,
                    wire: config.wire,
                }),
                waiting: AtomicU32::new(0),
            }),
            dma: dma.clone(),
        }
    }

    /// What a driver takes: registers, DMA memory and a clock.
    pub fn backing(&self) -> DeviceBacking {
        DeviceBacking {
            name: self.shared.name.clone(),
            id: PciId {
                vendor: VENDOR,
                device: self.shared.identity.device_id,
            },
            bar: Bar::new(Arc::new(TrappedBar::new(
                Arc::clone(&self.shared.cells),
                Arc::clone(&self.shared) as _,
            ))),
            dma: Arc::new(self.dma.clone()),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// One poll on the calling thread, at `now_ns` of the caller's monotonic clock. Returns how
    /// many frames were handled, both ways.
    pub fn poll(&self, now_ns: u64) -> usize {
        let access = self.dma.window().access();
        self.shared.lock().poll(&access, now_ns)
    }

    /// What the driver did wrong so far.
    pub fn violations(&self) -> Violations {
        self.shared.lock_first().core.violations().clone()
    }

    /// What has passed the wire.
    pub fn wire_report(&self) -> WireReport {
        self.shared.lock_first().wire.report()
    }

    /// Statistics since the device was made; reading registers does not clear them.
    pub fn totals(&self) -> Totals {
        self.shared.lock_first().core.totals().clone()
    }

    /// Lets something go wrong from now on.
    pub fn inject(&self, fault: Fault) {
        self.shared.lock_first().core.inject(fault);
    }

    /// Makes the device healthy again.
    pub fn heal(&self) {
        self.shared.lock_first().core.heal();
    }

    /// Ends the device's DMA, and resets it: it stands still when this returns, since polls hold the
    /// same lock.
    fn halt(&self) {
        let mut port = self.shared.lock_first();
        port.core.set_bus_master(false);
        port.core.function_reset();
    }

    /// Flushes the wire: after the last frame.
    pub fn finish(&self) {
        self.shared.lock_first().wire.finish();
    }
}

impl DeviceControl for Sim82599 {
    fn stop(&self) {
        self.halt();
    }

    fn start(&self) {
        self.shared.lock_first().core.set_bus_master(true);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock before the device thread takes it again.
    fn lock_first(&self) -> MutexGuard<'_, Port> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let port = self.lock();
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        port
    }
}

impl Port {
    fn poll(&mut self, access: &Access<'_>, now_ns: u64) -> usize {
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

impl Trap for Shared {
    fn read(&self, offset: u32) -> u32 {
        self.lock_first().core.read(offset)
    }

    fn write(&self, offset: u32, value: u32) {
        self.lock_first().core.write(offset, value);
    }

    /// Tails only: everything else has side effects.
    fn untrapped(&self, offset: u32) -> bool {
        matches!(
            decode(offset),
            Place::Receive(_, QueueRegister::Tail) | Place::Transmit(_, QueueRegister::Tail)
        )
    }
}

/// The system's monotonic clock.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn sleep_ns(&self, ns: u64) {
        if ns >= 20_000 {
            std::thread::sleep(Duration::from_nanos(ns));
            return;
        }
        let until = self.now_ns() + ns;
        while self.now_ns() < until {
            std::thread::yield_now();
        }
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
    pub fn spawn(devices: &[Sim82599], core: Option<usize>) -> std::io::Result<Self> {
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

fn run(devices: &[Sim82599], stop: &AtomicBool) {
    let windows: Vec<Arc<GuestMemory>> = (devices.iter())
        .map(|device| Arc::clone(device.dma.window()))
        .collect();
    let clock = SystemClock::new();
    let mut now_ns = clock.now_ns();
    let mut idle = 0_u32;
    let mut turns = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let mut work = 0;
        for (device, window) in devices.iter().zip(&windows) {
            let access = window.access();
            work += device.shared.lock().poll(&access, now_ns);
            drop(access);
            while device.shared.waiting.load(Ordering::Acquire) != 0 {
                std::thread::yield_now();
            }
        }
        turns = turns.wrapping_add(1);
        idle = if work > 0 { 0 } else { idle.saturating_add(1) };
        if idle > 0 || turns.is_multiple_of(POLLS_PER_CLOCK) {
            now_ns = clock.now_ns();
        }
        match idle {
            0 => {}
            1..=SPINS => std::hint::spin_loop(),
            spins if spins <= SPINS + YIELDS => std::thread::yield_now(),
            _ => std::thread::sleep(SLEEP),
        }
    }
}
