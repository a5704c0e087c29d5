//! A domain's instructions in the order in which a call comes to them, and its death at any one of them.
//!
//! A call is walked through once, in single steps (the trap flag). To be killed at one of the instructions that
//! were met, a domain runs up to it at full speed: a breakpoint stands there. From then on it is interrupted before
//! each instruction until it is out, as if the signal of its end had come at that moment.

use std::collections::HashMap;
use std::fs;
use std::mem::{MaybeUninit, zeroed};
use std::ops::Range;
use std::ptr::{null_mut, with_exposed_provenance_mut};
use std::sync::Once;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed};

use sumac_linux::domains;
use sumac_rref::DomainId;
use sumac_runtime::{Cause, Domain, Phase};

/// The trap flag of rflags.
const TRAP: i64 = 1 << 8;
/// The instruction of a breakpoint (`int3`).
const BREAKPOINT: u8 = 0xcc;
const PAGE: usize = 4096;
/// How many instructions that are done whole a dead domain is followed through: a step takes microseconds.
const FOLLOWED: u32 = 100;

/// One time that a call comes to an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Instant {
    /// Where the instruction is.
    address: usize,
    /// How often the call came there before.
    earlier: u32,
}

// What the handler of traps knows of the one walk there is.
static MODE: AtomicU32 = AtomicU32::new(OFF);
static CODE: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static MET: [AtomicUsize; 1 << 14] = [const { AtomicUsize::new(0) }; 1 << 14];
static MET_LEN: AtomicUsize = AtomicUsize::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static EARLIER: AtomicU32 = AtomicU32::new(0);
static INSTRUCTION: AtomicU8 = AtomicU8::new(0);
static DOMAIN: AtomicU32 = AtomicU32::new(0);
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// No walk.
const OFF: u32 = 0;
/// Each step is noted.
const NOTES: u32 = 1;
/// The breakpoint is there.
const WAITS: u32 = 2;
/// One step is taken where the breakpoint was.
const PASSES: u32 = 3;
/// The domain was killed, and goes on in single steps.
const GOES_ON: u32 = 4;

/// Has this process handle traps, and what domains need beside them.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: all zeros is an action, filled in below; the handler is async-signal-safe.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = on_trap as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGTRAP, &action, null_mut()), 0);
        }
        // The handler of domains hands on what is not its own.
        domains::install().expect("Linux gives what domains need");
    });
}

/// Where the code of the one domain is that is loaded: what can be executed and is of no file.
fn code() -> Range<usize> {
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux says");
    let mut images = maps.lines().filter_map(|line| {
        let [range, "r-xp", _, _, "0"] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return None;
        };
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some(address(start)?..address(end)?)
    });
    let code = images.next().expect("a domain is loaded");
    assert_eq!(images.next(), None, "one at a time");
    code
}

/// The instants of `call`, which goes into the one domain that is loaded: each instruction that it comes to, the
/// first time and the last.
pub fn instants(call: impl FnOnce()) -> Vec<Instant> {
    let code = code();
    CODE[0].store(code.start, Relaxed);
    CODE[1].store(code.end, Relaxed);
    MET_LEN.store(0, Relaxed);
    MODE.store(NOTES, Relaxed);
    // SAFETY: the next instruction traps, and each one after it, which changes no register.
    unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    call();
    // The next step is the last.
    MODE.store(OFF, Relaxed);
    let met = MET.get(..MET_LEN.load(Relaxed)).expect("room for all");
    let mut times = HashMap::new();
    let count = |address: &AtomicUsize| {
        let address = address.load(Relaxed);
        let times: &mut u32 = times.entry(address).or_default();
        *times += 1;
        let earlier = *times - 1;
        Instant { address, earlier }
    };
    let mut instants: Vec<Instant> = met.iter().map(count).collect();
    instants
        .retain(|instant| instant.earlier == 0 || instant.earlier + 1 == times[&instant.address]);
    instants
}

/// Makes the same call, in the same image, and kills `domain` at that instant. How many more instructions it went on
/// for; none if the call does not come to the instant.
pub fn kill_at(instant: Instant, domain: Domain, call: impl FnOnce()) -> Option<u32> {
    ADDRESS.store(instant.address, Relaxed);
    EARLIER.store(instant.earlier, Relaxed);
    DOMAIN.store(domain.id().get(), Relaxed);
    INTERRUPTS.store(0, Relaxed);
    INSTRUCTION.store(exchange(instant.address, BREAKPOINT), Relaxed);
    MODE.store(WAITS, Relaxed);
    call();
    if MODE.swap(OFF, Relaxed) == WAITS {
        exchange(instant.address, INSTRUCTION.load(Relaxed));
    }
    INTERRUPTS.load(Relaxed).checked_sub(1)
}

/// Puts another byte into a domain's code; what was there.
fn exchange(address: usize, byte: u8) -> u8 {
    let place = with_exposed_provenance_mut::<u8>(address);
    let page = with_exposed_provenance_mut(address / PAGE * PAGE);
    let written = libc::PROT_READ | libc::PROT_WRITE;
    let executed = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: the page is of an image that this process loaded and this thread alone runs, which is not in it
    // now; it is as it was but for the byte. Async-signal-safe.
    unsafe {
        libc::mprotect(page, PAGE, written);
        let before = place.replace(byte);
        libc::mprotect(page, PAGE, executed);
        before
    }
}

unsafe extern "C" fn on_trap(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO it is a ucontext_t, this handler's for this time.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let registers = &mut context.uc_mcontext.gregs;
    let at = registers[libc::REG_RIP as usize] as usize;
    let inside = (CODE[0].load(Relaxed)..CODE[1].load(Relaxed)).contains(&at);
    let address = ADDRESS.load(Relaxed);
    let again = match MODE.load(Relaxed) {
        NOTES if inside => {
            if let Some(place) = MET.get(MET_LEN.fetch_add(1, Relaxed)) {
                place.store(at, Relaxed);
            }
            true
        }
        NOTES => true,
        WAITS => {
            exchange(address, INSTRUCTION.load(Relaxed));
            registers[libc::REG_RIP as usize] = address as i64;
            arrive();
            true
        }
        // An instruction that repeats itself steps on the spot.
        PASSES if at == address => {
            arrive();
            true
        }
        PASSES => {
            exchange(address, BREAKPOINT);
            MODE.store(WAITS, Relaxed);
            false
        }
        GOES_ON if inside && INTERRUPTS.load(Relaxed) < FOLLOWED => {
            interrupt();
            true
        }
        _ => false,
    };
    match again {
        true => registers[libc::REG_EFL as usize] |= TRAP,
        false => registers[libc::REG_EFL as usize] &= !TRAP,
    }
}

/// The call has come to the instruction.
fn arrive() {
    match EARLIER.load(Relaxed) {
        0 => {
            MODE.store(GOES_ON, Relaxed);
            interrupt();
        }
        earlier => {
            EARLIER.store(earlier - 1, Relaxed);
            MODE.store(PASSES, Relaxed);
        }
    }
}

/// Ends the domain if it lives, and interrupts this thread in it before its next instruction: the signal waits until
/// the handler of traps returns.
fn interrupt() {
    INTERRUPTS.fetch_add(1, Relaxed);
    let mut all = MaybeUninit::uninit();
    // SAFETY: the set is filled before it is used; returning from the handler puts this thread's own back.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), null_mut());
    }
    let Some(domain) = Domain::find(DomainId::new(DOMAIN.load(Relaxed))) else {
        return;
    };
    match domain.phase() {
        Phase::Alive => _ = domain.kill(Cause::Killed),
        _ => domain.interrupt(),
    }
}
