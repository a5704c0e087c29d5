//! One allocation of DMA memory, whoever it comes from.

use std::ptr::NonNull;
use std::sync::Arc;

use sumac_device::DmaMapping;

/// Where DMA memory comes from, and goes back to.
pub trait Lender: Send + Sync + 'static {
    /// Takes back the pages at bus address `iova`, `bytes` bytes of them. Once they can be had again, no device
    /// reaches them.
    fn take_back(&self, iova: u64, bytes: u64);
}

/// Where an allocation is.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Its address in this process.
    pub base: NonNull<u8>,
    /// Its bus address.
    pub iova: u64,
    /// Its length in bytes, as it was asked for.
    pub len: usize,
    /// Its length in whole pages.
    pub bytes: u64,
    /// Whether 2 MiB pages back it.
    pub huge: bool,
}

/// An allocation, which goes back to its lender when it is dropped.
pub struct Lent<L: Lender> {
    lender: Arc<L>,
    extent: Extent,
}

// SAFETY: `base` points to memory that is there as long as `lender` lets it (see `new`).
unsafe impl<L: Lender> Send for Lent<L> {}
// SAFETY: as above; nothing here reads or writes through `base` but `zero`, which is exclusive.
unsafe impl<L: Lender> Sync for Lent<L> {}

impl<L: Lender> Lent<L> {
    /// What `lender` lends.
    ///
    /// # Safety
    /// `extent.bytes` bytes, at least `extent.len`, are mapped at `extent.base`, aligned as was asked at both
    /// addresses, and are nobody else's until `lender` has taken them back.
    pub unsafe fn new(lender: &Arc<L>, extent: Extent) -> Self {
        Self {
            lender: Arc::clone(lender),
            extent,
        }
    }

    /// Clears recycled pages; before they are handed out.
    pub fn zero(&mut self) {
        let Extent { base, bytes, .. } = self.extent;
        // SAFETY: they are mapped and nobody else's (see `new`).
        unsafe { base.as_ptr().write_bytes(0, bytes as usize) };
    }
}

// SAFETY: see `new`; fresh pages are zeroed by the system and recycled ones by `zero`. The lender makes them
// unreachable before anybody has them again.
unsafe impl<L: Lender> DmaMapping for Lent<L> {
    fn base(&self) -> NonNull<u8> {
        self.extent.base
    }
    fn len(&self) -> usize {
        self.extent.len
    }
    fn iova(&self) -> u64 {
        self.extent.iova
    }
    fn huge_pages(&self) -> bool {
        self.extent.huge
    }
}

impl<L: Lender> Drop for Lent<L> {
    fn drop(&mut self) {
        self.lender.take_back(self.extent.iova, self.extent.bytes);
    }
}
