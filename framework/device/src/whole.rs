//! [`Whole`]: steps that belong together, and that a domain is not ended in the midst of.
//!
//! Rings, batches and pools are compiled into every domain that uses them. Their state is in memory that
//! outlives the domain: were a domain ended between two stores that belong together, a buffer would be in
//! two places, or in none. So a thread says in its block that it is in such a step, and is left alone
//! until it is out. Only images of domains say so; a host's own code is never cut short.
//!
//! A step within another finds that said already, and leaves it so. Nothing is counted: counting up and down again
//! in memory is a chain that every call would wait for.

use core::marker::PhantomData;

/// Where a thread's block says so, from the address in its gs base. The runtime asserts that it is
/// there.
pub const WHOLE_OFFSET: usize = 32;

/// Steps that belong together, until this is dropped.
pub struct Whole {
    /// What the block said before.
    #[cfg(feature = "image")]
    before: u32,
    of_this_thread: PhantomData<*mut ()>,
}

impl Whole {
    /// They begin.
    ///
    /// # Safety
    /// They come to their end soon, call no code of a domain's own, and cannot fail.
    #[inline(always)]
    pub unsafe fn begin() -> Self {
        #[cfg(feature = "image")]
        let before: u32;
        #[cfg(feature = "image")]
        // SAFETY: every thread that runs an image's code has its block in the gs base, where nobody else
        // writes this. Memory is not declared untouched: what is to be whole stays behind this.
        unsafe {
            core::arch::asm!(
                "mov {before:e}, dword ptr gs:[{at}]",
                "mov dword ptr gs:[{at}], 1",
                before = out(reg) before,
                at = const WHOLE_OFFSET,
                options(nostack, preserves_flags)
            );
        }
        Self {
            #[cfg(feature = "image")]
            before,
            of_this_thread: PhantomData,
        }
    }
}

impl Drop for Whole {
    #[inline(always)]
    fn drop(&mut self) {
        #[cfg(feature = "image")]
        // SAFETY: as in `begin`. Steps within each other end in the reverse of the order in which they began.
        unsafe {
            core::arch::asm!(
                "mov dword ptr gs:[{at}], {before:e}",
                before = in(reg) self.before,
                at = const WHOLE_OFFSET,
                options(nostack, preserves_flags)
            );
        }
    }
}
