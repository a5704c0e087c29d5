//! What becomes of processor exceptions and of interrupts: the host's handlers ask [`on_trap`].
//!
//! An exception at an instruction of the domain that the thread runs in ends that domain, and the thread
//! goes on at the continuation of the call. An exception elsewhere is trusted code's and not blamed on the
//! domain; one thing only is made up for: a domain that calls trusted code with next to no stack left.
//! The host keeps a reserve below the part of the stack that domains may use; trusted code that runs
//! into it gets it, step by step up to the first instruction of the domain, where the domain ends: it
//! never runs with the reserve open.

use core::sync::atomic::Ordering;

use sumac_interface::rpc::Cause;
use sumac_rref::DomainId;

use crate::domain::DomainControl;
use crate::host::host;
use crate::thread::ThreadBlock;
use crate::trampoline;

const _: () = assert!(
    core::mem::offset_of!(ThreadBlock, trusted) == sumac_rref::WHOLE_OFFSET,
    "images of domains count there, from gs"
);

/// The most single steps: more than trusted code takes that does not wait for anything.
const STEPS: u32 = 1_000_000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapKind {
    /// An access to memory that is not there or not allowed.
    Memory,
    /// A division by zero, or one whose result does not fit.
    Divide,
    /// An instruction that is none.
    Instruction,
    /// None: the thread takes single steps since [`Verdict::OpenReserve`], and took one.
    Step,
    /// None: the host interrupted the thread since a domain it runs in died, or might have, or to see whether it runs.
    Interrupt,
}

/// An exception or interrupt of a thread.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    /// What happened.
    pub kind: TrapKind,
    /// The address of the instruction.
    pub instruction: usize,
    /// The address accessed, for [`TrapKind::Memory`].
    pub address: usize,
}

/// What the host's handler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The domain is dead. The thread goes on at `instruction` with `argument` in the register of a first
    /// argument (rdi), and with `argument` as its stack pointer.
    Resume {
        /// Where to go on.
        instruction: usize,
        /// The register's value.
        argument: usize,
    },
    /// Trusted code ran out of stack since a domain left it too little; that is dead now. The host makes
    /// the reserve of this thread's stack accessible and lets the thread try again in single steps
    /// (the trap flag), each of which traps with [`TrapKind::Step`].
    OpenReserve,
    /// Another single step.
    Step,
    /// Go on where the thread was, at full speed. If a dead domain is on it, interrupt it again later.
    Continue,
    /// The exception is not a domain's: what the host does with exceptions of its own.
    NotOurs,
}

/// Judges a trap of the calling thread, in the trap handler. The thread must have been attached.
pub fn on_trap(trap: Trap) -> Verdict {
    let block = ThreadBlock::from_gs();
    let frame = block.top_frame();
    let (control, id) = (frame.control(), frame.domain());
    let inside = id != DomainId::HOST
        && block.trusted.load(Ordering::Relaxed) == 0
        && control.has_code(trap.instruction);
    if trap.kind == TrapKind::Interrupt {
        block.hear();
        return if inside && !control.is_live(id) {
            resume(frame.saved.load(Ordering::Relaxed))
        } else {
            Verdict::Continue
        };
    }
    if trap.kind == TrapKind::Step {
        return step(block, inside);
    }
    let overflow = trap.kind == TrapKind::Memory && block.overflows(trap.address);
    if inside {
        let cause = match trap.kind {
            TrapKind::Memory if overflow => Cause::StackOverflow,
            TrapKind::Memory | TrapKind::Interrupt | TrapKind::Step => Cause::MemoryFault,
            TrapKind::Divide => Cause::DivideError,
            TrapKind::Instruction => Cause::IllegalInstruction,
        };
        control.end(id, cause, "", Some(block));
        return resume(frame.saved.load(Ordering::Relaxed));
    }
    if overflow && id != DomainId::HOST && !block.reserve_open.swap(true, Ordering::Relaxed) {
        control.end(id, Cause::StackOverflow, "", Some(block));
        block.steps.store(STEPS, Ordering::Relaxed);
        return Verdict::OpenReserve;
    }
    Verdict::NotOurs
}

/// After a single step through trusted code that a dead domain called.
fn step(block: &ThreadBlock, inside: bool) -> Verdict {
    let left = block.steps.load(Ordering::Relaxed);
    if left == 0 {
        return Verdict::NotOurs;
    }
    block.steps.store(left - 1, Ordering::Relaxed);
    let frame = block.top_frame();
    if inside && !frame.control().is_live(frame.domain()) {
        block.steps.store(0, Ordering::Relaxed);
        return resume(frame.saved.load(Ordering::Relaxed));
    }
    if left == 1 || frame.domain() == DomainId::HOST {
        block.steps.store(0, Ordering::Relaxed);
        return Verdict::Continue;
    }
    Verdict::Step
}

fn resume(saved: usize) -> Verdict {
    Verdict::Resume {
        instruction: trampoline::resume_failed as *const () as usize,
        argument: saved,
    }
}

/// Ends the domain that the calling thread runs in and goes on at the continuation of the call.
///
/// # Safety
/// Called by code of the domain itself, with nothing between that has to be brought to an end.
pub(crate) unsafe fn fail(cause: Cause, last_words: &str) -> ! {
    let block = ThreadBlock::current();
    let frame = block.top_frame();
    let (control, id): (&'static DomainControl, _) = (frame.control(), frame.domain());
    if id == DomainId::HOST || block.trusted.load(Ordering::Relaxed) != 0 {
        let words = if last_words.is_empty() {
            "no reason given"
        } else {
            last_words
        };
        match host() {
            Some(host) => host.abort(format_args!("trusted code failed ({cause}): {words}")),
            None => loop {
                core::hint::spin_loop();
            },
        }
    }
    control.end(id, cause, last_words, Some(block));
    // SAFETY: the frame is the innermost, so its `call` has not returned; what is above is the
    // domain's, as the caller promises, and this function, which holds nothing.
    unsafe { trampoline::resume_failed(frame.saved.load(Ordering::Relaxed)) }
}
