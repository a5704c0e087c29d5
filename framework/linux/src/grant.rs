//! [`GrantedDevice`]: the host's side of a device that a driver in a domain has. It remembers what the
//! driver took, to take it back when the driver is gone.

use std::collections::BTreeMap;
use std::mem::forget;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sumac_device::ring::{BufferId, NO_BUFFER};
use sumac_device::{
    DeviceBacking, DeviceControl, DeviceGrant, DmaError, DmaMemory, HostDevice, PciId, RawDma,
    RegisterIo,
};
use sumac_rref::{DomainId, PacketPool};
use sumac_runtime::{Domain, Grant};

/// A device that can be granted to one domain at a time.
pub struct GrantedDevice {
    backing: DeviceBacking,
    control: Arc<dyn DeviceControl>,
    taken: Mutex<Taken>,
    own_ns: AtomicU64,
}

/// What the driver took.
#[derive(Default)]
struct Taken {
    granted: bool,
    /// DMA memory by the address of its first byte.
    memory: BTreeMap<usize, DmaMemory>,
    /// Tables of rings by the address of the first number.
    tables: BTreeMap<usize, LentTable>,
}

/// A table of ours that the driver writes.
struct LentTable(NonNull<[BufferId]>);

// SAFETY: the numbers are read and freed only when the driver has given the table back or is gone.
unsafe impl Send for LentTable {}

impl LentTable {
    fn new(len: usize) -> Self {
        let cells: Box<[BufferId]> = vec![NO_BUFFER; len].into();
        Self(NonNull::from(Box::leak(cells)))
    }
}

impl Drop for LentTable {
    fn drop(&mut self) {
        // SAFETY: it came from a box; whoever it was lent to gave it back or is gone.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// What came back when a grant ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Packet buffers taken back.
    pub buffers: u32,
    /// Pieces of DMA memory taken back.
    pub memories: usize,
}

impl GrantedDevice {
    /// A device to be granted.
    pub fn new(backing: DeviceBacking, control: Arc<dyn DeviceControl>) -> Self {
        Self {
            backing,
            control,
            taken: Mutex::default(),
            own_ns: AtomicU64::new(0),
        }
    }

    /// Nanoseconds that the device took for itself so far, a sum that only grows: to be stopped, and what its
    /// drivers asked to let pass, which the datasheet has them wait for (reset, queues on and off). What the
    /// host slept longer is not in it, nor how long register accesses took.
    pub fn own_ns(&self) -> u64 {
        self.own_ns.load(Ordering::Relaxed)
    }

