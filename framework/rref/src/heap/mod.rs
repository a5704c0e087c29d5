//! Typed objects on the shared heap: [`SharedHeap`] and [`RRef<T>`].
//!
//! Objects live in slabs of one size class each. A slot is a [`Header`] and the heap's address followed by
//! the value, so that an [`RRef`] is one pointer and passed in a register; a free
//! slot has no owner and no type. The slabs are walked to find what a domain owns. Allocating takes a
//! lock per size class: it happens when batches are made, never per packet.

mod exchangeable;
#[cfg(not(feature = "image"))]
mod host;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use sumac_device::Whole;

pub use self::exchangeable::{Exchangeable, PoolGrant};
use crate::spin::SpinLock;
use crate::{DomainId, Header, HostHooks, Mover};

/// Bytes of the smallest slot; each further class doubles it.
const SMALLEST_SLOT: usize = 64;
/// Size classes: 64 bytes to 32 KiB, header included.
const CLASSES: usize = 10;
/// Where the value begins in its slot.
const VALUE_OFFSET: usize = 32;

const _: () = assert!(size_of::<Head>() <= VALUE_OFFSET);

/// What a slot with a value begins with.
#[repr(C)]
struct Head {
    header: Header,
    heap: &'static SharedHeap,
}

#[cfg_attr(
    feature = "image",
    expect(dead_code, reason = "lists of slots are the host's")
)]
struct Class {
    slot_bytes: usize,
    slabs: Vec<NonNull<u8>>,
    free: Vec<NonNull<u8>>,
}

// SAFETY: the pointers are to slabs the class owns; a class moves between threads under its lock.
unsafe impl Send for Class {}

/// Drops the value of a slot in place.
type DropValue = unsafe fn(NonNull<u8>);

/// The heap on which shared objects live. One for the life of a host.
#[cfg_attr(
    feature = "image",
    expect(dead_code, reason = "slabs and types are the host's")
)]
pub struct SharedHeap {
    classes: [SpinLock<Class>; CLASSES],
    /// How values are dropped whose owner is gone: by the host's code, found by type.
    types: SpinLock<BTreeMap<u64, DropValue>>,
    hooks: HostHooks,
    /// The host's code for what moves slots: lists of slots are the host's memory.
    take: fn(&SharedHeap, usize, Header) -> Option<NonNull<Header>>,
    give: fn(&SharedHeap, usize, NonNull<Header>),
}

/// What became of a dead domain's shared objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Objects dropped and freed.
    pub freed: usize,
    /// Objects that a call still borrows; reclaim again later.
    pub borrowed: usize,
    /// Objects of a type that the host does not know: freed without being dropped.
    pub unknown: usize,
}

/// The shared heap cannot hold the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeapError {
    /// Larger or more strictly aligned than the largest slot.
    #[error("an object of {bytes} bytes does not fit the shared heap: 32,736 bytes is the most")]
    TooLarge {
        /// The size of the object.
        bytes: usize,
    },
    /// The host has no memory left for another slab, or does not know the type of the object.
    #[error(
        "the host has no memory for another 64 KiB slab of the shared heap, or does not know the type"
    )]
    OutOfMemory,
}

impl SharedHeap {
    /// What the host gave for domains.
    pub fn hooks(&self) -> HostHooks {
        self.hooks
    }

