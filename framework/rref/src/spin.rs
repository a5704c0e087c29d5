//! A spin lock for the few places off the fast path where cores meet: a pool's depot, a heap's free
//! lists. Held for a bounded copy, never over a call out. Model-checked with loom.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic;
#[cfg(loom)]
pub(crate) use loom::sync::atomic;

#[cfg(not(loom))]
pub(crate) use core::cell::UnsafeCell;
#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;

use atomic::{AtomicBool, Ordering};

/// A value that one core at a time may change.
pub(crate) struct SpinLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` gives out `&mut T` to one caller at a time, so sharing the lock moves a T at most.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// Hosts make what images find made.
    #[cfg(not(feature = "image"))]
    pub(crate) fn new(value: T) -> Self {
        Self {
            locked: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Runs `change` alone. It must be short, must not panic and must not call out.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        while self
            .locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            #[cfg(not(loom))]
            core::hint::spin_loop();
            #[cfg(loom)]
            loom::thread::yield_now();
        }
        #[cfg(not(loom))]
        // SAFETY: `locked` was false and is now true by this caller's doing; whoever else comes
        // waits above until it is false again, after the last use of this reference.
        let result = change(unsafe { &mut *self.value.get() });
        #[cfg(loom)]
        // SAFETY: as above; loom checks it.
        let result = self.value.with_mut(|value| change(unsafe { &mut *value }));
        self.locked.store(false, Ordering::Release);
        result
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::SpinLock;

    #[test]
    fn one_at_a_time() {
        loom::model(|| {
            let lock = Arc::new(SpinLock::new((0u32, 0u32)));
            let other = lock.clone();
            let step = |v: &mut (u32, u32)| {
                assert_eq!(v.0, v.1);
                v.0 += 1;
                v.1 += 1;
            };
            let thread = thread::spawn(move || other.with(step));
            lock.with(step);
            thread.join().expect("the thread ends");
            assert_eq!(lock.with(|v| *v), (2, 2));
        });
    }
}
