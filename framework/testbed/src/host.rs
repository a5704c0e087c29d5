//! The host: [`HeapDma`], a [`DmaSpace`] that knows what it mapped where, [`Registers`], and pools
//! that are used again from test to test, since a pool is never given back.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sumac_device::{Bar, DmaError, DmaMapping, DmaMemory, DmaSpace, Doorbell, RegisterIo};
use sumac_rref::{PacketPool, SharedHeap};

/// First bus address: no pointer of the processor's looks like it.
const FIRST_IOVA: u64 = 1 << 32;
/// Bus addresses are given out in steps of this.
const STEP: u64 = 1 << 21;

/// What is mapped: length and processor's address (as a number) by bus address.
type Mapped = Arc<Mutex<BTreeMap<u64, (usize, usize)>>>;

/// DMA memory on the heap.
#[derive(Default)]
pub struct HeapDma {
    mapped: Mapped,
    used: AtomicU64,
}

struct HeapMapping {
    base: NonNull<u8>,
    layout: Layout,
    iova: u64,
    mapped: Mapped,
}

// SAFETY: the memory is this value's alone; the rest is Send.
unsafe impl Send for HeapMapping {}
// SAFETY: nothing is reached through a shared reference.
unsafe impl Sync for HeapMapping {}

// SAFETY: `layout.size()` zeroed bytes were allocated at `base`, for this mapping alone, and are
// freed when it is dropped.
unsafe impl DmaMapping for HeapMapping {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    fn len(&self) -> usize {
        self.layout.size()
    }
    fn iova(&self) -> u64 {
        self.iova
    }
    fn huge_pages(&self) -> bool {
        false
    }
}