    /// Moves `value` onto the heap, owned by the domain that runs.
    ///
    /// # Errors
    /// [`HeapError`]; the value is dropped.
    pub fn allocate<T: Exchangeable>(&'static self, value: T) -> Result<RRef<T>, HeapError> {
        const {
            assert!(!T::GRANT, "a grant lies on no heap");
        }
        let class = class_of::<T>().ok_or(HeapError::TooLarge {
            bytes: size_of::<T>(),
        })?;
        #[cfg(not(feature = "image"))]
        self.know::<T>();
        let header = Header::new(T::TAG);
        header.set_owner((self.hooks.current)());
        // SAFETY: a slot is taken and written, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        let slot = (self.take)(self, class, header).ok_or(HeapError::OutOfMemory)?;
        let slot = slot.cast::<Head>();
        // SAFETY: the slot is this caller's and begins with a head, of which the header is written.
        unsafe { (&raw mut (*slot.as_ptr()).heap).write(self) };
        // SAFETY: the slot is long enough for its class and this caller's; the value's offset is a
        // multiple of its alignment, as `class_of` made sure.
        unsafe { slot.cast::<u8>().add(VALUE_OFFSET).cast::<T>().write(value) };
        let object: RRef<T> = RRef {
            slot,
            value: PhantomData,
        };
        object.settle();
        Ok(object)
    }
}

/// Which size class a value of this type takes, if it fits one.
const fn class_of<T>() -> Option<usize> {
    let bytes = (VALUE_OFFSET + size_of::<T>()).next_power_of_two();
    let bytes = if bytes < SMALLEST_SLOT {
        SMALLEST_SLOT
    } else {
        bytes
    };
    let index = (bytes.trailing_zeros() - SMALLEST_SLOT.trailing_zeros()) as usize;
    if index < CLASSES && align_of::<T>() <= VALUE_OFFSET {
        Some(index)
    } else {
        None
    }
}

/// An [`RRef`] as the child of another object.
#[derive(Clone, Copy)]
pub struct RawRRef(NonNull<Head>);

/// An object on the shared heap, owned by whoever holds this.
pub struct RRef<T: Exchangeable> {
    slot: NonNull<Head>,
    value: PhantomData<T>,
}

// SAFETY: an RRef owns its value, and `Exchangeable` types are Send.
unsafe impl<T: Exchangeable> Send for RRef<T> {}
// SAFETY: a shared RRef gives shared access to its value only.
unsafe impl<T: Exchangeable + Sync> Sync for RRef<T> {}

impl<T: Exchangeable> RRef<T> {
    /// The object's header.
    pub fn header(&self) -> &Header {
        // SAFETY: the slot is this RRef's from `allocate` to `drop`, with a valid header.
        unsafe { &(*self.slot.as_ptr()).header }
    }

    /// Takes the value off the heap; what it holds is its owner's.
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        // SAFETY: a value is read and its slot freed, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        this.unsettle();
        // SAFETY: `this` is not dropped, so the value is read out once; the slot is freed next.
        let value = unsafe { this.value_pointer().read() };
        this.free();
        value
    }

    /// Changes a value that holds other shared objects. Meanwhile they have owners of their own, so that
    /// one that is taken out is found when whoever took it dies; afterwards those that are in it are its
    /// children again, and go with it by its one owner. For other values this is the same as `&mut`.
    pub fn edit<R>(&mut self, work: impl FnOnce(&mut T) -> R) -> R {
        let open = Open::new(self);
        // SAFETY: `allocate` put a T there; this RRef owns it and is borrowed mutably.
        work(unsafe { open.0.value_pointer().as_mut() })
    }

    /// What the value holds are its children: they have no owner of their own.
    fn settle(&self) {
        if T::ROOTS {
            // SAFETY: they are handed to nobody; the root's owner counts.
            (**self).move_to(&unsafe { Mover::to(DomainId::NONE) });
        }
    }

    /// What the value holds has the root's owner.
    fn unsettle(&self) {
        if T::ROOTS {
            // SAFETY: they are whose the root is already.
            (**self).move_to(&unsafe { Mover::to(self.header().owner()) });
        }
    }

    /// Gives up ownership: the object is the child of something else.
    pub(crate) fn into_raw(self) -> RawRRef {
        self.header().set_owner(DomainId::NONE);
        RawRRef(ManuallyDrop::new(self).slot)
    }

    /// Takes an object back; it is `owner`'s.
    ///
    /// # Safety
    /// `raw` came from `into_raw` of an `RRef<T>` and is used once.
    pub(crate) unsafe fn from_raw(raw: RawRRef, owner: DomainId) -> Self {
        let this = Self {
            slot: raw.0,
            value: PhantomData,
        };
        this.header().set_owner(owner);
        this
    }

    fn value_pointer(&self) -> NonNull<T> {
        // SAFETY: the value lies `VALUE_OFFSET` bytes into the slot, as `allocate` wrote it.
        unsafe { self.slot.cast::<u8>().add(VALUE_OFFSET).cast() }
    }

    fn free(&self) {
        // SAFETY: as in `header`; `allocate` wrote the heap.
        let heap = unsafe { (*self.slot.as_ptr()).heap };
        // A value that has no class was never allocated.
        if let Some(class) = class_of::<T>() {
            (heap.give)(heap, class, self.slot.cast());
        }
    }
}

