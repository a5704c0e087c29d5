//! Calling with a continuation, and going on at one.
//!
//! To the compiler [`call`] is an ordinary call that returns once: with its result when the callee returned,
//! with none when [`resume_failed`] was entered instead. It is part of the function that crosses: the registers
//! that the System V ABI has callees preserve are declared as overwritten, so that the compiler keeps on
//! the stack what it needs of them and no more; nothing else of the callee's state is of use after a
//! failure. Arguments and results cross in registers. The frames of the failed code are skipped without running destructors, which is why only
//! a domain's code may ever be skipped: what it owned is found and freed by the registry.

use core::arch::{asm, naked_asm};
use core::mem::MaybeUninit;
use core::ptr;

use crate::thread::{
    FPU_CONTROL_OFFSET, Frame, MXCSR_OFFSET, RESUME_OFFSET, SAVED_OFFSET, TOP_OFFSET,
};

type Word = MaybeUninit<*mut u8>;

/// A value as `N` words, whatever it is made of: how arguments and results cross in registers.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Words<const N: usize>([Word; N]);

/// The words that a callee returns in registers.
pub type Results = Words<2>;
/// The words that it takes in registers.
pub type Arguments = Words<6>;

impl<const N: usize> Words<N> {
    /// Whether a value of this type fits.
    pub const fn fit<T>() -> bool {
        size_of::<T>() <= size_of::<Self>()
    }

    /// The words of a value.
    ///
    /// # Panics
    /// If it does not [`fit`](Self::fit).
    #[inline(always)]
    pub fn of<T>(value: T) -> Self {
        assert!(Self::fit::<T>());
        let mut words = Self([MaybeUninit::uninit(); N]);
        // SAFETY: it fits, and the words may hold anything.
        unsafe { (&raw mut words).cast::<T>().write_unaligned(value) };
        words
    }

    /// The value.
    ///
    /// # Safety
    /// These are the words of a `T`, used once.
    #[inline(always)]
    pub unsafe fn value<T>(self) -> T {
        // SAFETY: the caller's promise, so it fits.
        unsafe { (&raw const self).cast::<T>().read_unaligned() }
    }
}

impl Arguments {
    /// Drops the value, out of the way.
    ///
    /// # Safety
    /// As for [`value`](Self::value).
    #[inline(always)]
    pub unsafe fn discard<T>(self) {
        let Self([a, b, c, d, e, f]) = self;
        // SAFETY: the caller's promise.
        unsafe { discard::<T>(a, b, c, d, e, f) };
    }
}

impl Results {
    /// Drops the value, out of the way.
    ///
    /// # Safety
    /// As for [`value`](Self::value).
    #[inline(always)]
    pub unsafe fn discard<T>(self) {
        let Self([a, b]) = self;
        let none = Word::uninit();
        // SAFETY: the caller's promise; no more words are a `T`.
        unsafe { discard::<T>(a, b, none, none, none, none) };
    }
}

/// Drops the `T` that these are the words of.
///
/// # Safety
/// They are that, and not used again.
#[cold]
#[inline(never)]
unsafe extern "sysv64" fn discard<T>(a: Word, b: Word, c: Word, d: Word, e: Word, f: Word) {
    // SAFETY: the caller's promise.
    drop(unsafe { Words([a, b, c, d, e, f]).value::<T>() });
}

/// [`Results`] as the ABI returns them in registers: in a struct.
#[repr(C)]
struct Returned(Word, Word);

/// The callee's side: takes `F` from registers and runs it.
///
/// # Safety
/// The words are of an `F`, used once.
unsafe extern "sysv64" fn run<F: FnOnce() -> R, R>(
    a: Word,
    b: Word,
    c: Word,
    d: Word,
    e: Word,
    f: Word,
) -> Returned {
    // SAFETY: the caller's promise.
    let work: F = unsafe { Words([a, b, c, d, e, f]).value() };
    let Words([first, second]) = Words::of(work());
    Returned(first, second)
}

/// Runs an `F` with a continuation stored in `frame`; the words of its `R`. None: it failed, and all it had been
/// given with it.
///
/// # Safety
/// This thread's gs must be its block, and `frame` its innermost one. The words are of an `F`, and not used again.
///
/// # Panics
/// If what it returns does not fit [`Results`].
#[inline(always)]
pub unsafe fn call<F: FnOnce() -> R, R>(frame: &Frame, work: Arguments) -> Option<Results> {
    let Words([a, b, c, d, e, f]) = work;
    let (first, second): (Word, Word);
    let failed: u32;
    // SAFETY: a call by the ABI's rules, with the words of an `F` that nobody else uses; being `extern`,
    // `run` ends the process rather than unwind. The stack is aligned for a call at the beginning, so after
    // two pushes too. At `2`, where both ways meet, the stack pointer is the one saved: what was pushed is
    // there.
    unsafe {
        asm!(
            // The two that cannot be declared.
            "push rbp",
            "push rbx",
            "lea r10, [rip + 2f]",
            "mov [rax + {resume}], r10",
            "mov [rax + {saved}], rsp",
            "call {run}",
            "xor r10d, r10d",
            "2:",
            "pop rbx",
            "pop rbp",
            run = sym run::<F, R>,
            saved = const SAVED_OFFSET,
            resume = const RESUME_OFFSET,
            in("rdi") a,
            in("rsi") b,
            inlateout("rdx") c => second,
            in("rcx") d,
            in("r8") e,
            in("r9") f,
            inlateout("rax") ptr::from_ref(frame) => first,
            out("r10") failed,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("sysv64"),
        );
    }
    (failed == 0).then_some(Words([first, second]))
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
        "mov r10d, 1",
        "jmp [rdx + {resume}]",
        fpu = const FPU_CONTROL_OFFSET,
        mxcsr = const MXCSR_OFFSET,
        top = const TOP_OFFSET,
        resume = const RESUME_OFFSET,
    )
}
