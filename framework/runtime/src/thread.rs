//! The block of each thread: where its calls go on, found through `gs:[0]`.
//!
//! Only its thread writes a block's frames, without locked instructions; anyone may read them. Blocks
//! are never freed, but used again by later threads, so that readers may walk the list at any time, in
//! a trap handler too.

use alloc::boxed::Box;
use core::arch::asm;
use core::mem::offset_of;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use sumac_interface::rpc::Cause;
use sumac_rref::DomainId;

use crate::domain::{self, DomainControl};
use crate::host::{PAGE, host};

/// How many calls between domains may be nested on one thread.
pub const NESTING: usize = 128;

/// Where the innermost frame is in the block.
pub(crate) const TOP_OFFSET: usize = offset_of!(ThreadBlock, top);
/// Where the x87 control word is in the block.
pub(crate) const FPU_CONTROL_OFFSET: usize = offset_of!(ThreadBlock, fpu_control);
/// Where the SSE control word is in the block.
pub(crate) const MXCSR_OFFSET: usize = offset_of!(ThreadBlock, mxcsr);

/// Where the continuation's stack pointer is in a frame.
pub(crate) const SAVED_OFFSET: usize = offset_of!(Frame, saved);
/// Where the continuation's instruction is in a frame.
pub(crate) const RESUME_OFFSET: usize = offset_of!(Frame, resume);

/// One call: into which domain, and where to go on if it fails.
#[repr(C, align(32))]
#[derive(Debug)]
pub struct Frame {
    /// The stack pointer that [`trampoline::call`](crate::trampoline::call) saved.
    pub(crate) saved: AtomicUsize,
    /// The instruction where that goes on after a failure.
    resume: AtomicUsize,
    /// The callee.
    pub(crate) control: AtomicPtr<DomainControl>,
    /// The callee's number: a control serves many domains in turn.
    pub(crate) id: AtomicU32,
    /// Counts the calls at this depth: tells a long call from many short ones.
    pub(crate) turn: AtomicU32,
}

impl Frame {
    fn new() -> Self {
        Self {
            saved: AtomicUsize::new(0),
            resume: AtomicUsize::new(0),
            control: AtomicPtr::new(domain::host_control()),
            id: AtomicU32::new(DomainId::HOST.get()),
            turn: AtomicU32::new(0),
        }
    }

    /// The domain that runs in this frame.
    pub(crate) fn domain(&self) -> DomainId {
        DomainId::new(self.id.load(Ordering::Relaxed))
    }

    /// Whether the domain that runs in this frame lives.
    #[inline(always)]
    pub(crate) fn is_live(&self) -> bool {
        self.control().is_live(self.domain())
    }

    /// Why the domain that ran in this frame ended.
    pub(crate) fn cause(&self) -> Cause {
        self.control().cause(self.domain())
    }

    /// The control of the domain that runs in this frame.
    pub(crate) fn control(&self) -> &'static DomainControl {
        // SAFETY: frames only ever hold addresses of the static table of domains.
        unsafe { &*self.control.load(Ordering::Relaxed) }
    }
}

/// A thread's stack, as its host knows it. Ends are addresses; the stack grows downwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackLimits {
    /// The whole stack with its guard: an access that faults in here is a stack overflow.
    pub overflow: Range<usize>,
    /// A call into a domain needs the stack pointer above this.
    pub headroom: usize,
    /// The end of the stack, where it began.
    pub top: usize,
}

/// What the runtime knows of a thread.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct ThreadBlock {
    /// The block's own address: what `gs:[0]` reads.
    this: AtomicPtr<ThreadBlock>,
    /// The innermost frame.
    pub(crate) top: AtomicPtr<Frame>,
    /// The last frame there may be.
    last: AtomicPtr<Frame>,
    /// The part of the stack in which a call into a domain may begin, see [`room`]; 0 is none.
    room: AtomicU64,
    /// Whether, not zero, the thread is in trusted code that a domain's image contains: `Whole` of `sumac-device`
    /// says so here.
    pub(crate) trusted: AtomicU32,
    /// The SSE control word of the thread's host code.
    mxcsr: AtomicU32,
    /// The x87 control word of the thread's host code.
    fpu_control: AtomicU32,
    /// Whether the reserve of the stack was opened to trusted code since the last failure.
    pub(crate) reserve_open: AtomicBool,
    /// How many more single steps the thread takes towards the end of trusted code.
    pub(crate) steps: AtomicU32,
    /// How often the host's interrupt reached the thread.
    heard: AtomicU32,
    used: AtomicBool,
    handle: AtomicU64,
    stack_low: AtomicUsize,
    stack_high: AtomicUsize,
    next: AtomicPtr<ThreadBlock>,
    /// The host's own comes second. Below it is another one of the host's, which never is the innermost: so
    /// every frame that is has a caller's.
    frames: [Frame; NESTING + 2],
}

