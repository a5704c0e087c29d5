//! Signal handlers: processor exceptions, and the signal that makes a thread look whether the domain it
//! runs in is dead.
//!
//! The handler asks the runtime and does what it says; what is not a domain's goes to whoever handled
//! the signal before, the standard library's report of stack overflows among them. Everything here is
//! async-signal-safe: atomics, system calls, no lock, no memory.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use sumac_runtime::fault::{Trap, TrapKind, Verdict, on_trap};

use super::threads;

const EXCEPTIONS: [libc::c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
];

/// What handled the exceptions before, in their order.
static BEFORE: OnceLock<[libc::sigaction; 5]> = OnceLock::new();

/// The trap flag of rflags: single steps.
const TRAP: i64 = 1 << 8;
/// The direction flag of rflags.
const DIRECTION: i64 = 1 << 10;
/// The first byte of an instruction that uses gs.
const GS_PREFIX: u8 = 0x65;

/// The signal that interrupts a thread.
fn interrupt_signal() -> libc::c_int {
    libc::SIGRTMIN() + 5
}

/// Installs the handlers.
pub(super) fn install() -> io::Result<()> {
    let mut before = [const { MaybeUninit::<libc::sigaction>::zeroed() }; 5];
    for (signal, before) in EXCEPTIONS.iter().zip(&mut before) {
        // SAFETY: only asks; the place is of the right type.
        check(unsafe { libc::sigaction(*signal, ptr::null(), before.as_mut_ptr()) })?;
    }
    // SAFETY: all were filled in above, and all zeros is a value too.
    let before = before.map(|before| unsafe { before.assume_init() });
    // The handler finds these there from the first signal on.
    let _ = BEFORE.set(before);
    let mut action: libc::sigaction = {
        // SAFETY: all zeros is a valid action: the default, no flags, nothing masked.
        unsafe { MaybeUninit::zeroed().assume_init() }
    };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    for signal in EXCEPTIONS.into_iter().chain([interrupt_signal()]) {
        // SAFETY: `on_signal` is async-signal-safe and of the type that SA_SIGINFO asks for.
        check(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) })?;
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Makes a thread of this process look. Async-signal-safe; a thread that is gone does no harm.
pub(super) fn interrupt(thread: libc::pid_t) {
    // SAFETY: sends a signal that has a handler; the kernel checks the numbers.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, interrupt_signal()) };
}

/// The handler of all these signals.
unsafe extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: this thread's own errno, kept for the code interrupted.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t and ucontext_t for this time.
    let ours = unsafe { judge(signal, &*info, &mut *context.cast()) };
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    if !ours && signal != interrupt_signal() {
        // SAFETY: the kernel's arguments, handed on.
        unsafe { hand_on(signal, info, context) };
    }
}

/// Does what the runtime says; false: the signal is not a domain's.
fn judge(signal: libc::c_int, info: &libc::siginfo_t, context: &mut libc::ucontext_t) -> bool {
    let registers = &mut context.uc_mcontext.gregs;
    let instruction = registers[libc::REG_RIP as usize] as usize;
    // SAFETY: the kernel fills in the address for exceptions; it is not used otherwise.
    let address = unsafe { info.si_addr() }.addr();
    let kind = match signal {
        libc::SIGSEGV | libc::SIGBUS => TrapKind::Memory,
        libc::SIGFPE => TrapKind::Divide,
        libc::SIGILL => TrapKind::Instruction,
        libc::SIGTRAP => TrapKind::Step,
        _ => TrapKind::Interrupt,
    };
    // Codes above 0 are the kernel's; a signal that somebody sent is no exception.
    if kind != TrapKind::Interrupt && info.si_code <= 0 {
        return false;
    }
    if !threads::is_attached() {
        return signal == libc::SIGSEGV && attach_late(instruction, address, registers);
    }
    match on_trap(Trap {
        kind,
        instruction,
        address,
    }) {
        Verdict::Resume {
            instruction,
            argument,
        } => {
            registers[libc::REG_RIP as usize] = instruction as i64;
            registers[libc::REG_RDI as usize] = argument as i64;
            registers[libc::REG_RSP as usize] = argument as i64;
            registers[libc::REG_EFL as usize] &= !(DIRECTION | TRAP);
            true
        }
        Verdict::OpenReserve => {
            registers[libc::REG_EFL as usize] |= TRAP;
            threads::open_reserve()
        }
        Verdict::Step => true,
        Verdict::Continue => {
            if kind == TrapKind::Step {
                registers[libc::REG_EFL as usize] &= !TRAP;
            }
            true
        }
        Verdict::NotOurs => false,
    }
}

