//! Typed objects on the shared heap: [`SharedHeap`] and [`RRef<T>`].
//!
//! Objects live in slabs of one size class each. A slot is a [`Header`] and the heap's address followed by
//! the value, so that an [`RRef`] is one pointer and passed in a register; a free
//! slot has no owner and no type. The slabs are walked to find what a domain owns. Allocating takes a
//! lock per size class: it happens when batches are made, never per packet.

use alloc::alloc::{Layout, alloc_zeroed};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use sumac_device::DeviceGrant;

use crate::spin::SpinLock;
use crate::{DomainId, Header, HostHooks, Mover, PacketPool, TypeTag};

/// Bytes of a slab, and its alignment.
const SLAB_BYTES: usize = 64 * 1024;
/// Bytes of the smallest slot; each further class doubles it.
const SMALLEST_SLOT: usize = 64;
/// Size classes: 64 bytes to 32 KiB, header included.
const CLASSES: usize = 10;
/// Where the value begins in its slot.
const VALUE_OFFSET: usize = 32;

const _: () = assert!(size_of::<Head>() <= VALUE_OFFSET);

/// The type of a slot that holds nothing.
const FREE: TypeTag = TypeTag(0);

/// What may live on the shared heap and cross domains: owned values without references into private
/// memory.
///
/// # Safety
/// Implementers promise that values hold no reference or pointer but through [`RRef`] and its kin,
/// that nothing in them changes behind a shared borrow, and that `TAG` is not zero and differs from
/// that of every other type.
#[diagnostic::on_unimplemented(
    message = "interface rule R2 (exchangeable): `{Self}` may not cross between domains, nor live on the shared heap",
    label = "not exchangeable",
    note = "exchangeable are numbers, `RRef`, arrays, tuples, and types with `#[derive(Exchangeable)]`, without references, pointers or interior mutability"
)]
pub unsafe trait Exchangeable: Send + 'static {
    /// The type's number.
    const TAG: TypeTag;

    /// Whether a value holds shared objects by their owners' handles ([`RRef`] and its kin), each with an
    /// owner of its own. Such a value crosses between domains, but does not live on the shared heap: what
    /// lives there holds others as children.
    const ROOTS: bool = false;

    /// Makes every shared object that the value holds `mover`'s owner's. Plain data holds none.
    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        let _ = mover;
    }
}

macro_rules! exchangeable_numbers {
    ($($number:ty = $tag:literal),+) => {
        $(
            // SAFETY: a number holds no reference; the tags differ.
            #[diagnostic::do_not_recommend]
            unsafe impl Exchangeable for $number {
                const TAG: TypeTag = TypeTag($tag);
            }
        )+
    };
}
exchangeable_numbers!(
    bool = 9,
    u128 = 10,
    u8 = 1,
    u16 = 2,
    u32 = 3,
    u64 = 4,
    i8 = 5,
    i16 = 6,
    i32 = 7,
    i64 = 8
);

// SAFETY: nothing in it.
#[diagnostic::do_not_recommend]
unsafe impl Exchangeable for () {
    const TAG: TypeTag = TypeTag(11);
}
// SAFETY: a number.
#[diagnostic::do_not_recommend]
unsafe impl Exchangeable for usize {
    const TAG: TypeTag = TypeTag(12);
}

// SAFETY: an array holds what its elements hold; the tag is made of the element's and the
// length.
#[diagnostic::do_not_recommend]
unsafe impl<T: Exchangeable, const N: usize> Exchangeable for [T; N] {
    const TAG: TypeTag = T::TAG.of_many(b'A', N);
    const ROOTS: bool = T::ROOTS;

    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        if T::ROOTS {
            self.iter().for_each(|item| item.move_to(mover));
        }
    }
}

// SAFETY: a grant refers to its host's side only, which outlives the domain; it cannot be cloned.
#[diagnostic::do_not_recommend]
unsafe impl Exchangeable for DeviceGrant {
    const TAG: TypeTag = TypeTag(0x4445_5649_4345);
    // It is an authority: it crosses, but lies on no heap.
    const ROOTS: bool = true;
}

/// A packet pool, for a domain to take buffers from.
#[derive(Clone, Copy)]
pub struct PoolGrant(&'static PacketPool);

impl PoolGrant {
    /// A grant of `pool`.
    pub fn new(pool: &'static PacketPool) -> Self {
        Self(pool)
    }

    /// The pool.
    pub fn pool(self) -> &'static PacketPool {
        self.0
    }
}

// SAFETY: pools live as long as their host.
#[diagnostic::do_not_recommend]
unsafe impl Exchangeable for PoolGrant {
    const TAG: TypeTag = TypeTag(0x504f_4f4c);
    const ROOTS: bool = true;
}

