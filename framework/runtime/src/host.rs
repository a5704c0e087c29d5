//! What the runtime asks of its host.

use core::cell::UnsafeCell;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use sumac_rref::DomainId;

/// Bytes of a page, everywhere.
pub const PAGE: usize = 4096;

/// A Linux process or a kernel.
///
/// # Safety
/// Memory that [`map`](Self::map) gives is zeroed, page-aligned and nobody else's until unmapped;
/// [`fence_all_threads`](Self::fence_all_threads) does what it says: reclamation depends on it.
pub unsafe trait Host: Sync {
    /// Zeroed private pages, readable and writable; none when the host has none.
    fn map(&self, pages: usize) -> Option<NonNull<u8>>;

    /// Takes pages back.
    ///
    /// # Safety
    /// `start` came from [`map`](Self::map) with this number of `pages`; nothing uses them any more.
    unsafe fn unmap(&self, start: NonNull<u8>, pages: usize);

    /// Returns once every thread that runs has passed a full memory fence (Linux: `membarrier`).
    fn fence_all_threads(&self);

    /// Gives the calling thread a block of its own, if it has none, and puts it into its gs base.
    fn attach(&self);

    /// Makes the thread of this handle look at [`fault::on_trap`](crate::fault::on_trap) with
    /// [`Interrupt`](crate::fault::TrapKind::Interrupt) soon. Called in trap handlers too. A thread that is
    /// gone is not an error.
    fn interrupt(&self, handle: u64);

    /// Closes the reserve of the calling thread's stack again, see
    /// [`Verdict::OpenReserve`](crate::fault::Verdict::OpenReserve).
    fn close_reserve(&self);

    /// What a domain has to say. Levels as in the `log` crate: 1 is error, 5 is trace.
    fn log(&self, domain: DomainId, level: u32, message: &str);

    /// Trusted code failed: says why and ends the process or halts the machine.
    fn abort(&self, reason: fmt::Arguments<'_>) -> !;
}

struct Installed {
    state: AtomicU8,
    host: UnsafeCell<Option<&'static dyn Host>>,
}

// SAFETY: `host` is written once, before `state` says so, and only read after.
unsafe impl Sync for Installed {}

const EMPTY: u8 = 0;
const WRITING: u8 = 1;
const READY: u8 = 2;

static INSTALLED: Installed = Installed {
    state: AtomicU8::new(EMPTY),
    host: UnsafeCell::new(None),
};

/// Names the host, before the first domain is made. There is one; false: there was one already.
pub fn install(host: &'static dyn Host) -> bool {
    let state = &INSTALLED.state;
    if state
        .compare_exchange(EMPTY, WRITING, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        return false;
    }
    // SAFETY: only the one caller that changed EMPTY to WRITING comes here, and nobody reads yet.
    unsafe { *INSTALLED.host.get() = Some(host) };
    state.store(READY, Ordering::Release);
    true
}

/// The host, if there is one yet.
pub(crate) fn host() -> Option<&'static dyn Host> {
    if INSTALLED.state.load(Ordering::Acquire) != READY {
        return None;
    }
    // SAFETY: READY: written, and never again.
    unsafe { *INSTALLED.host.get() }
}