impl<T: Exchangeable> Deref for RRef<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: `allocate` put a T there; this RRef owns it.
        unsafe { self.value_pointer().as_ref() }
    }
}

impl<T: Exchangeable> DerefMut for RRef<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        const {
            assert!(
                !T::ROOTS,
                "a value that holds shared objects is changed by `RRef::edit`"
            );
        }
        // SAFETY: as above, and `&mut self` makes it the only access.
        unsafe { self.value_pointer().as_mut() }
    }
}

/// An object that is changed just now: see [`RRef::edit`].
struct Open<'a, T: Exchangeable>(&'a RRef<T>);

impl<'a, T: Exchangeable> Open<'a, T> {
    fn new(object: &'a mut RRef<T>) -> Self {
        if T::ROOTS {
            // SAFETY: bounded by the value, and nothing in it fails.
            let _whole = unsafe { Whole::begin() };
            object.header().set_open(true);
            object.unsettle();
        }
        Self(object)
    }
}

impl<T: Exchangeable> Drop for Open<'_, T> {
    fn drop(&mut self) {
        if T::ROOTS {
            // SAFETY: bounded by the value, and nothing in it fails.
            let _whole = unsafe { Whole::begin() };
            self.0.settle();
            self.0.header().set_open(false);
        }
    }
}

impl<T: Exchangeable> Drop for RRef<T> {
    fn drop(&mut self) {
        // SAFETY: bounded by what the value holds, whose types have no destructors of a domain's own.
        let _whole = unsafe { Whole::begin() };
        // SAFETY: the value is valid and not used after this.
        unsafe { self.value_pointer().drop_in_place() };
        self.free();
    }
}

impl<T: Exchangeable + fmt::Debug> fmt::Debug for RRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn objects_come_and_go() {
        let heap = SharedHeap::create();
        let a = heap.allocate(7u64).expect("fits");
        let b = heap.allocate([1u8; 1500]).expect("fits");
        assert_eq!(*a, 7);
        assert_eq!(b[1499], 1);
        assert_eq!(a.header().owner(), DomainId::HOST);
        assert_eq!(a.header().borrows(), 0);
        assert_ne!(a.header().tag(), b.header().tag());
        assert_eq!(heap.count_owned(DomainId::HOST), 2);
        drop(b);
        assert_eq!(heap.count_owned(DomainId::HOST), 1);
        assert_eq!(a.into_inner(), 7);
        assert_eq!(heap.count(), 0);
    }

    #[test]
    fn too_large_is_refused() {
        let heap = SharedHeap::create();
        let result = heap.allocate([0u8; 40_000]);
        assert_eq!(result.err(), Some(HeapError::TooLarge { bytes: 40_000 }));
    }

    #[test]
    fn many_objects_of_one_class_do_not_overlap() {
        let heap = SharedHeap::create();
        let mut all: Vec<_> = (0..5000u64)
            .map(|i| heap.allocate(i).expect("fits"))
            .collect();
        for (i, object) in all.iter_mut().enumerate() {
            assert_eq!(**object, i as u64);
            **object += 1;
        }
        assert!(all.iter().enumerate().all(|(i, o)| **o == i as u64 + 1));
        drop(all);
        assert_eq!(heap.count(), 0);
    }
}
