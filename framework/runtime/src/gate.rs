//! [`GateTo`]: what stands before a domain.
//!
//! A call publishes its frame, looks whether the callee and the caller live, moves the arguments, runs the
//! callee through the trampoline, looks again, moves the result, and takes the frame away. What moves is
//! moved while the frame is there: a domain is not reclaimed while one of its frames is, so nothing
//! becomes the property of a domain already swept. Code here and in proxies is trusted: it always runs
//! to its end, also when the callee or the caller dies, so what it counts it counts back.

use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};

use sumac_interface::rpc::{Gate, Interface, RpcError, RpcResult};
use sumac_rref::{DomainId, Exchangeable, Mover, Object, RRef};

use crate::domain::{Domain, DomainControl};
use crate::held;
use crate::host::host;
use crate::quiescence;
use crate::thread::{Frame, ThreadBlock};
use crate::trampoline::{self, Words};

/// The gate into one domain. Small and freely copied; it keeps nothing alive.
#[derive(Clone, Copy, Debug)]
pub struct GateTo {
    control: &'static DomainControl,
    id: DomainId,
}

/// A call with its arguments, on the caller's stack; its result too, where that does not fit registers.
struct Call<A, F, R> {
    work: ManuallyDrop<(A, F)>,
    result: MaybeUninit<R>,
}

/// Runs the [`Call`] at `data`: the callee's side of the trampoline.
///
/// # Safety
/// `data` points to a `Call` of these types whose `work` was not taken.
unsafe extern "sysv64" fn run<A, F: FnOnce(A) -> R, R>(data: *mut u8) -> Words {
    // SAFETY: the caller's promise; nobody else uses the call meanwhile.
    let call = unsafe { &mut *data.cast::<Call<A, F, R>>() };
    // SAFETY: taken once, here.
    let (arguments, work) = unsafe { ManuallyDrop::take(&mut call.work) };
    Words::of(work(arguments)).unwrap_or_else(|result| {
        call.result.write(result);
        Words::none()
    })
}

impl GateTo {
    /// The gate into `domain`.
    pub fn new(domain: Domain) -> Self {
        Self {
            control: domain.control(),
            id: domain.id(),
        }
    }

    /// The domain behind.
    pub fn id(&self) -> DomainId {
        self.id
    }

    /// Whether the domain behind lives.
    #[inline(always)]
    pub fn is_live(&self) -> bool {
        self.control.is_live(self.id)
    }

    /// Makes the call visible to whoever reclaims the callee.
    #[inline(always)]
    fn publish(&self, block: &ThreadBlock, frame: &Frame) {
        let control = ptr::from_ref(self.control).cast_mut();
        frame.control.store(control, Ordering::Relaxed);
        frame.id.store(self.id.get(), Ordering::Relaxed);
        let turn = frame.turn.load(Ordering::Relaxed).wrapping_add(1);
        frame.turn.store(turn, Ordering::Relaxed);
        block
            .top
            .store(ptr::from_ref(frame).cast_mut(), Ordering::Release);
        quiescence::frame_is_published();
    }

    /// Whose death a call not made failed of.
    #[cold]
    fn dead(&self, caller: &Frame) -> RpcError {
        if is_live(caller) {
            RpcError::Dead(self.control.cause(self.id))
        } else {
            RpcError::CallerDead
        }
    }

    /// The callee was left at its continuation.
    #[cold]
    fn failed(&self, block: &ThreadBlock, caller_frame: *mut Frame) -> RpcError {
        if block.reserve_open.swap(false, Ordering::Relaxed)
            && let Some(host) = host()
        {
            host.close_reserve();
        }
        block.top.store(caller_frame, Ordering::Release);
        RpcError::Dead(self.control.cause(self.id))
    }

    /// The call returned, but the callee or the caller died meanwhile.
    #[cold]
    fn too_late<R>(
        &self,
        owner: ResultOf,
        block: &ThreadBlock,
        frame: &Frame,
        result: R,
    ) -> RpcError {
        let error = self.dead(block.caller_frame());
        let caller_frame = block.top().wrapping_sub(1);
        match owner {
            // The result is dropped where it came from.
            ResultOf::Callee if self.is_live() => _ = run_inside(frame, (), move |()| drop(result)),
            ResultOf::Callee => core::mem::forget(result),
            ResultOf::Caller => {
                block.top.store(caller_frame, Ordering::Release);
                drop(result);
            }
        }
        block.top.store(caller_frame, Ordering::Release);
        error
    }
}

/// Whose a result is as `work` returns it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResultOf {
    /// The callee's: it goes with that.
    Callee,
    /// The caller's already: it is dropped as such.
    Caller,
}

impl GateTo {
    /// Runs `work` inside the callee. `arguments` become the callee's; `accept` makes what of the result is to
    /// be the caller's its.
    ///
    /// # Errors
    /// [`RpcError`] where the callee is dead or dies meanwhile, the caller does, or calls nest too deeply.
    #[inline]
    pub fn call<A: Exchangeable, R>(
        &self,
        arguments: A,
        work: impl FnOnce(A) -> R,
        accept: impl FnOnce(&R, &Mover),
    ) -> RpcResult<R> {
        self.call_for(ResultOf::Callee, arguments, work, accept)
    }

