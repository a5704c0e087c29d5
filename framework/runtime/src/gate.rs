//! [`GateTo`]: what stands before a domain.
//!
//! A call publishes its frame, looks whether the callee and the caller live, runs the callee through the
//! trampoline, looks again, and takes the frame away. What moves is moved by the proxy inside the call: a
//! domain is not reclaimed while one of its frames is there, so nothing becomes the property of a domain
//! already swept. Code here and in proxies is trusted: it always runs
//! to its end, also when the callee or the caller dies, so what it counts it counts back.

use core::mem::ManuallyDrop;
use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};

use sumac_interface::rpc::{Gate, Interface, RpcError, RpcResult};
use sumac_rref::{DomainId, Exchangeable, Mover, Object, RRef};

use crate::domain::{Domain, DomainControl};
use crate::held;
use crate::host::host;
use crate::quiescence;
use crate::thread::{Frame, ThreadBlock};
use crate::trampoline::{self, Arguments, Results};

/// The gate into one domain. Small and freely copied; it keeps nothing alive.
#[derive(Clone, Copy, Debug)]
pub struct GateTo {
    control: &'static DomainControl,
    id: DomainId,
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

    /// The callee or the caller is dead: the call is not made, or nothing comes of it.
    #[cold]
    #[inline(never)]
    fn given_up(block: &ThreadBlock) -> RpcError {
        let (caller, callee) = block.innermost_frames();
        let error = whose_death(caller, callee);
        close(block, caller);
        error
    }

    /// The callee was left at its continuation.
    #[cold]
    fn failed() -> RpcError {
        let block = ThreadBlock::from_gs();
        if block.reserve_open.swap(false, Ordering::Relaxed)
            && let Some(host) = host()
        {
            host.close_reserve();
        }
        let (caller, callee) = block.innermost_frames();
        let error = RpcError::Dead(callee.cause());
        close(block, caller);
        error
    }

    /// As [`cross`](Gate::cross), for results that fit registers.
    #[inline(always)]
    fn cross_for_words<F: FnOnce() -> R, R>(&self, work: F) -> RpcResult<R> {
        if Arguments::fit::<F>() {
            return self.cross_by_words(work);
        }
        // Dropped here if it is not called.
        let mut work = Some(work);
        let place = &raw mut work;
        self.cross_by_words(move || {
            // SAFETY: the place outlives the call, in which nobody else uses it.
            let work = unsafe { (*place).take() };
            // SAFETY: the call is made once.
            unsafe { work.unwrap_unchecked()() }
        })
    }

    /// As [`cross`](Gate::cross), for arguments and results that fit registers. They stay in registers all the way,
    /// also to what is seldom done: were their address taken anywhere they would go through memory, and a load of
    /// what two stores wrote, or of more than one did, waits until those are done.
    #[inline(always)]
    fn cross_by_words<F: FnOnce() -> R, R>(&self, work: F) -> RpcResult<R> {
        let words = Arguments::of(work);
        let mut block = ThreadBlock::from_gs();
        if !block.has_headroom() {
            match attached() {
                Some(attached) => block = attached,
                None => {
                    // SAFETY: the words of an `F`, which is not called.
                    unsafe { words.discard::<F>() };
                    return Err(RpcError::Stack);
                }
            }
        }
        let caller_frame = block.top();
        if !block.has_frame_above(caller_frame) {
            // SAFETY: as above.
            unsafe { words.discard::<F>() };
            return Err(RpcError::Nesting);
        }
        // SAFETY: there is a frame above, as was just seen.
        let frame = unsafe { &*caller_frame.add(1) };
        self.publish(block, frame);
        // SAFETY: `top` always is one of the block's frames.
        let caller = unsafe { &*caller_frame };
        if !self.is_live() || !caller.is_live() {
            let error = Self::given_up(block);
            // SAFETY: as above.
            unsafe { words.discard::<F>() };
            return Err(error);
        }
        // SAFETY: this thread's innermost frame, and the words of an `F`.
        let Some(words) = (unsafe { trampoline::call::<F, R>(frame, words) }) else {
            return Err(Self::failed());
        };
        // The innermost frame is this call's again. Nothing is carried over the call that is found there.
        let block = ThreadBlock::from_gs();
        let (caller, callee) = block.innermost_frames();
        if !callee.is_live() || !caller.is_live() {
            let error = Self::given_up(block);
            // SAFETY: the words of an `R`, the caller's already, and dropped as such.
            unsafe { words.discard::<R>() };
            return Err(error);
        }
        close(block, caller);
        // SAFETY: the words of an `R`.
        Ok(unsafe { words.value() })
    }
}

impl Gate for GateTo {
    #[inline]
    fn cross<R>(&self, work: impl FnOnce() -> R) -> RpcResult<R> {
        if Results::fit::<R>() {
            return self.cross_for_words(work);
        }
        // Dropped here, as the caller's, if it comes too late.
        let mut result = None;
        let place = &raw mut result;
        self.cross_for_words(move || {
            let result = work();
            // SAFETY: the place outlives the call, in which nobody else uses it.
            unsafe { place.write(Some(result)) };
        })?;
        // SAFETY: the call came to its end and wrote the result.
        Ok(unsafe { result.unwrap_unchecked() })
    }

    #[inline(always)]
    fn give<T: Exchangeable>(&self, value: T) -> T {
        if T::ROOTS {
            // SAFETY: this is a gate; the callee cannot be swept while its frame is there, as it is
            // inside `cross`.
            value.move_to(&unsafe { Mover::to(self.id) });
        }
        value
    }

    #[inline(always)]
    fn accept<T: Exchangeable>(&self, value: T) -> T {
        if T::ROOTS {
            // Inside `cross`, which found the thread attached.
            let (caller, _) = ThreadBlock::from_gs().innermost_frames();
            // SAFETY: as in `give`, towards the caller, whose frame is below the callee's.
            value.move_to(&unsafe { Mover::to(caller.domain()) });
        }
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
        let (caller, _) = ThreadBlock::from_gs().innermost_frames();
        held::keep(caller.domain(), I::proxy(object, self.to_callee()))
    }

    fn release<I: ?Sized>(&self, object: Object<I>) {
        let object = ManuallyDrop::new(object);
        // Where this fails the object is forgotten; its memory goes with its domain.
        let _ = self.cross(move || drop(ManuallyDrop::into_inner(object)));
    }
}

/// Takes the innermost frame away: the one above `caller`.
#[inline(always)]
fn close(block: &ThreadBlock, caller: &Frame) {
    compiler_fence(Ordering::SeqCst);
    block
        .top
        .store(ptr::from_ref(caller).cast_mut(), Ordering::Release);
}

/// Whose death the innermost call failed of.
fn whose_death(caller: &Frame, callee: &Frame) -> RpcError {
    if caller.is_live() {
        RpcError::Dead(callee.cause())
    } else {
        RpcError::CallerDead
    }
}

/// The calling thread's block after all: the stack is short, or not that of the block in gs, since the thread was
/// not attached yet. None if it is short.
#[cold]
#[inline(never)]
fn attached() -> Option<&'static ThreadBlock> {
    let block = ThreadBlock::current();
    block.has_headroom().then_some(block)
}
