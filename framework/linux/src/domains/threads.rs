//! What a thread needs to call domains: its block in the gs base, an alternate signal stack large
//! enough for handlers that judge a stack overflow, and the reserve of its stack.

use std::cell::{Cell, OnceCell};
use std::io;
use std::ptr::{self, NonNull};

use sumac_runtime::ThreadBlock;
use sumac_runtime::host::PAGE;

use super::stack::Stack;

/// From asm/prctl.h.
const ARCH_SET_GS: libc::c_int = 0x1001;
/// Bytes of the alternate signal stack, and of the guard below it.
const SIGNAL_STACK: usize = 64 * 1024;

thread_local! {
    static ATTACHED: OnceCell<Attached> = const { OnceCell::new() };
    /// The attached thread's stack, for handlers: `ATTACHED` must not be initialized there.
    static STACK: Cell<Option<&'static Stack>> = const { Cell::new(None) };
}

/// Undoes on the thread's end what [`attach`] did.
#[derive(Debug)]
struct Attached {
    block: &'static ThreadBlock,
    stack: &'static Stack,
    signals: SignalStack,
}

/// Prepares the calling thread for calls into domains. Once is enough, more do no harm; a thread that
/// did not is prepared by its first call.
///
/// # Errors
/// What Linux says if it has no memory for a signal stack, or does not tell where the stack is.
pub fn attach() -> io::Result<()> {
    super::install()?;
    if STACK.get().is_some() {
        return Ok(());
    }
    let stack = Stack::of_this_thread()?;
    let signals = SignalStack::new()?;
    let handle = handle()?;
    let block = ThreadBlock::register(handle, &stack.limits);
    let stack: &'static Stack = Box::leak(Box::new(stack));
    let attached = Attached {
        block,
        stack,
        signals,
    };
    ATTACHED.with(|cell| {
        // If this fails, the drop of `attached` undoes what was done.
        set_gs(ptr::from_ref(block).addr())?;
        STACK.set(Some(stack));
        // It was empty: `STACK` says so, and only this function sets both.
        let _ = cell.set(attached);
        Ok(())
    })
}

impl Drop for Attached {
    fn drop(&mut self) {
        STACK.set(None);
        // A thread that cannot undo this is at its end anyway; the kernel keeps nothing of it.
        let _ = set_gs(0);
        self.block.unregister();
        let _ = self.stack.open();
        self.signals.disable();
        // SAFETY: it came from `Box::leak`, and `STACK` was the only other reference.
        drop(unsafe { Box::from_raw(ptr::from_ref(self.stack).cast_mut()) });
    }
}

/// Opens the reserve of the calling thread's stack; false if it has none. Fit for signal handlers.
pub(super) fn open_reserve() -> bool {
    STACK.get().is_some_and(|stack| stack.open().is_ok())
}

/// Closes the reserve of the calling thread's stack again.
pub(super) fn close_reserve() {
    if let Some(stack) = STACK.get() {
        // A reserve left open is found by the guard below it, as an honest crash of the process.
        let _ = stack.close();
    }
}

/// Whether the calling thread has a block of its own: a thread inherits the gs base of the one that made
/// it. Fit for signal handlers.
pub(super) fn is_attached() -> bool {
    STACK.get().is_some()
}

fn set_gs(base: usize) -> io::Result<()> {
    // SAFETY: neither Rust nor the C library uses gs on x86-64; the base is a block or zero.
    if unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The calling thread's handle: the clock of its processor time above its number.
fn handle() -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: writes the clock's number of a thread that exists: this one.
    let (thread, result) = unsafe {
        let result = libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock);
        (libc::gettid(), result)
    };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    Ok(u64::from(clock as u32) << 32 | u64::from(thread as u32))
}

/// The number of the thread of this handle.
pub(super) fn id_of(handle: u64) -> libc::pid_t {
    handle as u32 as libc::pid_t
}

/// The processor time in nanoseconds that the thread of this handle used; none if it is gone.
pub(super) fn processor_ns(handle: u64) -> Option<u64> {
    let clock = (handle >> 32) as u32 as libc::clockid_t;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the variable given; a clock of a thread that is gone is refused.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return None;
    }
    Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// An alternate signal stack with a guard page below.
#[derive(Debug)]
struct SignalStack {
    start: NonNull<u8>,
}

impl SignalStack {
    fn new() -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new mapping, where the kernel likes; its first page becomes the guard.
        let start = unsafe {
            let start = libc::mmap(ptr::null_mut(), PAGE + SIGNAL_STACK, access, flags, -1, 0);
            if start == libc::MAP_FAILED || libc::mprotect(start, PAGE, libc::PROT_NONE) != 0 {
                return Err(io::Error::last_os_error());
            }
            start
        };
        let this = Self {
            start: NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?,
        };
        let stack = libc::stack_t {
            // SAFETY: within the mapping.
            ss_sp: unsafe { this.start.add(PAGE) }.as_ptr().cast(),
            ss_flags: 0,
            ss_size: SIGNAL_STACK,
        };
        // SAFETY: the stack is this thread's alone until disabled.
        if unsafe { libc::sigaltstack(&stack, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(this)
    }

    /// Gives the stack back; the thread has none from now on, unless another one took its place.
    fn disable(&self) {
        let mut now = libc::stack_t {
            ss_sp: ptr::null_mut(),
            ss_flags: 0,
            ss_size: 0,
        };
        let none = libc::stack_t {
            ss_flags: libc::SS_DISABLE,
            ..now
        };
        // SAFETY: asks for the stack in use, and stops using it if it is this one; then nothing uses the
        // mapping any more, since no handler is running on it here.
        unsafe {
            libc::sigaltstack(ptr::null(), &mut now);
            if now.ss_sp.addr() == self.start.as_ptr().addr() + PAGE {
                libc::sigaltstack(&none, ptr::null_mut());
            }
            libc::munmap(self.start.as_ptr().cast(), PAGE + SIGNAL_STACK);
        }
    }
}