impl Drop for HeapMapping {
    fn drop(&mut self) {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.remove(&self.iova);
        // SAFETY: allocated with this layout; the table above forgot it under its lock.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

impl DmaSpace for HeapDma {
    fn allocate(&self, len: usize, align: usize) -> Result<DmaMemory, DmaError> {
        let bad = DmaError::BadLayout { bytes: len, align };
        let layout = Layout::from_size_align(len, align.max(4096)).map_err(|_| bad.clone())?;
        if len == 0 || align as u64 > STEP {
            return Err(bad);
        }
        // SAFETY: the layout has a size above zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) });
        let base = base.ok_or_else(|| DmaError::OutOfMemory {
            bytes: len,
            reason: "the heap is full".into(),
        })?;
        let step = (len as u64).next_multiple_of(STEP) + STEP;
        let iova = FIRST_IOVA + self.used.fetch_add(step, Ordering::Relaxed);
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.insert(iova, (len, base.as_ptr().expose_provenance()));
        Ok(DmaMemory::new(Box::new(HeapMapping {
            base,
            layout,
            iova,
            mapped: self.mapped.clone(),
        })))
    }
}

impl HeapDma {
    /// Runs `access` on the byte behind a bus address, of which `len` follow, while it stays mapped.
    fn translate<R>(&self, iova: u64, len: usize, access: impl FnOnce(*mut u8) -> R) -> R {
        let mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let region = mapped.range(..=iova).next_back();
        let inside = region.and_then(|(start, (size, base))| {
            let offset = usize::try_from(iova - start).ok()?;
            let end = offset.checked_add(len)?;
            (end <= *size).then(|| base + offset)
        });
        let Some(address) = inside else {
            panic!("DMA fault: {len} bytes at {iova:#x} are not mapped");
        };
        access(std::ptr::with_exposed_provenance_mut(address))
    }

    /// The device reads `len` bytes.
    pub fn read(&self, iova: u64, len: usize) -> Vec<u8> {
        // SAFETY: `len` bytes are mapped there; a test's device works on the thread of its driver,
        // which lends none of the buffers it posted.
        self.translate(iova, len, |from| unsafe {
            std::slice::from_raw_parts(from, len).to_vec()
        })
    }

    /// The device writes bytes.
    pub fn write(&self, iova: u64, bytes: &[u8]) {
        // SAFETY: as in `read`.
        self.translate(iova, bytes.len(), |to| unsafe {
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        });
    }

    /// The device reads an aligned word, in one piece.
    pub fn load(&self, iova: u64) -> u64 {
        assert!(iova.is_multiple_of(8), "{iova:#x} is no word's address");
        // SAFETY: eight bytes are mapped there, aligned; descriptors are atomics on both sides.
        self.translate(iova, 8, |word| unsafe {
            AtomicU64::from_ptr(word.cast()).load(Ordering::Acquire)
        })
    }

    /// The device writes an aligned word, in one piece, after all it wrote before.
    pub fn store(&self, iova: u64, value: u64) {
        assert!(iova.is_multiple_of(8), "{iova:#x} is no word's address");
        // SAFETY: as in `load`.
        self.translate(iova, 8, |word| unsafe {
            AtomicU64::from_ptr(word.cast()).store(value, Ordering::Release);
        });
    }
}

/// Registers in a vector: the first half is mapped, the second is reached by calls.
pub struct Registers(Vec<AtomicU32>);

/// The tail registers of the tests' device, one mapped and one not.
#[derive(Clone, Copy, Debug)]
pub enum Tail {
    /// The receive ring's.
    Receive,
    /// The transmit ring's.
    Transmit,
}

impl sumac_device::registers::Writable for Tail {
    fn offset(self) -> u32 {
        match self {
            Tail::Receive => 0,
            Tail::Transmit => 12,
        }
    }
}

impl Registers {
    /// All zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Self((0..4).map(|_| AtomicU32::new(0)).collect()))
    }

    /// What was last written to a tail.
    pub fn tail(&self, tail: Tail) -> u32 {
        self.read32(sumac_device::registers::Writable::offset(tail))
    }

    /// The doorbell of a tail.
    pub fn doorbell(self: &Arc<Self>, tail: Tail) -> Doorbell {
        Bar::new(self.clone()).doorbell(tail)
    }
}

// SAFETY: cells of a vector that is never changed are valid as long as it.
unsafe impl RegisterIo for Registers {
    fn len(&self) -> u32 {
        self.0.len() as u32 * 4
    }
    fn read32(&self, offset: u32) -> u32 {
        let cell = self.0.get(offset as usize / 4);
        cell.map_or(u32::MAX, |cell| cell.load(Ordering::Acquire))
    }
    fn write32(&self, offset: u32, value: u32) {
        if let Some(cell) = self.0.get(offset as usize / 4) {
            cell.store(value, Ordering::Release);
        }
    }
    fn mapped(&self, offset: u32) -> Option<NonNull<AtomicU32>> {
        let half = self.len() / 2;
        let cell = self.0.get(offset as usize / 4).filter(|_| offset < half);
        cell.map(NonNull::from)
    }
}

thread_local! {
    static POOLS: RefCell<Vec<(u32, Arc<HeapDma>, &'static PacketPool)>> = const { RefCell::new(Vec::new()) };
}

/// Runs `test` with a pool of `buffers`, all free, and checks that it left all of them free. Pools
/// are kept for the thread's next test of this size; one whose test panicked is not.
pub fn with_pool<R>(buffers: u32, test: impl FnOnce(&Arc<HeapDma>, &'static PacketPool) -> R) -> R {
    let kept = POOLS.with_borrow_mut(|pools| {
        let at = pools.iter().position(|(size, ..)| *size == buffers)?;
        Some(pools.swap_remove(at))
    });
    let (_, dma, pool) = kept.unwrap_or_else(|| {
        let dma = Arc::new(HeapDma::default());
        let pool =
            PacketPool::create(SharedHeap::create(), &*dma, buffers).expect("the heap has room");
        (buffers, dma, pool)
    });
    let result = test(&dma, pool);
    assert_eq!(pool.audit(), Ok(buffers), "not every buffer came back once");
    let account = pool.account();
    assert_eq!(
        (account.free, account.device, account.held),
        (buffers, 0, 0),
        "the pool's account is off"
    );
    POOLS.with_borrow_mut(|pools| pools.push((buffers, dma, pool)));
    result
}
