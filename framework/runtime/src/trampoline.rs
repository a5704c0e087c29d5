//! Calling with a continuation, and going on at one.
//!
//! To the compiler [`call`] is an ordinary call that returns once: with its result when the callee returned,
//! with none when [`resume_failed`] was entered instead. It is part of the function that crosses: the registers
//! that the System V ABI has callees preserve are declared as overwritten, so that the compiler keeps on
//! the stack what it needs of them and no more; nothing else of the callee's state is of use after a
//! failure. The frames of the failed code are skipped without running destructors, which is why only
//! a domain's code may ever be skipped: what it owned is found and freed by the registry.

use core::arch::{asm, naked_asm};
use core::mem::MaybeUninit;

use crate::thread::{FPU_CONTROL_OFFSET, MXCSR_OFFSET};

/// What a callee returns in the two registers for it: a result of up to two words, whatever it is made of.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Words(MaybeUninit<*mut u8>, MaybeUninit<*mut u8>);

impl Words {
    /// Whether a value of this type fits.
    pub const fn fit<R>() -> bool {
        size_of::<R>() <= size_of::<Self>()
    }

    /// Nothing.
    pub const fn none() -> Self {
        Self(MaybeUninit::uninit(), MaybeUninit::uninit())
    }

    /// The words of a value.
    ///
    /// # Errors
    /// The value, where it does not fit.
    #[inline(always)]
    pub fn of<R>(value: R) -> Result<Self, R> {
        if !Self::fit::<R>() {
            return Err(value);
        }
        let mut words = Self::none();
        // SAFETY: it fits, and the words may hold anything.
        unsafe { (&raw mut words).cast::<R>().write_unaligned(value) };
        Ok(words)
    }

    /// The value.
    ///
    /// # Safety
    /// These are the words of an `R`, used once.
    #[inline(always)]
    pub unsafe fn value<R>(self) -> R {
        // SAFETY: the caller's promise, so it fits.
        unsafe { (&raw const self).cast::<R>().read_unaligned() }
    }
}

/// Calls `run(data)` with a continuation stored in `saved`. None: it failed.
///
/// # Safety
/// `run(data)` must be a valid call, `saved` valid for a write, and this thread's gs must be its block.
/// `run` must not unwind.
#[inline(always)]
pub unsafe fn call(
    data: *mut u8,
    run: unsafe extern "sysv64" fn(*mut u8) -> Words,
    saved: *mut usize,
) -> Option<Words> {
    let mut words = Words::none();
    let failed: u32;
    // SAFETY: a call by the ABI's rules, by the caller's promise a valid one; the stack is aligned for it
    // at the beginning, so after four pushes too. At `2`, where both ways meet, the stack pointer is the
    // one saved: what was pushed is there.
    unsafe {
        asm!(
            // The two that cannot be declared.
            "push rbp",
            "push rbx",
            // Where to go on after a failure, and once more for alignment.
            "lea rcx, [rip + 2f]",
            "push rcx",
            "push rcx",
            "mov [rdx], rsp",
            "call rsi",
            "xor ecx, ecx",
            "2:",
            "add rsp, 16",
            "pop rbx",
            "pop rbp",
            in("rdi") data,
            in("rsi") run,
            inout("rdx") saved => words.1,
            lateout("rax") words.0,
            lateout("rcx") failed,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("sysv64"),
        );
    }
    (failed == 0).then_some(words)
}

/// Goes on at the continuation stored as `saved`: the [`call`] that stored it returns none.
///
/// # Safety
/// `saved` must come from a [`call`] of this thread that has not returned, and all code above it on the
/// stack must be of the domain called, which nothing waits for. This thread's gs must be its block.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn resume_failed(saved: usize) -> ! {
    naked_asm!(
        "mov rsp, rdi",
        // The ABI's state at a call boundary: direction up, the x87 stack empty, control words the
        // thread's own.
        "cld",
        "fninit",
        "fldcw gs:[{fpu}]",
        "ldmxcsr gs:[{mxcsr}]",
        "mov ecx, 1",
        // `call` left it there.
        "jmp [rsp]",
        fpu = const FPU_CONTROL_OFFSET,
        mxcsr = const MXCSR_OFFSET,
    )
}
