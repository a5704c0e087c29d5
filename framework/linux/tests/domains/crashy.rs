//! Domains that fail on request: their code lies in the section `domain_code`.

use std::arch::{asm, naked_asm};
use std::ops::Range;
use std::sync::OnceLock;

use sumac_interface::rpc::{Cause, Gate, RpcResult};
use sumac_linux::domains;
use sumac_rref::{SharedHeap, WHOLE_OFFSET};
use sumac_runtime::{Domain, DomainSpec, GateTo, Quota, calls};

unsafe extern "C" {
    /// The linker's names for the ends of the section `domain_code`.
    static __start_domain_code: u8;
    static __stop_domain_code: u8;
}

/// The addresses of the section `domain_code`.
fn code() -> Range<usize> {
    (&raw const __start_domain_code).addr()..(&raw const __stop_domain_code).addr()
}

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Panic,
    NullRead,
    NullWrite,
    ReadOnlyWrite,
    Divide,
    Undefined,
    StackOverflow,
    /// Calls trusted code with so little stack left that it overflows there.
    TrustedOverflow,
    OutOfMemory,
    /// Never returns.
    Spin,
}

impl Kind {
    /// Those that end by themselves.
    pub const PROMPT: [Self; 9] = [
        Self::Panic,
        Self::NullRead,
        Self::NullWrite,
        Self::ReadOnlyWrite,
        Self::Divide,
        Self::Undefined,
        Self::StackOverflow,
        Self::TrustedOverflow,
        Self::OutOfMemory,
    ];

    /// What the domain is then said to have died of.
    pub fn cause(self) -> Cause {
        match self {
            Self::Panic => Cause::Panic,
            Self::NullRead | Self::NullWrite | Self::ReadOnlyWrite => Cause::MemoryFault,
            Self::Divide => Cause::DivideError,
            Self::Undefined => Cause::IllegalInstruction,
            Self::StackOverflow | Self::TrustedOverflow => Cause::StackOverflow,
            Self::OutOfMemory => Cause::OutOfMemory,
            Self::Spin => Cause::Deadline,
        }
    }

    /// Fails. The thread must be inside a domain of [`spawn`].
    pub fn fail(self) {
        match self {
            // SAFETY: inside a domain, from here on nothing needs to be brought to an end.
            Self::Panic => unsafe { calls::fail(Cause::Panic as u32, "oh".as_ptr(), 2) },
            Self::NullRead => null_read(),
            Self::NullWrite => write(8),
            Self::ReadOnlyWrite => write(code().start),
            Self::Divide => divide(),
            Self::Undefined => undefined(),
            Self::StackOverflow => overflow(),
            Self::TrustedOverflow => overflow_trusted(use_stack),
            Self::OutOfMemory => eat(),
            Self::Spin => spin(),
        }
    }
}

#[unsafe(naked)]
#[unsafe(link_section = "domain_code")]
extern "C" fn null_read() {
    naked_asm!("std", "mov rax, [8]", "ret")
}

#[unsafe(naked)]
#[unsafe(link_section = "domain_code")]
extern "C" fn write(_address: usize) {
    naked_asm!("mov byte ptr [rdi], 1", "ret")
}

#[unsafe(naked)]
#[unsafe(link_section = "domain_code")]
extern "C" fn divide() {
    naked_asm!(
        "xor ecx, ecx",
        "mov eax, 1",
        "xor edx, edx",
        "div ecx",
        "ret"
    )
}

#[unsafe(naked)]
#[unsafe(link_section = "domain_code")]
extern "C" fn undefined() {
    naked_asm!("fldz", "ud2", "ret")
}

#[unsafe(naked)]
#[unsafe(link_section = "domain_code")]
extern "C" fn overflow() {
    naked_asm!("2:", "push rax", "jmp 2b")
}

/// Calls `trusted` with less and less stack, for ever.
#[unsafe(naked)]
#[unsafe(link_section = "domain_code")]
extern "C" fn overflow_trusted(_trusted: extern "C" fn()) {
    naked_asm!(
        "push rbx",
        "mov rbx, rdi",
        "2:",
        "call rbx",
        "sub rsp, 4096",
        "jmp 2b"
    )
}

/// Trusted code that needs more stack than its caller's step.
extern "C" fn use_stack() {
    let mut room = std::mem::MaybeUninit::<[u8; 16 * 1024]>::uninit();
    // SAFETY: the first byte of the room.
    unsafe { room.as_mut_ptr().cast::<u8>().write_volatile(1) };
}

#[unsafe(naked)]
#[unsafe(link_section = "domain_code")]
pub extern "C" fn spin() {
    naked_asm!("2:", "pause", "jmp 2b")
}