/// The index of the host's own frame.
const OUTERMOST: usize = 1;

/// All blocks there ever were, the newest first.
static BLOCKS: AtomicPtr<ThreadBlock> = AtomicPtr::new(ptr::null_mut());

impl ThreadBlock {
    /// The block for the calling thread to put into its gs base. `handle` is the host's name for the
    /// thread, for [`Host::interrupt`](crate::host::Host::interrupt).
    pub fn register(handle: u64, stack: &StackLimits) -> &'static Self {
        let block = blocks().find(|block| {
            block
                .used
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        });
        let block = block.unwrap_or_else(Self::append);
        block.handle.store(handle, Ordering::Relaxed);
        block
            .stack_low
            .store(stack.overflow.start, Ordering::Relaxed);
        block
            .stack_high
            .store(stack.overflow.end, Ordering::Relaxed);
        block.room.store(room(stack), Ordering::Relaxed);
        block.trusted.store(0, Ordering::Relaxed);
        block.reserve_open.store(false, Ordering::Relaxed);
        block.steps.store(0, Ordering::Relaxed);
        let (mxcsr, fpu_control) = control_words();
        block.mxcsr.store(mxcsr, Ordering::Relaxed);
        block.fpu_control.store(fpu_control, Ordering::Relaxed);
        block
    }

    fn append() -> &'static Self {
        let block: &'static Self = Box::leak(Box::new(Self {
            this: AtomicPtr::new(ptr::null_mut()),
            top: AtomicPtr::new(ptr::null_mut()),
            last: AtomicPtr::new(ptr::null_mut()),
            room: AtomicU64::new(0),
            trusted: AtomicU32::new(0),
            mxcsr: AtomicU32::new(0),
            fpu_control: AtomicU32::new(0),
            reserve_open: AtomicBool::new(false),
            steps: AtomicU32::new(0),
            heard: AtomicU32::new(0),
            used: AtomicBool::new(true),
            handle: AtomicU64::new(0),
            stack_low: AtomicUsize::new(0),
            stack_high: AtomicUsize::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            frames: core::array::from_fn(|_| Frame::new()),
        }));
        let this = ptr::from_ref(block).cast_mut();
        block.this.store(this, Ordering::Relaxed);
        let frames = block.frames.as_ptr().cast_mut();
        let outermost = frames.wrapping_add(OUTERMOST);
        block.top.store(outermost, Ordering::Relaxed);
        let last = outermost.wrapping_add(NESTING);
        block.last.store(last, Ordering::Relaxed);
        let mut head = BLOCKS.load(Ordering::Relaxed);
        loop {
            block.next.store(head, Ordering::Relaxed);
            match BLOCKS.compare_exchange_weak(head, this, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return block,
                Err(now) => head = now,
            }
        }
    }

    /// Gives the block back: its thread ends, and has no call open.
    pub fn unregister(&self) {
        // A thread that inherited this block and now runs on the stack that its thread had is not it.
        self.room.store(0, Ordering::Relaxed);
        self.used.store(false, Ordering::Release);
    }

    /// The block that gs leads to: the calling thread's, or its parent's if the host has not attached the
    /// thread yet and threads inherit gs there.
    ///
    /// Where gs is zero this faults; hosts attach such a thread then and let it try again, or end it.
    #[inline(always)]
    pub(crate) fn from_gs() -> &'static Self {
        let this: *const Self;
        // SAFETY: the gs base is zero, where nothing is mapped, or a block: hosts put no other there.
        unsafe {
            asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly));
        }
        // SAFETY: a block holds its own address there, and is never freed.
        unsafe { &*this }
    }

    /// The calling thread's block; the thread is attached if it is not. Not for trap handlers, which run
    /// on stacks of their own.
    pub fn current() -> &'static Self {
        let block = Self::from_gs();
        if block.has_headroom() {
            return block;
        }
        // Little stack is left, or this is the block of another thread.
        if let Some(host) = host() {
            host.attach();
        }
        Self::from_gs()
    }

    /// The innermost frame. Its neighbour below is the caller's.
    #[inline(always)]
    pub(crate) fn top(&self) -> *mut Frame {
        self.top.load(Ordering::Relaxed)
    }

    /// The domain that runs on this thread now.
    pub fn domain(&self) -> DomainId {
        self.top_frame().domain()
    }

    /// The innermost frame.
    #[inline(always)]
    pub(crate) fn top_frame(&self) -> &Frame {
        // SAFETY: `top` always is one of `frames`.
        unsafe { &*self.top.load(Ordering::Acquire) }
    }

    /// The frames of the caller and of the callee: the innermost and the one below. Both are the host's where
    /// no call is open.
    #[inline(always)]
    pub(crate) fn innermost_frames(&self) -> (&Frame, &Frame) {
        let top = self.top();
        // SAFETY: `top` always is one of `frames`, and never the first.
        unsafe { (&*top.sub(1), &*top) }
    }

    /// How many calls are open.
    pub fn depth(&self) -> usize {
        let top = self.top.load(Ordering::Acquire) as usize;
        (top - ptr::from_ref(&self.frames[OUTERMOST]) as usize) / size_of::<Frame>()
    }

    /// Whether a further call has a frame.
    #[inline(always)]
    pub(crate) fn has_frame_above(&self, top: *mut Frame) -> bool {
        top < self.last.load(Ordering::Relaxed)
    }

    /// Whether enough stack is left for a call, and the stack is this block's thread's.
    #[inline(always)]
    pub(crate) fn has_headroom(&self) -> bool {
        let room = self.room.load(Ordering::Relaxed);
        let above = (stack_pointer() as u64 / PAGE as u64).wrapping_sub(room >> ROOM_BITS);
        above < room & ROOM_MASK
    }

    /// Whether an access to `address` that faulted is a stack overflow.
    pub(crate) fn overflows(&self, address: usize) -> bool {
        let low = self.stack_low.load(Ordering::Relaxed);
        (low..self.stack_high.load(Ordering::Relaxed)).contains(&address)
    }

    /// The host's interrupt has reached the thread.
    pub(crate) fn hear(&self) {
        let heard = self.heard.load(Ordering::Relaxed).wrapping_add(1);
        self.heard.store(heard, Ordering::Relaxed);
    }

    /// How often [`Host::interrupt`](crate::host::Host::interrupt) reached the thread: one that was interrupted and
    /// has not heard it does not run.
    pub fn heard(&self) -> u32 {
        self.heard.load(Ordering::Relaxed)
    }

    /// The host's name for the thread.
    pub fn handle(&self) -> u64 {
        self.handle.load(Ordering::Relaxed)
    }

    /// The frames open now, the outermost first, as far as a look from another thread can tell.
    pub(crate) fn open_frames(&self) -> &[Frame] {
        &self.frames[OUTERMOST + 1..=OUTERMOST + self.depth()]
    }

    /// The innermost call: how deep, into which domain, and which call at that depth it is; none while
    /// the thread runs host code.
    pub fn innermost(&self) -> Option<Innermost> {
        let depth = self.depth();
        let frame = &self.frames[OUTERMOST + depth];
        let domain = frame.domain();
        let turn = frame.turn.load(Ordering::Relaxed);
        (domain != DomainId::HOST).then_some(Innermost {
            depth,
            turn,
            domain,
        })
    }
}

