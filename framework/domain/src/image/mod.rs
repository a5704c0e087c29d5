//! The inside of a domain file: what the generated shell puts around a domain's safe code.
//!
//! Invariant: [`enter`] runs before any code of the domain, so the host's table is there whenever the heap,
//! the log or the panic handler need it.

mod heap;
mod line;
mod log;
#[cfg(not(test))]
mod memory;
#[cfg(not(test))]
mod panic;

use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::abi::HostTable;

static HOST: AtomicPtr<HostTable> = AtomicPtr::new(ptr::null_mut());

/// Keeps the host's table for the heap, the log and the panic handler. The shell's entry calls it first.
///
/// # Safety
/// The table is the host's: `grow` gives memory that is this domain's alone, and `fail` does not return.
pub unsafe fn enter(host: &'static HostTable) {
    HOST.store(ptr::from_ref(host).cast_mut(), Ordering::Release);
    log::install();
}

/// The host's table; none before [`enter`].
fn host() -> Option<&'static HostTable> {
    // SAFETY: null, or the address of what `enter` was given for ever.
    unsafe { HOST.load(Ordering::Acquire).as_ref() }
}

/// Ends the domain.
fn fail(cause: u32, message: &str) -> ! {
    if let Some(host) = host() {
        // SAFETY: the message's bytes, valid for the call, which does not return.
        unsafe { (host.fail)(cause, message.as_ptr(), message.len()) }
    }
    // Without a host there is nobody to tell: an illegal instruction is what a host notices.
    // SAFETY: it does nothing but end in an exception.
    unsafe { core::arch::asm!("ud2", options(noreturn, nomem, nostack)) }
}
