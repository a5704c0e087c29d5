//! [`Whole`]: steps that belong together, and that a domain is not ended in the midst of.
//!
//! Rings, batches and pools are compiled into every domain that uses them. Their state is in memory that
//! outlives the domain: were a domain ended between two stores that belong together, a buffer would be in
//! two places, or in none. So a thread counts in its block how many such steps it is in, and is left alone
//! until it is out. Only images of domains count; a host's own code is never cut short.

use core::marker::PhantomData;

/// Where a thread's block has the count, from the address in its gs base. The runtime asserts that it is
/// there.
pub const WHOLE_OFFSET: usize = 32;

/// Steps that belong together, until this is dropped.
pub struct Whole(PhantomData<*mut ()>);

impl Whole {
    /// They begin.
    ///
    /// # Safety
    /// They come to their end soon, call no code of a domain's own, and cannot fail.
    #[inline(always)]
    pub unsafe fn begin() -> Self {
        #[cfg(feature = "image")]
        // SAFETY: every thread that runs an image's code has its block in the gs base, where nobody else
        // writes this count. Memory is not declared untouched: what is to be whole stays behind this.
        unsafe {
            core::arch::asm!("inc dword ptr gs:[{at}]", at = const WHOLE_OFFSET, options(nostack));
        }
        Self(PhantomData)
    }
}

impl Drop for Whole {
    #[inline(always)]
    fn drop(&mut self) {
        #[cfg(feature = "image")]
        // SAFETY: as in `begin`, which counted one up.
        unsafe {
            core::arch::asm!("dec dword ptr gs:[{at}]", at = const WHOLE_OFFSET, options(nostack));
        }
    }
}
