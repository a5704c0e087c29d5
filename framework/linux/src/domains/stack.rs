//! Where a thread's stack ends, and the reserve that trusted code has below what domains may use.
//!
//! From low to high addresses: the guard (Linux's own), one page, the reserve, headroom, the rest. The
//! reserve is inaccessible as long as a domain may be running, so that its overflow faults there, in its
//! own code, and is its crash. Trusted code that faults there was called with too little left; the
//! handler opens the reserve for it. A call into a domain must begin above the headroom.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;

use sumac_runtime::host::PAGE;
use sumac_runtime::thread::StackLimits;

/// Bytes that trusted code has when a domain left it nothing.
const RESERVE: usize = 256 * 1024;
/// Bytes of stack that a domain finds at least.
const HEADROOM: usize = 64 * 1024;
/// A stack smaller than this has no reserve.
const SMALLEST: usize = 768 * 1024;
/// The most that is used of a stack: that of the first thread may have no limit.
const LARGEST: usize = 8 * 1024 * 1024;
/// How far below the end of a stack an access counts as its overflow: Linux's gap below the first
/// thread's.
const GUARD: usize = 1024 * 1024;

/// A thread's stack.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    pub(super) limits: StackLimits,
    reserve: Range<usize>,
}

impl Stack {
    /// That of the calling thread, with the reserve closed.
    pub(super) fn of_this_thread() -> io::Result<Self> {
        let whole = bounds()?;
        let here = (&raw const whole).addr();
        let low = whole.start.max(here.saturating_sub(LARGEST));
        let low = low.next_multiple_of(PAGE) + PAGE;
        let reserve = if whole.end.saturating_sub(low) < SMALLEST {
            low..low
        } else {
            low..low + RESERVE
        };
        let limits = StackLimits {
            overflow: low.saturating_sub(GUARD)..reserve.end,
            headroom: reserve.end + HEADROOM,
            top: whole.end,
        };
        let stack = Self { limits, reserve };
        stack.grow_to_reserve();
        stack.close()?;
        Ok(stack)
    }

    /// The first thread's stack grows as it is touched; what is to be protected must be there.
    fn grow_to_reserve(&self) {
        if !self.reserve.is_empty() {
            let page = std::ptr::with_exposed_provenance::<u8>(self.reserve.start);
            // SAFETY: within the stack by the limits that Linux gave; reading changes nothing.
            unsafe { page.read_volatile() };
        }
    }

    /// Closes the reserve.
    pub(super) fn close(&self) -> io::Result<()> {
        self.protect(libc::PROT_NONE)
    }

    /// Opens the reserve. Fit for signal handlers.
    pub(super) fn open(&self) -> io::Result<()> {
        self.protect(libc::PROT_READ | libc::PROT_WRITE)
    }

    fn protect(&self, access: libc::c_int) -> io::Result<()> {
        if self.reserve.is_empty() {
            return Ok(());
        }
        let start = std::ptr::with_exposed_provenance_mut(self.reserve.start);
        // SAFETY: the reserve is part of this thread's stack that is not in use: what is live on the
        // stack is above it, or got there with the reserve open.
        if unsafe { libc::mprotect(start, self.reserve.len(), access) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// The calling thread's stack as the C library knows it, without the guard.
fn bounds() -> io::Result<Range<usize>> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: fills the attributes in for a thread that exists: this one.
    let result = unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    let (mut low, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes were filled in above, and are given back once.
    let result = unsafe {
        let result = libc::pthread_attr_getstack(attributes.as_ptr(), &mut low, &mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        result
    };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    Ok(low.addr()..low.addr() + size)
}
