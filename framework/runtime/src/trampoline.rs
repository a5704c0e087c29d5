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
use core::ptr;

use crate::thread::{
    FPU_CONTROL_OFFSET, Frame, MXCSR_OFFSET, RESUME_OFFSET, SAVED_OFFSET, TOP_OFFSET,
};

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

/// What a callee's side begins with.
pub trait Run {
    /// Runs what is at `data`.
    ///
    /// # Safety
    /// `data` points to what the implementation says. It must not unwind.
    unsafe extern "sysv64" fn run(data: *mut u8) -> Words;
}

/// Calls `C::run(data)` with a continuation stored in `frame`. None: it failed.
///
/// # Safety
/// `run(data)` must be a valid call. This thread's gs must be its block, and `frame` its innermost one.
#[inline(always)]
pub unsafe fn call<C: Run>(data: *mut u8, frame: &Frame) -> Option<Words> {
    let mut words = Words::none();
    let failed: u32;
    // SAFETY: a call by the ABI's rules, by the caller's promise a valid one; the stack is aligned for it
    // at the beginning, so after two pushes too. At `2`, where both ways meet, the stack pointer is the
    // one saved: what was pushed is there.
    unsafe {
        asm!(
            // The two that cannot be declared.
            "push rbp",
            "push rbx",
            "lea rcx, [rip + 2f]",
            "mov [rdx + {resume}], rcx",
            "mov [rdx + {saved}], rsp",
            "call {run}",
            "xor ecx, ecx",
            "2:",
            "pop rbx",
            "pop rbp",
            run = sym C::run,
            saved = const SAVED_OFFSET,
            resume = const RESUME_OFFSET,
            in("rdi") data,
            inout("rdx") ptr::from_ref(frame) => words.1,
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

/// Goes on at the continuation of the innermost frame: its [`call`] returns none.
///
/// # Safety
/// `saved` must be the innermost frame's, whose [`call`] has not returned, and all code above it on the
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
        "mov rdx, gs:[{top}]",
        "mov ecx, 1",
        "jmp [rdx + {resume}]",
        fpu = const FPU_CONTROL_OFFSET,
        mxcsr = const MXCSR_OFFSET,
        top = const TOP_OFFSET,
        resume = const RESUME_OFFSET,
    )
}
