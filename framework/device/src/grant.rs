//! [`DeviceGrant`]: one device as a host hands it to a driver in a domain of its own.
//!
//! What a grant refers to is the host's: its code, its memory, valid as long as the domain it was made
//! for. What the driver makes of it ([`DeviceGrant::backing`]) are objects of the domain's own that
//! call back, so that nothing made by one allocator is ever freed by the other.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

use crate::ring::BufferId;
use crate::{
    Bar, Clock, DeviceBacking, DmaError, DmaMapping, DmaMemory, DmaSpace, PciId, RegisterIo, Table,
    TableMemory,
};

/// DMA memory, by its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawDma {
    /// Where the processor sees it.
    pub base: NonNull<u8>,
    /// Bytes.
    pub len: usize,
    /// Where the device sees it.
    pub iova: u64,
    /// Whether 2 MiB pages or larger hold it.
    pub huge_pages: bool,
}

/// The host's side of a granted device. Nothing that crosses here was allocated by either side for the
/// other to free.
///
/// # Safety
/// Implementers promise what [`RegisterIo`], [`DmaMapping`] and [`TableMemory`] promise for what they
/// hand out: registers as long as the grant lasts, memory until it is released.
pub unsafe trait HostDevice: Sync {
    /// How people name the device.
    fn name(&self) -> &str;
    /// Vendor and device id.
    fn id(&self) -> PciId;
    /// Bytes of the register BAR.
    fn bar_len(&self) -> u32;
    /// Reads a register, as [`RegisterIo::read32`].
    fn read32(&self, offset: u32) -> u32;
    /// Writes a register, as [`RegisterIo::write32`].
    fn write32(&self, offset: u32, value: u32);
    /// The cell of a register that may be stored to directly.
    fn mapped(&self, offset: u32) -> Option<NonNull<AtomicU32>>;
    /// Zeroed DMA memory; none when the host has none left.
    fn allocate(&self, len: usize, align: usize) -> Option<RawDma>;
    /// Takes DMA memory back.
    fn release(&self, memory: RawDma);
    /// A table of `len` buffer numbers.
    fn table(&self, len: usize) -> Option<NonNull<BufferId>>;
    /// Takes a table back.
    fn release_table(&self, table: NonNull<BufferId>);
    /// Now, in nanoseconds.
    fn now_ns(&self) -> u64;
    /// Lets time pass.
    fn sleep_ns(&self, ns: u64);
}

/// One device, granted to one domain. It cannot be cloned.
pub struct DeviceGrant(&'static dyn HostDevice);

impl DeviceGrant {
    /// A grant of `device`.
    ///
    /// # Safety
    /// `device` outlives the domain that the grant is for, and is granted to no other meanwhile.
    pub unsafe fn new(device: &'static dyn HostDevice) -> Self {
        Self(device)
    }

    /// What a driver takes.
    pub fn backing(self) -> DeviceBacking {
        DeviceBacking {
            name: String::from(self.0.name()),
            id: self.0.id(),
            bar: Bar::new(Arc::new(Granted(self.0))),
            dma: Arc::new(Granted(self.0)),
            clock: Arc::new(Granted(self.0)),
        }
    }
}

// SAFETY: the host's side is Sync.
unsafe impl Send for DeviceGrant {}

/// The domain's side of the host's.
struct Granted(&'static dyn HostDevice);

// SAFETY: the host's side is Sync.
unsafe impl Send for Granted {}
// SAFETY: as above.
unsafe impl Sync for Granted {}

// SAFETY: the host promises cells that are valid as long as the grant, which outlives the domain.
unsafe impl RegisterIo for Granted {
    fn len(&self) -> u32 {
        self.0.bar_len()
    }

    fn read32(&self, offset: u32) -> u32 {
        self.0.read32(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.0.write32(offset, value);
    }

    fn mapped(&self, offset: u32) -> Option<NonNull<AtomicU32>> {
        self.0.mapped(offset)
    }
}

impl Clock for Granted {
    fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    fn sleep_ns(&self, ns: u64) {
        self.0.sleep_ns(ns);
    }
}

impl DmaSpace for Granted {
    fn allocate(&self, len: usize, align: usize) -> Result<DmaMemory, DmaError> {
        let memory = self.0.allocate(len, align).ok_or_else(|| no_memory(len))?;
        Ok(DmaMemory::new(Box::new(GrantedMemory {
            device: self.0,
            memory,
        })))
    }

    fn table(&self, len: usize) -> Result<Table, DmaError> {
        let cells = self.0.table(len).ok_or_else(|| no_memory(4 * len))?;
        Ok(Table::new(Box::new(GrantedTable {
            device: self.0,
            cells,
            len,
        })))
    }
}

fn no_memory(bytes: usize) -> DmaError {
    DmaError::OutOfMemory {
        bytes,
        reason: "the host refused it; see what it says".to_string(),
    }
}

struct GrantedMemory {
    device: &'static dyn HostDevice,
    memory: RawDma,
}

// SAFETY: the host's side is Sync, and the memory's addresses are plain numbers here.
unsafe impl Send for GrantedMemory {}
// SAFETY: as above.
unsafe impl Sync for GrantedMemory {}

// SAFETY: the host promises it, until `release`, which `drop` calls.
unsafe impl DmaMapping for GrantedMemory {
    fn base(&self) -> NonNull<u8> {
        self.memory.base
    }

    fn len(&self) -> usize {
        self.memory.len
    }

    fn iova(&self) -> u64 {
        self.memory.iova
    }

    fn huge_pages(&self) -> bool {
        self.memory.huge_pages
    }
}

impl Drop for GrantedMemory {
    fn drop(&mut self) {
        self.device.release(self.memory);
    }
}

struct GrantedTable {
    device: &'static dyn HostDevice,
    cells: NonNull<BufferId>,
    len: usize,
}

// SAFETY: as for `GrantedMemory`.
unsafe impl Send for GrantedTable {}

// SAFETY: the host promises it, until `release_table`, which `drop` calls.
unsafe impl TableMemory for GrantedTable {
    fn cells(&self) -> NonNull<BufferId> {
        self.cells
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl Drop for GrantedTable {
    fn drop(&mut self) {
        self.device.release_table(self.cells);
    }
}

/// What a host does to a device whose driver is gone.
pub trait DeviceControl: Send + Sync {
    /// Ends its DMA (bus master off) and resets it. Whether it stands still, or is gone for good: if not, nothing that
    /// it could reach may be used again.
    #[must_use]
    fn stop(&self) -> bool;

    /// Lets it do DMA again, for the next driver.
    fn start(&self);

    /// Whether it answers, and was never away since it was opened; whatever became of its driver.
    fn is_there(&self) -> bool;
}
