//! A software 82599 as a PCI function for other processes.
//!
//! Registers are reached by messages, with their side effects. The tails can be mapped as well: region
//! [`TAILS`] is the BAR's cells, of which a client may write the tails and nothing else. (On the silicon
//! tails share pages with registers that must be trapped, so the BAR itself cannot be mapped.)
//!
//! Invariant: lock order is configuration space, memory, core, interrupt lines.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::function::{Function, Region};
use super::lines::{Change, Lines};
use super::message::{Area, region};
use crate::ixgbe::config_space::{self, MSIX_BAR_BYTES, MSIX_PENDING, MSIX_VECTORS};
use crate::ixgbe::port::{LockedPort, Port};
use crate::ixgbe::registers::{BAR_BYTES, Place, QueueRegister, decode, is_transmit_control};
use crate::ixgbe::{Access32, Cells, Core, Fault, Identity, Polled, Totals, VENDOR, Violations};
use crate::memory::{GuestMemory, WindowError};
use crate::pci::{CONFIG_BYTES, ConfigSpace, STATUS, STATUS_INTX};
use crate::shared_bar::{BarMemory, SharedBarError};
use crate::wire::{AnyWire, Wire, WireReport};

/// The region of the BAR's cells, for clients that know of it.
pub const TAILS: u32 = region::PCI_COUNT;
/// Its type: Intel's own.
pub const TAILS_KIND: (u32, u32) = (1 << 31 | VENDOR as u32, 0x8259_9001);
/// Whether the register at `offset` is a tail: what a client may store to in [`TAILS`].
pub fn is_tail(offset: u32) -> bool {
    matches!(
        decode(offset),
        Place::Receive(_, QueueRegister::Tail) | Place::Transmit(_, QueueRegister::Tail)
    )
}

/// Bus addresses clients can use: 1 TiB.
const WINDOW: u64 = 1 << 40;
/// BAR 0, and the BAR of the MSI-X table.
const REGISTERS: u32 = 0;
const MSIX: u32 = 4;

/// Why there is no device to be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No memory for registers.
    #[error(transparent)]
    Bar(#[from] SharedBarError),
    /// No addresses for a client's memory.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// No way to tell interrupts.
    #[error(
        "no asynchronous I/O, which interrupts are told by: {0}; it takes a kernel with CONFIG_AIO, a sandbox that allows io_setup, and room below fs.aio-max-nr"
    )]
    Telling(std::io::Error),
}

/// A software 82599 to be served. Clones are the same device.
#[derive(Clone)]
pub struct Served82599(Arc<Inner>);

struct Inner {
    cells: Arc<BarMemory>,
    memory: GuestMemory,
    port: LockedPort,
    lines: Arc<Lines>,
    config: Mutex<ConfigSpace>,
    /// The MSI-X table: kept for whoever reads it; vectors go where the client said.
    table: Mutex<Vec<u8>>,
}

impl Served82599 {
    /// A device at power-on.
    ///
    /// # Errors
    /// [`ServeError`] when the system gives no memory or addresses.
    pub fn new(identity: Identity, wire: AnyWire) -> Result<Self, ServeError> {
        Self::with_vectors(identity, wire, MSIX_VECTORS)
    }

    /// As [`new`](Self::new), but MSI-X is not offered: QEMU, up to 11.1, aborts when a vfio-user device that has it
    /// is unplugged (`device_del`).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn without_msix(identity: Identity, wire: AnyWire) -> Result<Self, ServeError> {
        Self::with_vectors(identity, wire, 0)
    }

    fn with_vectors(identity: Identity, wire: AnyWire, vectors: u16) -> Result<Self, ServeError> {
        let cells = Arc::new(BarMemory::new()?);
        let lines = Arc::new(Lines::new(vectors).map_err(ServeError::Telling)?);
        let shared = Arc::clone(&cells) as Cells;
        let mut core = Core::new(shared, Access32::Trapped, identity, Vec::new(), false);
        core.set_bus_master(false);
        let told = Arc::clone(&lines);
        core.on_interrupt(Box::new(move |vector| told.raise(vector)));
        Ok(Self(Arc::new(Inner {
            cells,
            memory: GuestMemory::new(WINDOW)?,
            port: LockedPort::new(core, wire),
            lines,
            config: Mutex::new(config_space::config_space(&identity, vectors)),
            table: Mutex::new(vec![0; MSIX_PENDING as usize]),
        })))
    }

    /// What the driver did wrong so far.
    pub fn violations(&self) -> Violations {
        self.0.port.lock_first().core.violations().clone()
    }

    /// Statistics since the device was made.
    pub fn totals(&self) -> Totals {
        self.0.port.lock_first().core.totals().clone()
    }

    /// What has passed the wire.
    pub fn wire_report(&self) -> WireReport {
        self.0.port.lock_first().wire.report()
    }

    /// Whether its driver has it receive: the last step of starting it.
    pub fn is_receiving(&self) -> bool {
        self.0.port.lock_first().core.is_receiving()
    }

    /// Lets something go wrong from now on. One that is pulled out reads as all ones but for configuration space, which
    /// the bus answers.
    pub fn inject(&self, fault: Fault) {
        self.0.port.lock_first().core.inject(fault);
    }

    /// Makes the device healthy again.
    pub fn heal(&self) {
        self.0.port.lock_first().core.heal();
    }

    /// Flushes the wire: after the last frame.
    pub fn finish(&self) {
        self.0.port.lock_first().wire.finish();
    }
}

impl Polled for Served82599 {
    fn poll(&self, now_ns: u64) -> usize {
        let access = self.0.memory.access();
        self.0.port.lock().poll(&access, now_ns)
    }