// SAFETY: the root is all there is to re-own: what the object holds are its children.
#[diagnostic::do_not_recommend]
unsafe impl<T: Exchangeable> Exchangeable for RRef<T> {
    const TAG: TypeTag = T::TAG.of_many(b'R', 1);
    const ROOTS: bool = true;

    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        self.header().set_owner(mover.owner());
    }
}

macro_rules! exchangeable_tuples {
    ($($($item:ident $index:tt),+;)+) => {
        $(
            // SAFETY: a tuple holds what its items hold; the tag is made of theirs in order.
            #[diagnostic::do_not_recommend]
            unsafe impl<$($item: Exchangeable),+> Exchangeable for ($($item,)+) {
                const TAG: TypeTag = TypeTag::of_all(b'T', &[$($item::TAG),+]);
                const ROOTS: bool = $($item::ROOTS)||+;

                #[inline(always)]
                fn move_to(&self, mover: &Mover) {
                    $(self.$index.move_to(mover);)+
                }
            }
        )+
    };
}
exchangeable_tuples! {
    A 0;
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
}

// SAFETY: holds what its value holds; the tag is made of the value's.
#[diagnostic::do_not_recommend]
unsafe impl<T: Exchangeable> Exchangeable for Option<T> {
    const TAG: TypeTag = TypeTag::of_all(b'O', &[T::TAG]);
    const ROOTS: bool = T::ROOTS;

    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        if let Some(value) = self {
            value.move_to(mover);
        }
    }
}

// SAFETY: holds what its value or its error holds; the tag is made of both.
#[diagnostic::do_not_recommend]
unsafe impl<T: Exchangeable, E: Exchangeable> Exchangeable for Result<T, E> {
    const TAG: TypeTag = TypeTag::of_all(b'E', &[T::TAG, E::TAG]);
    const ROOTS: bool = T::ROOTS || E::ROOTS;

    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        match self {
            Ok(value) => value.move_to(mover),
            Err(error) => error.move_to(mover),
        }
    }
}

