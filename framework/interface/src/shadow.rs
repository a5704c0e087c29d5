//! [`Shadow`]: speaks an interface for an object that may die, makes it anew when it did, and issues the
//! call again. One for all interfaces: `#[interface]` implements each for the shadow of its objects.

use core::cell::{Cell, RefCell};
use core::time::Duration;

use sumac_rref::Object;

use crate::{RpcError, RpcResult};

/// Makes an object anew after its domain died.
pub trait Remake<I: ?Sized>: Send {
    /// Waits for `pause`, then makes a fresh object in the state in which the one before began its work.
    ///
    /// # Errors
    /// [`RpcError`] if that fails; the shadow tries again within its [`Policy`].
    fn remake(&mut self, pause: Duration) -> RpcResult<Object<I>>;

    /// How many restarts in a row served nobody, where that is known: several shadows may stand before one
    /// domain, and each sees a part of what it does. Otherwise a shadow counts by itself.
    fn in_a_row(&self) -> Option<u32> {
        None
    }
}

impl<I: ?Sized, F: FnMut(Duration) -> RpcResult<Object<I>> + Send> Remake<I> for F {
    fn remake(&mut self, pause: Duration) -> RpcResult<Object<I>> {
        self(pause)
    }
}

/// How often and how soon a shadow restarts what is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Restarts in a row, without a call that succeeded between them, before the shadow gives up.
    pub limit: u32,
    /// The pause before the second restart in a row; it doubles with each further. The first is at once.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limit: 8,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_secs(1),
        }
    }
}

impl Policy {
    /// The pause before a restart that comes after `failed` restarts in a row.
    pub fn pause(&self, failed: u32) -> Duration {
        let Some(doublings) = failed.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first_pause
            .saturating_mul(factor)
            .min(self.longest_pause)
    }
}

/// Stands before an object of the interface `I` that `F` makes anew when it dies.
///
/// What dies is told by [`RpcError::Dead`]: an object that passes on the death of another, one that it
/// called itself, is made anew too. Interface objects that calls return are handed on as they are: they
/// die with what is behind the shadow, and have shadows of their own if they are to live on.
pub struct Shadow<I: ?Sized, F> {
    /// None after a restart that failed.
    object: RefCell<Option<Object<I>>>,
    remake: RefCell<F>,
    policy: Policy,
    /// Restarts in a row since the last call that succeeded.
    failed: Cell<u32>,
    restarts: Cell<u64>,
    last: Cell<RpcError>,
}

impl<I: ?Sized, F: Remake<I>> Shadow<I, F> {
    /// A shadow before `object`.
    pub fn new(object: Object<I>, remake: F, policy: Policy) -> Self {
        Self {
            object: RefCell::new(Some(object)),
            remake: RefCell::new(remake),
            policy,
            failed: Cell::new(0),
            restarts: Cell::new(0),
            last: Cell::new(RpcError::Refused),
        }
    }

    /// How often the object was made anew. No method, so as not to hide an interface's.
    pub fn restarts(this: &Self) -> u64 {
        this.restarts.get()
    }

    /// Issues `call`; on a dead object restarts it and issues the call again, unless that may happen
    /// `once` only. `call` returns nothing when its arguments are gone.
    ///
    /// # Errors
    /// That of the last call issued. [`RpcError::Refused`] for a call into a shadow that is just
    /// restarting what is behind it, from there.
    #[doc(hidden)]
    #[inline]
    pub fn call<R>(
        this: &Self,
        once: bool,
        mut call: impl FnMut(&I) -> Option<RpcResult<R>>,
    ) -> RpcResult<R> {
        let mut error = RpcError::Refused;
        loop {
            let issued = match this.object.try_borrow().as_deref() {
                Ok(Some(object)) => call(object),
                Ok(None) => Some(Err(this.last.get())),
                Err(_) => Some(Err(RpcError::Refused)),
            };
            if let Some(result) = this.settle(issued, once, &mut error) {
                return result;
            }
        }
    }

    /// As [`call`](Self::call), for methods that take `&mut self`.
    ///
    /// # Errors
    /// As of [`call`](Self::call).
    #[doc(hidden)]
    #[inline]
    pub fn call_mut<R>(
        this: &mut Self,
        once: bool,
        mut call: impl FnMut(&mut I) -> Option<RpcResult<R>>,
    ) -> RpcResult<R> {
        let mut error = RpcError::Refused;
        loop {
            let issued = match this.object.get_mut().as_deref_mut() {
                Some(object) => call(object),
                None => Some(Err(this.last.get())),
            };
            if let Some(result) = this.settle(issued, once, &mut error) {
                return result;
            }
        }
    }

    /// The result of a call that was issued, or none to issue it again. `error` is of the call before.
    #[inline(always)]
    fn settle<R>(
        &self,
        issued: Option<RpcResult<R>>,
        once: bool,
        error: &mut RpcError,
    ) -> Option<RpcResult<R>> {
        match issued {
            Some(Err(RpcError::Dead(cause))) => *error = RpcError::Dead(cause),
            Some(result) => {
                if self.failed.get() != 0 && result.is_ok() {
                    self.failed.set(0);
                }
                return Some(result);
            }
            None => return Some(Err(*error)),
        }
        (!self.restart(*error) || once).then_some(Err(*error))
    }

    /// Makes the object anew, as often as the policy lets it; whether there is one now.
    #[cold]
    fn restart(&self, error: RpcError) -> bool {
        self.last.set(error);
        let (Ok(mut object), Ok(mut remake)) =
            (self.object.try_borrow_mut(), self.remake.try_borrow_mut())
        else {
            return false;
        };
        // The dead one goes before its successor comes: a device has one owner.
        *object = None;
        while self.failed.get() < self.policy.limit {
            let failed = self.failed.get();
            self.failed.set(failed + 1);
            if let Ok(fresh) = remake.remake(self.policy.pause(failed)) {
                *object = Some(fresh);
                if let Some(in_a_row) = remake.in_a_row() {
                    self.failed.set(in_a_row);
                }
                self.restarts.set(self.restarts.get() + 1);
                return true;
            }
        }
        false
    }
}
