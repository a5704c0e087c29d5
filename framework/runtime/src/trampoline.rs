//! Calling with a continuation, and going on at one.
//!
//! To the compiler [`call`] is an ordinary call that returns once: with 0 when the callee returned,
//! with 1 when [`resume_failed`] was entered instead. It keeps on the stack what the System V ABI has
//! callees preserve and stores where in the frame; nothing else of the callee's state is of use after a
//! failure. The frames of the failed code are skipped without running destructors, which is why only
//! a domain's code may ever be skipped: what it owned is found and freed by the registry.

use core::arch::naked_asm;

use crate::thread::{FPU_CONTROL_OFFSET, MXCSR_OFFSET};

/// Calls `run(data)` with a continuation stored in `saved`. 0: it returned. 1: it failed.
///
/// # Safety
/// `run(data)` must be a valid call, `saved` valid for a write, and this thread's gs must be its block.
/// `run` must not unwind.
#[unsafe(naked)]
pub unsafe extern "C" fn call(
    data: *mut u8,
    run: unsafe extern "C" fn(*mut u8),
    saved: *mut usize,
) -> u32 {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // With the return address, 56 bytes: 8 more align the stack for the call.
        "sub rsp, 8",
        "mov [rdx], rsp",
        "call rsi",
        // The callee preserved all registers pushed above.
        "xor eax, eax",
        "add rsp, 56",
        "ret",
    )
}

/// Goes on at the continuation stored as `saved`: the [`call`] that stored it returns 1.
///
/// # Safety
/// `saved` must come from a [`call`] of this thread that has not returned, and all code above it on the
/// stack must be of the domain called, which nothing waits for. This thread's gs must be its block.
#[unsafe(naked)]
pub unsafe extern "C" fn resume_failed(saved: usize) -> ! {
    naked_asm!(
        "mov rsp, rdi",
        // The ABI's state at a call boundary: direction up, the x87 stack empty, control words the
        // thread's own.
        "cld",
        "fninit",
        "fldcw gs:[{fpu}]",
        "ldmxcsr gs:[{mxcsr}]",
        "mov eax, 1",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        fpu = const FPU_CONTROL_OFFSET,
        mxcsr = const MXCSR_OFFSET,
    )
}