/// A thread that was not attached looks for its block, `mov reg, gs:[0]`, and faults at address 0: it goes
/// on in [`attach_here`], which attaches it and goes back to try again.
fn attach_late(instruction: usize, address: usize, registers: &mut [i64]) -> bool {
    let code = ptr::with_exposed_provenance::<u8>(instruction);
    // SAFETY: an instruction that faulted on an access at address 0 was fetched, so it can be read.
    if address != 0 || unsafe { code.read() } != GS_PREFIX {
        return false;
    }
    // Below the red zone, where `attach_here` expects the address to go back to.
    let stack = registers[libc::REG_RSP as usize] as usize - 128 - size_of::<usize>();
    let place = ptr::with_exposed_provenance_mut::<usize>(stack);
    // SAFETY: the thread's stack below what it uses, in which it was about to call a domain.
    unsafe { place.write(instruction) };
    registers[libc::REG_RSP as usize] = stack as i64;
    registers[libc::REG_RIP as usize] = attach_here as *const () as usize as i64;
    true
}

/// Attaches the thread in the middle of its code: keeps all registers, and returns to the address on the
/// stack, above which a red zone is.
#[unsafe(naked)]
unsafe extern "C" fn attach_here() {
    std::arch::naked_asm!(
        "pushfq",
        "cld",
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbp",
        "mov rbp, rsp",
        // x87, SSE, AVX and AVX-512 state: at most 2,752 bytes, after a header that must be zero.
        "sub rsp, 4096",
        "and rsp, -64",
        "mov rdi, rsp",
        "xor eax, eax",
        "mov ecx, 512",
        "rep stosq",
        "mov eax, 0xe7",
        "xor edx, edx",
        "xsave64 [rsp]",
        "call {attach}",
        "mov eax, 0xe7",
        "xor edx, edx",
        "xrstor64 [rsp]",
        "mov rsp, rbp",
        "pop rbp",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "popfq",
        "ret 128",
        attach = sym attach_or_abort,
    )
}

/// [`attach`](super::attach) where nobody can be told of an error.
extern "C" fn attach_or_abort() {
    if let Err(error) = threads::attach() {
        eprintln!("this thread cannot call domains: {error}");
        std::process::abort();
    }
}

/// Hands an exception to whoever handled it before.
///
/// # Safety
/// The arguments are the kernel's.
unsafe fn hand_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let index = EXCEPTIONS.iter().position(|one| *one == signal);
    let before = BEFORE.get().zip(index).map(|(all, index)| all[index]);
    let Some(before) = before else { return };
    if before.sa_sigaction == libc::SIG_DFL || before.sa_sigaction == libc::SIG_IGN {
        // As if this handler had never been: the instruction faults again, and that is the end.
        // SAFETY: sets an action that was in force before; raise is async-signal-safe.
        unsafe {
            libc::sigaction(signal, &before, ptr::null_mut());
            if (*info).si_code <= 0 {
                libc::raise(signal);
            }
        }
    } else if before.sa_flags & libc::SA_SIGINFO != 0 {
        type Handler = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: an action with SA_SIGINFO holds the address of such a function.
        let handler = unsafe { std::mem::transmute::<usize, Handler>(before.sa_sigaction) };
        // SAFETY: the kernel's arguments.
        unsafe { handler(signal, info, context) };
    } else {
        // SAFETY: an action without SA_SIGINFO holds the address of such a function.
        let handler = unsafe {
            std::mem::transmute::<usize, unsafe extern "C" fn(libc::c_int)>(before.sa_sigaction)
        };
        // SAFETY: the kernel's argument.
        unsafe { handler(signal) };
    }
}
