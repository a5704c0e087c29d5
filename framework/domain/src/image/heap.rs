//! The private heap: Talc on pages that the host hands out within the domain's quota.
//!
//! Several threads may be in one domain, so a spin lock guards it. It is held over the host's `grow` and
//! over nothing else that calls out. Should a thread be stopped for good while it holds the lock, its domain
//! is dead already, and whoever waits for the lock is in that domain too and ends with it.
//!
//! Invariant: memory that runs out ends the domain ([`CAUSE_OUT_OF_MEMORY`]) with the lock released; no
//! allocation ever returns null.

use core::alloc::{GlobalAlloc, Layout};
use core::hint;
use core::sync::atomic::{AtomicBool, Ordering};

use talc::base::Talc;
use talc::base::binning::Binning;
use talc::lock_api::{GuardSend, RawMutex};
use talc::source::Source;
use talc::{DefaultBinning, TalcLock, min_first_heap_size};

use crate::abi::CAUSE_OUT_OF_MEMORY;

/// The least that is asked of the host at a time, in bytes: heaps grow in steps of this.
const STEP: usize = 64 * 1024;

/// What Talc needs of a heap beside the block asked for: tags at both ends and alignment.
const SLACK: usize = 256;

#[cfg_attr(not(test), global_allocator)]
static HEAP: Heap = Heap(TalcLock::new(HostPages));

struct Heap(TalcLock<Spin, HostPages>);

// SAFETY: Talc's promises, passed on; a null from it never gets out.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_fail(unsafe { self.0.alloc(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_fail(unsafe { self.0.realloc(block, layout, size) })
    }
}

fn or_fail(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        super::fail(CAUSE_OUT_OF_MEMORY, "the memory quota is used up");
    }
    block
}

/// Pages from the host.
#[derive(Debug)]
struct HostPages;

// SAFETY: `acquire` touches no allocator but the one it is given: the host's `grow` serves pages, and
// never from this heap.
unsafe impl Source for HostPages {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let host = super::host().ok_or(())?;
        let needed = layout
            .size()
            .checked_add(layout.align())
            .and_then(|bytes| bytes.checked_add(min_first_heap_size::<DefaultBinning>() + SLACK))
            .and_then(|bytes| bytes.checked_next_multiple_of(STEP))
            .ok_or(())?;
        // SAFETY: any number of bytes may be asked for.
        let pages = unsafe { (host.grow)(needed) };
        if pages.is_null() {
            return Err(());
        }
        // SAFETY: the host gave these bytes to this domain alone, until it ends.
        unsafe { talc.claim(pages, needed) }.map(drop).ok_or(())
    }
}

/// A spin lock, as Talc wants it.
struct Spin(AtomicBool);

// SAFETY: `lock` returns, and `try_lock` returns true, only to the one who made the flag true; it stays
// true until that one unlocks.
unsafe impl RawMutex for Spin {
    const INIT: Self = Self(AtomicBool::new(false));
    type GuardMarker = GuardSend;

    fn lock(&self) {
        while !self.try_lock() {
            while self.0.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
        }
    }

    fn try_lock(&self) -> bool {
        self.0
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}