/// A call seen from another thread, see [`ThreadBlock::innermost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Innermost {
    /// How many calls are open on the thread.
    pub depth: usize,
    /// Tells this call from earlier ones at the same depth.
    pub turn: u32,
    /// The callee.
    pub domain: DomainId,
}

/// The blocks of all threads, those without a thread included.
fn blocks() -> impl Iterator<Item = &'static ThreadBlock> {
    let mut next = BLOCKS.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: blocks are never freed.
        let block: &'static ThreadBlock = unsafe { next.as_ref() }?;
        next = block.next.load(Ordering::Acquire);
        Some(block)
    })
}

/// The blocks of all threads that have one.
pub fn threads() -> impl Iterator<Item = &'static ThreadBlock> {
    blocks().filter(|block| block.used.load(Ordering::Acquire))
}

/// The domain that the calling thread runs in: for `HostHooks`.
pub fn current_domain() -> DomainId {
    ThreadBlock::current().domain()
}

/// Bits for the length in a [`room`].
const ROOM_BITS: u32 = 28;
const ROOM_MASK: u64 = (1 << ROOM_BITS) - 1;

/// Where in a stack a call may begin, in one word, so that no reader sees half of one and half of
/// another: the number of the first page, and how many there are, in the low bits.
fn room(stack: &StackLimits) -> u64 {
    let first = stack.headroom.div_ceil(PAGE);
    let pages = (stack.top / PAGE).saturating_sub(first) as u64;
    (first as u64) << ROOM_BITS | pages.min(ROOM_MASK)
}

#[inline(always)]
fn stack_pointer() -> usize {
    let stack: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) stack, options(nomem, nostack, preserves_flags)) };
    stack
}

/// The calling thread's SSE and x87 control words.
fn control_words() -> (u32, u32) {
    let (mut mxcsr, mut fpu_control) = (0u32, 0u16);
    // SAFETY: both store to the variables given, of the size each instruction writes.
    unsafe {
        asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags));
        asm!("fnstcw [{}]", in(reg) &mut fpu_control, options(nostack, preserves_flags));
    }
    (mxcsr & !0x3f, u32::from(fpu_control))
}
