//! The host's part of the shared heap: the slabs, and what becomes of the objects of the dead. Images of
//! domains do not have it: they reach it by the addresses that the heap keeps.

use alloc::alloc::{Layout, alloc_zeroed};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ptr::NonNull;

use super::{Class, DropValue, Exchangeable, Reclaimed, SMALLEST_SLOT, SharedHeap, VALUE_OFFSET};
use crate::spin::SpinLock;
use crate::{DomainId, Header, HostHooks, TypeTag};

/// Bytes of a slab, and its alignment.
const SLAB_BYTES: usize = 64 * 1024;
/// The type of a slot that holds nothing.
const FREE: TypeTag = TypeTag(0);

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

    fn take_slot(&self, class: usize, header: Header) -> Option<NonNull<Header>> {
        let class = self.classes.get(class)?;
        let tag = header.tag();
        let known = move |types: &mut BTreeMap<u64, DropValue>| types.contains_key(&tag.0);
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
    }

    fn give_slot(&self, class: usize, slot: NonNull<Header>) {
        let Some(class) = self.classes.get(class) else {
            return;
        };
        class.with(|class| {
            // SAFETY: the value was moved out or dropped; nobody else refers to the slot, and the
            // class lock keeps walkers away.
            unsafe { slot.write(Header::new(FREE)) };
            class.free.push(slot.cast());
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
                    // It died in `RRef::edit`: what the object held has owners of its own, and is or will
                    // be found by them.
                    _ if header.is_open() => report.freed += 1,
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