/// Spins until `flag` is not zero.
#[unsafe(naked)]
#[unsafe(link_section = "domain_code")]
pub extern "C" fn spin_until(_flag: *const u32) {
    naked_asm!("2:", "pause", "cmp dword ptr [rdi], 0", "je 2b", "ret")
}

/// Begins what an image does whole, as `Whole` does in images.
#[unsafe(naked)]
#[unsafe(link_section = "domain_code")]
pub extern "C" fn begin_whole() {
    naked_asm!("inc dword ptr gs:[{at}]", "ret", at = const WHOLE_OFFSET)
}

/// Ends it.
#[unsafe(naked)]
#[unsafe(link_section = "domain_code")]
pub extern "C" fn end_whole() {
    naked_asm!("dec dword ptr gs:[{at}]", "ret", at = const WHOLE_OFFSET)
}

/// Takes memory until there is no more.
fn eat() {
    loop {
        // SAFETY: any argument is good.
        let pages = unsafe { calls::grow(16 * 4096) };
        if pages.is_null() {
            // SAFETY: as in `Kind::fail`.
            unsafe { calls::fail(Cause::OutOfMemory as u32, std::ptr::null(), 0) }
        }
        // SAFETY: fresh writable pages.
        unsafe { pages.write(1) };
    }
}

/// A domain that may use 64 pages, and `call_ns` of processor time a call.
pub fn spawn_with(name: &str, call_ns: u64) -> Domain {
    domains::install().expect("Linux gives what domains need");
    let quota = Quota {
        pages: 64,
        threads: 2,
        call_ns,
    };
    let name = String::from(name);
    let spec = DomainSpec {
        name,
        quota,
        code: code(),
    };
    Domain::create(spec).expect("the table has room")
}

/// A domain without a deadline.
pub fn spawn(name: &str) -> Domain {
    spawn_with(name, 0)
}

/// The gate into a domain.
pub fn gate(domain: Domain) -> GateTo {
    GateTo::new(domain)
}

/// The heap all tests share.
pub fn heap() -> &'static SharedHeap {
    static HEAP: OnceLock<&'static SharedHeap> = OnceLock::new();
    HEAP.get_or_init(|| SharedHeap::create_for(domains::hooks()))
}

/// Ends and frees a domain that no thread is in; waits for those that still are.
pub fn reclaim(domain: Domain) -> sumac_runtime::domain::Freed {
    domain.kill(Cause::Killed);
    loop {
        match domain.reclaim(heap()) {
            Ok(freed) => return freed,
            Err(sumac_runtime::domain::ReclaimError::Frames(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Calls into `gates` in turn, `depth` of them nested, and fails as `kind` in the innermost. The results
/// of all calls, the innermost first.
pub fn descend(gates: &[GateTo], depth: usize, kind: Kind, results: &mut Vec<RpcResult<()>>) {
    let gate = gates[(depth - 1) % gates.len()];
    let inner: &mut Vec<_> = results;
    let result = gate.cross(move || {
        if depth == 1 {
            kind.fail();
        } else {
            descend(gates, depth - 1, kind, inner);
        }
    });
    results.push(result);
}

/// Runs `work` with known values in the registers that a callee preserves; true: they were kept.
pub fn keeps_registers(mut work: impl FnMut()) -> bool {
    extern "C" fn run<F: FnMut()>(work: *mut F) {
        // SAFETY: the pointer below is to a living closure that nobody else uses.
        unsafe { (*work)() }
    }
    fn of<F: FnMut()>(_: &F) -> extern "C" fn(*mut F) {
        run::<F>
    }
    let run = of(&work);
    let wrong: u64;
    // SAFETY: an ordinary call with the stack aligned and below the red zone; all else that it may
    // change is declared.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov rbp, rsp",
            "sub rsp, 128",
            "and rsp, -16",
            "mov rbx, 0x1111",
            "mov r12, 0x2222",
            "mov r13, 0x3333",
            "mov r14, 0x4444",
            "mov r15, 0x5555",
            "call {run}",
            "xor rbx, 0x1111",
            "xor r12, 0x2222",
            "xor r13, 0x3333",
            "xor r14, 0x4444",
            "xor r15, 0x5555",
            "or rbx, r12",
            "or rbx, r13",
            "or rbx, r14",
            "or rbx, r15",
            "mov rax, rbx",
            "mov rsp, rbp",
            "pop rbp",
            "pop rbx",
            run = in(reg) run,
            in("rdi") &raw mut work,
            out("rax") wrong,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            clobber_abi("C"),
        );
    }
    wrong == 0
}
