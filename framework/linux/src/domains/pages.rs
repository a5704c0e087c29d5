//! Private memory of domains, counted, and fences across threads.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

use sumac_runtime::host::PAGE;

/// From linux/membarrier.h.
const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// How many pages all domains' private memory is now.
pub fn mapped_pages() -> usize {
    MAPPED.load(Ordering::Relaxed)
}

/// Fresh zeroed pages.
pub(super) fn map(pages: usize) -> Option<NonNull<u8>> {
    let bytes = pages.checked_mul(PAGE)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, where the kernel likes, touches nothing there is.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    MAPPED.fetch_add(pages, Ordering::Relaxed);
    NonNull::new(start.cast())
}

/// Takes pages back.
///
/// # Safety
/// They are a mapping of their own that nothing uses any more, counted by [`map`] or [`count`].
pub(super) unsafe fn unmap(start: NonNull<u8>, pages: usize) {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::munmap(start.as_ptr().cast(), pages * PAGE) };
    // Linux refuses only if splitting a mapping needs more of them than it allows; then the pages stay
    // counted as mapped, which they are.
    if result == 0 {
        MAPPED.fetch_sub(pages, Ordering::Relaxed);
    }
}

fn membarrier(command: libc::c_int) -> libc::c_long {
    // SAFETY: a system call that touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
}

/// Makes [`fence_all_threads`] work in this process.
pub(super) fn register_fences() -> io::Result<()> {
    if membarrier(REGISTER_PRIVATE_EXPEDITED) != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A full fence on every processor that runs a thread of this process.
pub(super) fn fence_all_threads() {
    let result = membarrier(PRIVATE_EXPEDITED);
    // It cannot fail once registered; going on without a fence would free memory in use.
    assert_eq!(result, 0, "membarrier failed after it was registered");
}