    /// The device's registers.
    fn io(&self) -> &dyn RegisterIo {
        // SAFETY: only the driver's own accesses are passed on, and its side is a `Bar` again.
        unsafe { self.backing.bar.io() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants the device; none while another domain has it.
    ///
    /// # Safety
    /// This lives until [`end`](Self::end) was called for that domain, and nobody else drives the device.
    pub unsafe fn grant(&self) -> Option<DeviceGrant> {
        let mut taken = self.taken();
        if taken.granted {
            return None;
        }
        taken.granted = true;
        self.control.start();
        // SAFETY: the caller's promise; the reference is used until `end` at most.
        let device = unsafe { NonNull::from(self).as_ref() };
        // SAFETY: as above, and `granted` was false.
        Some(unsafe { DeviceGrant::new(device) })
    }

    /// Lends the device to a domain, whose packets are of `pool`; none while another has it. When the domain
    /// is reclaimed the device is stopped first, and what the driver had is taken back.
    pub fn lend(
        self: &Arc<Self>,
        domain: Domain,
        pool: &'static PacketPool,
    ) -> Option<DeviceGrant> {
        // SAFETY: the domain keeps the device until it is reclaimed, and that ends the grant.
        let grant = unsafe { self.grant() }?;
        domain.grant(Box::new(Lent {
            device: Arc::clone(self),
            domain: domain.id(),
            pool,
        }));
        Some(grant)
    }

    /// Ends the device's DMA, at once. The first thing to do when its driver died: only then may anything
    /// that the device could reach be freed, and only if it does stand still.
    #[must_use]
    pub fn stop(&self) -> bool {
        let start = self.backing.clock.now_ns();
        let stopped = self.control.stop();
        let stopping = self.backing.clock.now_ns().saturating_sub(start);
        self.own_ns.fetch_add(stopping, Ordering::Relaxed);
        stopped
    }

    /// Gives up for good what the driver had, and the device, which did not stop: it may yet use all of that.
    fn withhold(&self) {
        let mut taken = self.taken();
        forget(std::mem::take(&mut taken.tables));
        forget(std::mem::take(&mut taken.memory));
    }

    /// Takes everything back that the driver had: its packet buffers, rings and DMA memory.
    ///
    /// # Safety
    /// The device stands still ([`stop`](Self::stop)), and no thread has a frame of the domain that had it.
    pub unsafe fn end(&self, domain: DomainId, pool: &PacketPool) -> Ended {
        let mut taken = self.taken();
        let tables = std::mem::take(&mut taken.tables);
        let memories = std::mem::take(&mut taken.memory);
        taken.granted = false;
        drop(taken);
        // SAFETY: the driver that wrote the tables is gone, by the caller's promise.
        let posted = tables.values().map(|table| unsafe { table.0.as_ref() });
        // SAFETY: the caller's promise; the tables are those of the domain's rings.
        let buffers = unsafe { pool.recover(domain, posted) };
        let count = memories.len();
        drop(memories);
        Ended {
            buffers,
            memories: count,
        }
    }
}

/// A device lent to a domain.
struct Lent {
    device: Arc<GrantedDevice>,
    domain: DomainId,
    pool: &'static PacketPool,
}

impl Grant for Lent {
    fn revoke(&mut self) {
        if !self.device.stop() {
            return self.device.withhold();
        }
        // SAFETY: grants are revoked when no thread is in the domain any more; the device stands still.
        unsafe { self.device.end(self.domain, self.pool) };
    }
}

// SAFETY: registers are the backing's, which `self` keeps; memory and tables are kept until released, or
// until the grant ended.
unsafe impl HostDevice for GrantedDevice {
    fn name(&self) -> &str {
        &self.backing.name
    }

    fn id(&self) -> PciId {
        self.backing.id
    }

    fn bar_len(&self) -> u32 {
        self.io().len()
    }

    fn read32(&self, offset: u32) -> u32 {
        self.io().read32(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.io().write32(offset, value);
    }

    fn mapped(&self, offset: u32) -> Option<NonNull<AtomicU32>> {
        self.io().mapped(offset)
    }

    fn allocate(&self, len: usize, align: usize) -> Option<RawDma> {
        let memory = self.backing.dma.allocate(len, align);
        let said = |error: &DmaError| log::error!("{}: {error}", self.backing.name);
        let memory = memory.inspect_err(said).ok()?;
        let raw = RawDma {
            base: memory.base(),
            len: memory.len(),
            iova: memory.iova().to_bits(),
            huge_pages: memory.huge_pages(),
        };
        self.taken()
            .memory
            .insert(raw.base.as_ptr() as usize, memory);
        Some(raw)
    }

    fn release(&self, memory: RawDma) {
        let memory = self.taken().memory.remove(&(memory.base.as_ptr() as usize));
        drop(memory);
    }

    fn table(&self, len: usize) -> Option<NonNull<BufferId>> {
        let table = LentTable::new(len);
        let cells = table.0.cast::<BufferId>();
        self.taken().tables.insert(cells.as_ptr() as usize, table);
        Some(cells)
    }

    fn release_table(&self, table: NonNull<BufferId>) {
        let table = self.taken().tables.remove(&(table.as_ptr() as usize));
        drop(table);
    }

    fn now_ns(&self) -> u64 {
        self.backing.clock.now_ns()
    }

    fn sleep_ns(&self, ns: u64) {
        self.backing.clock.sleep_ns(ns);
        self.own_ns.fetch_add(ns, Ordering::Relaxed);
    }
}
