//! Memory a device can reach: owned, page-aligned, seen as atomic cells.
//!
//! [`DmaMemory`] is contiguous for the device (one [`Iova`] range) and for the processor. A device
//! may write it at any time, so it is never lent as `&mut [u8]`: words are read and written through
//! atomics, and whoever turns part of it into bytes (the packet pool) argues who owns them.

use alloc::boxed::Box;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use crate::Table;

/// An address as the device sees it. Only memory handed out by a [`DmaSpace`] has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Iova(u64);

impl Iova {
    /// The address as the device's registers and descriptors take it.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on. Not public: no arithmetic leads out of the memory.
    pub(crate) const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// Why DMA memory could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DmaError {
    /// The host has no memory left, or a limit forbids it.
    #[error("no memory for {bytes} bytes of DMA memory: {reason}")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
        /// What the host said, and what to do about it.
        reason: alloc::string::String,
    },
    /// A length of zero, or an alignment that is no power of two or above 2 MiB.
    #[error(
        "DMA memory of {bytes} bytes aligned to {align} cannot be: alignment is a power of two up to 2 MiB, length above zero"
    )]
    BadLayout {
        /// What was asked for.
        bytes: usize,
        /// The alignment asked for.
        align: usize,
    },
    /// The host handed out memory that is shorter or less aligned than was asked.
    #[error(
        "the host handed out DMA memory that is not {bytes} bytes aligned to {align}: its DmaSpace is at fault"
    )]
    BadMemory {
        /// What was asked for.
        bytes: usize,
        /// The alignment asked for.
        align: usize,
    },
}

/// A host's mapping behind a [`DmaMemory`]; dropping it makes the memory unreachable for the
/// device, then gives it back.
///
/// # Safety
/// Implementers promise that `len` bytes at `base` are valid, zeroed when first handed out, aligned
/// as asked, used by nobody else, and mapped for the device at `iova..iova + len`, until dropped.
pub unsafe trait DmaMapping: Send + Sync {
    /// Where the processor sees the memory.
    fn base(&self) -> NonNull<u8>;
    /// Length in bytes.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Where the device sees the memory.
    fn iova(&self) -> u64;
    /// Whether 2 MiB pages or larger hold it.
    fn huge_pages(&self) -> bool;
}

/// Where a driver gets memory its device can reach.
pub trait DmaSpace: Send + Sync {
    /// Zeroed memory of at least `len` bytes aligned to `align` for processor and device.
    ///
    /// # Errors
    /// [`DmaError`], with the remedy where the host knows one.
    fn allocate(&self, len: usize, align: usize) -> Result<DmaMemory, DmaError>;

    /// A table of `len` buffer numbers. A host that outlives its driver keeps it in memory of its own, to
    /// take back what was posted when the driver is gone.
    ///
    /// # Errors
    /// [`DmaError`] when there is no memory.
    fn table(&self, len: usize) -> Result<Table, DmaError> {
        Ok(Table::of_heap(len))
    }
}

/// Memory shared with a device, given back when dropped. There is one of it for each mapping, and it
/// cannot be cloned: whoever holds it may argue that nobody else on the processor's side reaches it.
pub struct DmaMemory {
    base: NonNull<u8>,
    len: usize,
    iova: Iova,
    mapping: Box<dyn DmaMapping>,
}

// SAFETY: the memory is only reached through atomics (or by whoever argues ownership of a part);
// the mapping is Send + Sync.
unsafe impl Send for DmaMemory {}
// SAFETY: as above.
unsafe impl Sync for DmaMemory {}

impl DmaMemory {
    /// Wraps a host's mapping.
    pub fn new(mapping: Box<dyn DmaMapping>) -> Self {
        Self {
            base: mapping.base(),
            len: mapping.len(),
            iova: Iova(mapping.iova()),
            mapping,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the device sees the first byte.
    pub fn iova(&self) -> Iova {
        self.iova
    }

    /// Where the device sees byte `offset`, if there is such a byte.
    pub fn iova_at(&self, offset: usize) -> Option<Iova> {
        (offset < self.len).then(|| self.iova.offset(offset as u64))
    }

    /// Whether the memory is what was asked of a [`DmaSpace`]: anyone may implement that, so who
    /// builds on size and alignment looks first.
    ///
    /// # Errors
    /// [`DmaError::BadMemory`] when it is not.
    pub fn check(&self, bytes: usize, align: usize) -> Result<(), DmaError> {
        let aligned = |address: u64| address.is_multiple_of(align as u64);
        if self.len >= bytes && aligned(self.base.as_ptr() as u64) && aligned(self.iova.0) {
            Ok(())
        } else {
            Err(DmaError::BadMemory { bytes, align })
        }
    }

    /// Whether 2 MiB pages or larger hold it.
    pub fn huge_pages(&self) -> bool {
        self.mapping.huge_pages()
    }

    /// Where the processor sees the first byte. Using it is the caller's argument to make.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The 64-bit cell at index `index` (byte `8 * index`), if there is one.
    pub fn cell(&self, index: usize) -> Option<&AtomicU64> {
        self.cells().get(index)
    }

    /// All whole 64-bit cells.
    pub fn cells(&self) -> &[AtomicU64] {
        // SAFETY: `DmaMapping` promises `len` valid bytes for as long as `self.mapping` lives, and
        // page alignment; every access through this view is atomic, also against the device.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr().cast(), self.len / 8) }
    }
}

impl core::fmt::Debug for DmaMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "DmaMemory({} bytes at IOVA {:#x})",
            self.len, self.iova.0
        )
    }
}