    #[inline(always)]
    fn call_for<A: Exchangeable, R>(
        &self,
        owner: ResultOf,
        arguments: A,
        work: impl FnOnce(A) -> R,
        accept: impl FnOnce(&R, &Mover),
    ) -> RpcResult<R> {
        let mut block = ThreadBlock::from_gs();
        if !block.has_headroom() {
            block = try_again()?;
        }
        let caller_frame = block.top();
        // SAFETY: `top` always is one of the block's frames.
        let caller = unsafe { &*caller_frame };
        if !block.has_frame_above(caller_frame) {
            return Err(RpcError::Nesting);
        }
        // SAFETY: there is a frame above, as was just seen.
        let frame = unsafe { &*caller_frame.add(1) };
        self.publish(block, frame);
        if !self.is_live() || !is_live(caller) {
            compiler_fence(Ordering::SeqCst);
            block.top.store(caller_frame, Ordering::Release);
            return Err(self.dead(caller));
        }
        // SAFETY: this is a gate; the callee lives and cannot be swept while its frame is there.
        arguments.move_to(&unsafe { Mover::to(self.id) });
        let result = match run_inside(frame, arguments, work) {
            Some(result) => result,
            None => return Err(self.failed(block, caller_frame)),
        };
        if !self.is_live() || !is_live(caller) {
            return Err(self.too_late(owner, block, frame, result));
        }
        // SAFETY: as above, towards the caller, whose frame is there too.
        accept(&result, &unsafe { Mover::to(caller.domain()) });
        compiler_fence(Ordering::SeqCst);
        block.top.store(caller_frame, Ordering::Release);
        Ok(result)
    }
}

impl Gate for GateTo {
    #[inline]
    fn cross<R>(&self, work: impl FnOnce() -> R) -> RpcResult<R> {
        self.call_for(ResultOf::Caller, (), |()| work(), |_, _| ())
    }

    #[inline(always)]
    fn give<T: Exchangeable>(&self, value: T) -> T {
        // SAFETY: this is a gate; the callee cannot be swept while its frame is there, as it is inside
        // `cross`.
        value.move_to(&unsafe { Mover::to(self.id) });
        value
    }

    #[inline(always)]
    fn accept<T: Exchangeable>(&self, value: T) -> T {
        // Inside `cross`, which found the thread attached.
        let caller = ThreadBlock::from_gs().caller_frame();
        // SAFETY: as in `give`, towards the caller, whose frame is below the callee's.
        value.move_to(&unsafe { Mover::to(caller.domain()) });
        value
    }

    fn lend<T: Exchangeable, R>(
        &self,
        value: &RRef<T>,
        call: impl FnOnce(&RRef<T>) -> RpcResult<R>,
    ) -> RpcResult<R> {
        let header = value.header();
        // SAFETY: this is a gate, and the borrow ends below: trusted code is not cut short, and a crash
        // of the callee makes `call` return.
        unsafe { header.borrow() };
        let result = call(value);
        // SAFETY: ends the borrow begun above.
        unsafe { header.release() };
        result
    }

    fn to_caller(&self) -> Self {
        let frame = ThreadBlock::current().top_frame();
        Self {
            control: frame.control(),
            id: frame.domain(),
        }
    }

    fn to_callee(&self) -> Self {
        *self
    }

    fn give_object<I: ?Sized + Interface>(&self, object: Object<I>, caller: &Self) -> Object<I> {
        held::keep(self.id, I::proxy(object, caller.to_callee()))
    }

    fn accept_object<I: ?Sized + Interface>(&self, object: Object<I>) -> Object<I> {
        let caller = ThreadBlock::from_gs().caller_frame().domain();
        held::keep(caller, I::proxy(object, self.to_callee()))
    }

    fn release<I: ?Sized>(&self, object: Object<I>) {
        let object = ManuallyDrop::new(object);
        // Where this fails the object is forgotten; its memory goes with its domain.
        let _ = self.cross(move || drop(ManuallyDrop::into_inner(object)));
    }
}

#[inline(always)]
fn is_live(frame: &Frame) -> bool {
    frame.control().is_live(frame.domain())
}

/// Runs `work` with `frame` as its continuation; none: it failed, and all it had been given with it.
#[inline(always)]
fn run_inside<A, F: FnOnce(A) -> R, R>(frame: &Frame, arguments: A, work: F) -> Option<R> {
    let mut call = Call {
        work: ManuallyDrop::new((arguments, work)),
        result: MaybeUninit::uninit(),
    };
    let data = (&raw mut call).cast::<u8>();
    // SAFETY: `run` is of the type of `call`, whose work nobody took; being `extern` it ends the
    // process rather than unwind. The frame is this thread's own.
    let words = unsafe { trampoline::call(data, run::<A, F, R>, frame.saved.as_ptr()) }?;
    if Words::fit::<R>() {
        // SAFETY: `run` came to its end and returned the result's words.
        return Some(unsafe { words.value() });
    }
    // SAFETY: `run` came to its end and wrote the result, which is moved once.
    Some(unsafe { call.result.assume_init() })
}

/// The stack is short, or not that of the block in gs: then the thread was not attached yet.
#[cold]
fn try_again() -> RpcResult<&'static ThreadBlock> {
    let block = ThreadBlock::current();
    if block.has_headroom() {
        Ok(block)
    } else {
        Err(RpcError::Stack)
    }
}