/// What a slot with a value begins with.
#[repr(C)]
struct Head {
    header: Header,
    heap: &'static SharedHeap,
}

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
    /// A heap of a host without domains, never given back: shared objects may outlive whoever made them.
    pub fn create() -> &'static Self {
        Self::create_for(HostHooks::ALONE)
    }

    /// A heap of a host with domains.
    pub fn create_for(hooks: HostHooks) -> &'static Self {
        Box::leak(Box::new(Self {
            classes: core::array::from_fn(|i| {
                SpinLock::new(Class {
                    slot_bytes: SMALLEST_SLOT << i,
                    slabs: Vec::new(),
                    free: Vec::new(),
                })
            }),
            types: SpinLock::new(BTreeMap::new()),
            hooks,
            take: Self::take_slot,
            give: Self::give_slot,
        }))
    }

    /// What the host gave for domains.
    pub fn hooks(&self) -> HostHooks {
        self.hooks
    }

    /// Lets domains put values of this type on the heap: the host's own code will drop those of domains
    /// that died. Types that the host itself allocates are known without.
    pub fn know<T: Exchangeable>(&self) {
        /// # Safety
        /// A valid `T` is there, and is not used again.
        unsafe fn drop_value<T>(value: NonNull<u8>) {
            // SAFETY: the caller's promise.
            unsafe { value.cast::<T>().drop_in_place() };
        }
        self.types
            .with(|types| types.insert(T::TAG.0, drop_value::<T>));
    }

    /// Whether this code is the host's, not a domain's copy of it.
    fn is_host_code(&self) -> bool {
        core::ptr::fn_addr_eq(self.take, Self::take_slot as fn(&Self, usize, Header) -> _)
    }

    /// Moves `value` onto the heap, owned by the domain that runs.
    ///
    /// # Errors
    /// [`HeapError`]; the value is dropped.
    pub fn allocate<T: Exchangeable>(&'static self, value: T) -> Result<RRef<T>, HeapError> {
        const {
            assert!(
                !T::ROOTS,
                "an object on the shared heap holds others as children, not by RRef"
            );
        }
        let class = class_of::<T>().ok_or(HeapError::TooLarge {
            bytes: size_of::<T>(),
        })?;
        if self.is_host_code() {
            self.know::<T>();
        }
        let header = Header::new(T::TAG);
        header.set_owner((self.hooks.current)());
        let slot = (self.take)(self, class, header).ok_or(HeapError::OutOfMemory)?;
        let slot = slot.cast::<Head>();
        // SAFETY: the slot is this caller's and begins with a head, of which the header is written.
        unsafe { (&raw mut (*slot.as_ptr()).heap).write(self) };
        // SAFETY: the slot is long enough for its class and this caller's; the value's offset is a
        // multiple of its alignment, as `class_of` made sure.
        unsafe { slot.cast::<u8>().add(VALUE_OFFSET).cast::<T>().write(value) };
        Ok(RRef {
            slot,
            value: PhantomData,
        })
    }

    fn take_slot(&self, class: usize, header: Header) -> Option<NonNull<Header>> {
        let class = self.classes.get(class)?;
        let tag = header.tag();
        let known = move |types: &mut BTreeMap<u64, DropValue>| types.contains_key(&tag.0);
        self.hooks.trusted(|| {
            if !self.types.with(known) {
                return None;
            }
            class.with(|class| {
                let slot = class.take()?.cast::<Header>();
                // SAFETY: a slot taken from its class is aligned to at least 64 and nobody else's; the
                // class lock, which is held, keeps walkers away.
                unsafe { slot.write(header) };
                Some(slot)
            })
        })
    }

    fn give_slot(&self, class: usize, slot: NonNull<Header>) {
        let Some(class) = self.classes.get(class) else {
            return;
        };
        self.hooks.trusted(|| {
            class.with(|class| {
                // SAFETY: the value was moved out or dropped; nobody else refers to the slot, and the
                // class lock keeps walkers away.
                unsafe { slot.write(Header::new(FREE)) };
                class.free.push(slot.cast());
            });
        });
    }

    /// Drops and frees every object of a domain that is gone.
    ///
    /// # Safety
    /// `owner` runs nowhere any more: no thread has a frame of it, so nobody uses what it owned.
    pub unsafe fn reclaim(&self, owner: DomainId) -> Reclaimed {
        let mut report = Reclaimed::default();
        for (index, class) in self.classes.iter().enumerate() {
            let owned = |class: &mut Class| -> Vec<NonNull<Header>> {
                class
                    .slots()
                    .filter(|header| header.tag() != FREE && header.owner() == owner)
                    .map(NonNull::from)
                    .collect()
            };
            for slot in class.with(owned) {
                // SAFETY: the slot is the dead domain's until this frees it; no other thread does.
                let header = unsafe { slot.as_ref() };
                if header.borrows() != 0 {
                    report.borrowed += 1;
                    continue;
                }
                let drop_value = self.types.with(|types| types.get(&header.tag().0).copied());
                match drop_value {
                    // SAFETY: the tag says that a valid value of that type is there; its owner is gone.
                    Some(drop_value) => unsafe {
                        drop_value(slot.cast::<u8>().add(VALUE_OFFSET));
                        report.freed += 1;
                    },
                    None => report.unknown += 1,
                }
                self.give_slot(index, slot);
            }
        }
        report
    }

    /// How many objects `owner` owns: a walk over all slabs.
    pub fn count_owned(&self, owner: DomainId) -> usize {
        let count = |class: &mut Class| {
            class
                .slots()
                .filter(|header| header.tag() != FREE && header.owner() == owner)
                .count()
        };
        self.classes.iter().map(|class| class.with(count)).sum()
    }

    /// How many objects live on the heap.
    pub fn count(&self) -> usize {
        let count = |class: &mut Class| class.slots().filter(|h| h.tag() != FREE).count();
        self.classes.iter().map(|class| class.with(count)).sum()
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

impl Class {
    fn take(&mut self) -> Option<NonNull<u8>> {
        if self.free.is_empty() {
            self.grow()?;
        }
        self.free.pop()
    }

    fn grow(&mut self) -> Option<()> {
        let layout = Layout::from_size_align(SLAB_BYTES, SLAB_BYTES).ok()?;
        // SAFETY: the layout has a size above zero.
        let slab = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        self.slabs.push(slab);
        for offset in (0..SLAB_BYTES).step_by(self.slot_bytes) {
            // SAFETY: `offset + slot_bytes <= SLAB_BYTES` since slots divide the slab evenly.
            let slot = unsafe { slab.add(offset) };
            // SAFETY: as above; the slot is aligned to 64 and nobody else's yet.
            unsafe { slot.cast::<Header>().write(Header::new(FREE)) };
            self.free.push(slot);
        }
        Some(())
    }

    fn slots(&self) -> impl Iterator<Item = &Header> {
        let step = self.slot_bytes;
        self.slabs.iter().flat_map(move |slab| {
            (0..SLAB_BYTES).step_by(step).map(move |offset| {
                // SAFETY: `grow` wrote a header at every multiple of `slot_bytes`; headers change
                // only through atomics, or as a whole under the class lock, which is held.
                unsafe { slab.add(offset).cast::<Header>().as_ref() }
            })
        })
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

    /// Takes the value off the heap.
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the value is read out once; the slot is freed next.
        let value = unsafe { this.value_pointer().read() };
        this.free();
        value
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
        // SAFETY: as above, and `&mut self` makes it the only access.
        unsafe { self.value_pointer().as_mut() }
    }
}

impl<T: Exchangeable> Drop for RRef<T> {
    fn drop(&mut self) {
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
