//! The front for drivers in this process: control registers trapped, tails shared.
//!
//! Writes are posted, as on PCIe: whoever writes does not wait, and a read comes back when every write before
//! it took effect. A tail, which is stored to directly, may overtake them: the datasheet has a driver read
//! a queue's ENABLE back before it moves the tail (sections 4.6.7 and 4.6.8).
//!
//! Invariant: the core is behind one lock. A device thread holds it for one bounded poll at a time
//! and stands back while a register access waits, so that accesses take microseconds.

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use sumac_device::{Bar, Clock, DeviceBacking, DeviceControl, PciId};

use super::device::{Access32, Cells, Core};
use super::port::{LockedPort, Polled, Port};
use super::posted::Posted;
use super::registers::{BAR_BYTES, Place, QueueRegister, decode, is_transmit_control};
use super::{Fault, Identity, InterruptHook, Totals, VENDOR, Violations};
use crate::memory::{BarCells, SimDma, Trap, TrappedBar};
use crate::wire::{AnyWire, LinkSwitch, Wire, WireReport};

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
}

/// The part of the device the BAR and the device thread share.
struct Shared {
    name: String,
    identity: Identity,
    cells: Arc<BarCells>,
    port: LockedPort,
    posted: Posted,
    dma: SimDma,
}

impl Shared {
    /// Core and wire, every register write so far in effect.
    fn port(&self) -> MutexGuard<'_, Port> {
        let mut port = self.port.lock_first();
        self.posted.arrive(&mut port.core);
        port
    }
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
                port: LockedPort::new(core, config.wire),
                posted: Posted::new(),
                dma: dma.clone(),
            }),
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
            dma: Arc::new(self.shared.dma.clone()),
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
        let access = self.shared.dma.window().access();
        let mut port = self.shared.port.lock();
        self.shared.posted.arrive(&mut port.core);
        port.poll(&access, now_ns)
    }

    /// Who is told of interrupts, with the vector: without MSI-X all have vector 0. Called with the device
    /// locked, so it may wake somebody and must not touch the device.
    pub fn on_interrupt(&self, hook: InterruptHook) {
        self.shared.port().core.on_interrupt(hook);
    }

    /// What the driver did wrong so far.
    pub fn violations(&self) -> Violations {
        self.shared.port().core.violations().clone()
    }

    /// What has passed the wire.
    pub fn wire_report(&self) -> WireReport {
        self.shared.port().wire.report()
    }

    /// The switch that pulls the cable and plugs it in again.
    pub fn cable(&self) -> LinkSwitch {
        self.shared.port.lock_first().wire.link().clone()
    }

    /// Statistics since the device was made; reading registers does not clear them.
    pub fn totals(&self) -> Totals {
        self.shared.port().core.totals().clone()
    }

    /// Whether its driver has it receive: the last step of starting it.
    pub fn is_receiving(&self) -> bool {
        self.shared.port.lock_first().core.is_receiving()
    }

    /// Lets something go wrong from now on.
    pub fn inject(&self, fault: Fault) {
        self.shared.port().core.inject(fault);
    }

    /// Makes the device healthy again.
    pub fn heal(&self) {
        self.shared.port().core.heal();
    }

    /// How often it came back after it was pulled out.
    pub fn returns(&self) -> u64 {
        self.shared.port.lock_first().core.returns()
    }

    /// Ends the device's DMA, and resets it: it stands still when this returns, since polls hold the
    /// same lock.
    fn halt(&self) {
        let mut port = self.shared.port();
        port.core.set_bus_master(false);
        port.core.function_reset();
    }

    /// Flushes the wire: after the last frame.
    pub fn finish(&self) {
        self.shared.port().wire.finish();
    }
}

impl Polled for Sim82599 {
    fn poll(&self, now_ns: u64) -> usize {
        Self::poll(self, now_ns)
    }

    fn is_wanted(&self) -> bool {
        self.shared.port.is_wanted()
    }
}

impl DeviceControl for Sim82599 {
    fn stop(&self) -> bool {
        self.halt();
        true
    }

    fn start(&self) {
        self.shared.port().core.set_bus_master(true);
    }

    fn is_there(&self) -> bool {
        !self.shared.port.lock_first().core.gone()
    }
}

impl Trap for Shared {
    fn read(&self, offset: u32) -> u32 {
        if !is_transmit_control(offset) {
            return self.port().core.read(offset);
        }
        // In the order in which a poll takes the two.
        let access = self.dma.window().access();
        let mut port = self.port();
        port.core.flush_asked(&access);
        port.core.read(offset)
    }

    fn write(&self, offset: u32, value: u32) {
        while !self.posted.post(offset, value) {
            drop(self.port());
        }
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
        sleep(ns);
    }
}

/// A thread that sleeps is woken some tens of microseconds late.
const LATE: Duration = Duration::from_micros(100);

/// Lets `ns` nanoseconds pass, and few more: the last ones awake, giving way to others.
pub fn sleep(ns: u64) {
    let start = Instant::now();
    let time = Duration::from_nanos(ns);
    if time > 2 * LATE {
        std::thread::sleep(time - LATE);
    }
    while start.elapsed() < time {
        std::thread::yield_now();
    }
}
