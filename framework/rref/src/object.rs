//! [`Object`]: a reference to an interface, the one thing beside plain data and shared objects that
//! crosses between domains.

use alloc::boxed::Box;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// An object behind an interface, owned: `Object<dyn Net>`.
///
/// It remembers its maker's way of dropping it. A `Box` would be dropped by the allocator of whoever
/// drops it; domains have allocators of their own.
pub struct Object<I: ?Sized> {
    object: NonNull<I>,
    drop: unsafe fn(NonNull<I>),
}

// SAFETY: an Object owns what is behind it; interfaces are `Send`.
unsafe impl<I: ?Sized + Send> Send for Object<I> {}
// SAFETY: a shared Object gives shared access only.
unsafe impl<I: ?Sized + Sync> Sync for Object<I> {}

/// Drops what came from `Box::into_raw`, with the allocator of whoever this was compiled for.
///
/// # Safety
/// `object` came from a `Box` of this allocator, and is not used again.
unsafe fn drop_box<I: ?Sized>(object: NonNull<I>) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(object.as_ptr()) });
}

impl<I: ?Sized> Object<I> {
    /// Takes a boxed object over.
    pub fn from_box(object: Box<I>) -> Self {
        Self {
            // SAFETY: a Box is never null.
            object: unsafe { NonNull::new_unchecked(Box::into_raw(object)) },
            drop: drop_box::<I>,
        }
    }

    /// Its parts, for those who carry it over: the object and its maker's way of dropping it. It is not
    /// dropped.
    pub fn into_raw(self) -> (NonNull<I>, unsafe fn(NonNull<I>)) {
        let this = ManuallyDrop::new(self);
        (this.object, this.drop)
    }

    /// An object of the parts that [`into_raw`](Self::into_raw) gave.
    ///
    /// # Safety
    /// They are of one `Object<I>`, and used once.
    pub unsafe fn from_raw(object: NonNull<I>, drop: unsafe fn(NonNull<I>)) -> Self {
        Self { object, drop }
    }
}

impl<I: ?Sized> Deref for Object<I> {
    type Target = I;
    #[inline(always)]
    fn deref(&self) -> &I {
        // SAFETY: the object is valid until dropped, and this owns it.
        unsafe { self.object.as_ref() }
    }
}

impl<I: ?Sized> DerefMut for Object<I> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut I {
        // SAFETY: as above, and `&mut self` makes it the only access.
        unsafe { self.object.as_mut() }
    }
}

impl<I: ?Sized> Drop for Object<I> {
    fn drop(&mut self) {
        // SAFETY: `from_box` paired the two, and nothing uses the object after this.
        unsafe { (self.drop)(self.object) };
    }
}

impl<I: ?Sized> fmt::Debug for Object<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Object")
    }
}