    fn is_wanted(&self) -> bool {
        self.0.port.is_wanted()
    }
}

impl Inner {
    fn config(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        let mut config = self.config();
        let changes = config_space::write(&mut config, offset, data);
        let mut port = self.port.lock_first();
        port.core.set_bus_master(changes.bus_master);
        if changes.reset {
            self.reset_function(&mut port);
        }
        self.lines
            .allow_pin(changes.pin, port.core.interrupt_pending());
    }

    fn reset_function(&self, port: &mut Port) {
        port.core.function_reset();
        self.lines.reset();
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        let mut config = self.config();
        let asserted = self.port.lock_first().core.interrupt_pending();
        let status = config.get16(STATUS) & !STATUS_INTX;
        config.put16(STATUS, status | if asserted { STATUS_INTX } else { 0 });
        config.read(offset, data);
    }

    fn table(&self) -> MutexGuard<'_, Vec<u8>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_msix(&self, offset: usize, data: &mut [u8]) {
        let table = self.table();
        for (at, byte) in (offset..).zip(data) {
            let pending = at.wrapping_sub(MSIX_PENDING as usize);
            *byte = match table.get(at) {
                Some(&stored) => stored,
                None if pending < usize::from(MSIX_VECTORS) / 8 => (0..8)
                    .map(|bit| u8::from(self.lines.is_pending(8 * pending + bit)) << bit)
                    .sum(),
                None => 0,
            };
        }
    }
}

impl Function for Served82599 {
    fn regions(&self) -> u32 {
        TAILS + 1
    }

    fn region(&self, index: u32) -> Option<Region<'_>> {
        let plain = |bytes| Region {
            bytes,
            mappable: None,
            kind: None,
        };
        match index {
            REGISTERS => Some(plain(BAR_BYTES.into())),
            MSIX => Some(plain(MSIX_BAR_BYTES.into())),
            region::CONFIG => Some(plain(CONFIG_BYTES as u64)),
            TAILS => {
                let size = u64::from(BAR_BYTES);
                let area = Area { offset: 0, size };
                Some(Region {
                    mappable: Some((self.0.cells.file(), area)),
                    kind: Some(TAILS_KIND),
                    ..plain(size)
                })
            }
            _ => None,
        }
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        match region {
            REGISTERS => {
                let mut words = (offset as u32..).step_by(4).take(data.len().div_ceil(4));
                let access = words
                    .any(is_transmit_control)
                    .then(|| self.0.memory.access());
                let mut port = self.0.port.lock_first();
                if let Some(access) = &access {
                    port.core.flush_asked(access);
                }
                for (at, word) in (offset as u32..).step_by(4).zip(data.chunks_mut(4)) {
                    let value = port.core.read_bytes(at, word.len());
                    word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
                }
            }
            MSIX => self.0.read_msix(offset as usize, data),
            region::CONFIG => self.0.read_config(offset as usize, data),
            // The same cells, without side effects, are there to be mapped.
            _ => return Err(Errno::OPNOTSUPP),
        }
        Ok(())
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        match region {
            REGISTERS => {
                let mut port = self.0.port.lock_first();
                for (at, word) in (offset as u32..).step_by(4).zip(data.chunks(4)) {
                    port.core.write_bytes(at, word);
                }
            }
            MSIX => {
                for (at, &byte) in (offset as usize..).zip(data) {
                    if let Some(stored) = self.0.table().get_mut(at) {
                        *stored = byte;
                    }
                }
            }
            region::CONFIG => self.0.write_config(offset as usize, data),
            _ => return Err(Errno::OPNOTSUPP),
        }
        Ok(())
    }

    fn memory(&self) -> &GuestMemory {
        &self.0.memory
    }

    fn lines(&self) -> &Lines {
        &self.0.lines
    }

    fn set_lines(&self, change: Change) {
        let port = self.0.port.lock_first();
        self.0.lines.set(change, port.core.interrupt_pending());
    }

    fn reset(&self) {
        let mut config = self.0.config();
        config.reset();
        let mut port = self.0.port.lock_first();
        port.core.set_bus_master(false);
        self.0.reset_function(&mut port);
        self.0.table().fill(0);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::super::message::{SetIrqs, irq};
    use super::*;
    use crate::ixgbe::registers as r;
    use crate::wire::NullWire;

    #[test]
    fn a_cause_that_comes_as_the_pin_is_unmasked_is_told() {
        let device = Served82599::new(Identity::default(), NullWire::new().into()).unwrap();
        let event = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let change = |flags, fds| {
            let request = SetIrqs {
                argsz: SetIrqs::SIZE as u32,
                flags,
                index: irq::INTX,
                start: 0,
                count: 1,
            };
            let change = device.lines().change(&request, &[], fds).unwrap();
            device.set_lines(change);
        };
        let write = |offset: u32, value: u32| {
            let data = value.to_le_bytes();
            device.write(REGISTERS, offset.into(), &data).unwrap();
        };
        let told = || {
            let mut count = [0; 8];
            rustix::io::read(&event, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
        };
        let theirs = event.try_clone().unwrap();
        change(irq::DATA_EVENTFD | irq::TRIGGER, vec![theirs]);
        write(r::EIMS, r::EICR_LINK);
        write(r::EICS, r::EICR_LINK);
        assert_eq!(told(), 1);
        for round in 0..2000 {
            // The pin is masked, as it was told, and goes down.
            device.read(REGISTERS, r::EICR.into(), &mut [0; 4]).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| write(r::EICS, r::EICR_LINK));
                change(irq::DATA_NONE | irq::UNMASK, vec![]);
            });
            assert_eq!(told(), 1, "round {round}");
        }
    }
}
