//! [`RRefDeque`]: a bounded queue of shared objects that is itself a shared object. Its items are
//! children: moving the queue to another domain rewrites one owner field, not one per item; an item
//! gets an owner of its own when it is taken out.

use core::mem::MaybeUninit;

use sumac_device::Whole;
use sumac_device::ring::{Entry, EntrySink, EntrySource};

use crate::heap::HeapError;
use crate::packet::{bytes, bytes_mut, give_frame, segments};
use crate::{
    BATCH, DomainId, Exchangeable, Header, Mover, Packet, PacketMeta, PacketPool, RRef, SharedHeap,
};
use crate::{TypeTag, pool};

// SAFETY: the queue is the root; its items are its children.
#[diagnostic::do_not_recommend]
unsafe impl<T: Element, const N: usize> Exchangeable for RRefDeque<T, N> {
    const TAG: TypeTag = T::TAG.of_many(b'D', N);
    const ROOTS: bool = true;

    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        self.queue.move_to(mover);
    }
}

/// What can be an item of an [`RRefDeque`]: a shared object in the form it has as a child.
///
/// # Safety
/// Implementers promise that `from_slot(context, into_slot(item), owner)` is the item again, owned
/// by `owner`, for each context the item [`belongs`](Self::belongs) to, and that dropping it frees it.
pub unsafe trait Element: Send + Sized + 'static {
    /// The item as a child.
    type Slot: Copy;
    /// What all items of one queue have in common.
    type Context: Copy + Send;
    /// The item's type.
    const TAG: TypeTag;

    /// Whether the item is of this context, so that it may go into a queue of it.
    fn belongs(&self, context: Self::Context) -> bool;

    /// Makes the item a child: it has no owner of its own any more.
    fn into_slot(self) -> Self::Slot;

    /// Takes a child out; it is `owner`'s.
    ///
    /// # Safety
    /// `slot` came from `into_slot` of an item of this `context`, and is not used again.
    unsafe fn from_slot(context: Self::Context, slot: Self::Slot, owner: DomainId) -> Self;

    /// Frees children.
    ///
    /// # Safety
    /// As for [`from_slot`](Self::from_slot), for each of them.
    unsafe fn free(context: Self::Context, slots: &[Self::Slot]) {
        for slot in slots {
            // SAFETY: the caller's promise.
            drop(unsafe { Self::from_slot(context, *slot, DomainId::NONE) });
        }
    }
}

// SAFETY: an entry names the packet's buffers, which are the pool's, the context.
unsafe impl Element for Packet {
    type Slot = Entry;
    type Context = &'static PacketPool;
    const TAG: TypeTag = pool::PACKET_TAG;

    fn belongs(&self, pool: &'static PacketPool) -> bool {
        core::ptr::eq(self.pool(), pool)
    }

    fn into_slot(self) -> Entry {
        self.into_entry()
    }

    unsafe fn from_slot(pool: &'static PacketPool, entry: Entry, owner: DomainId) -> Self {
        // SAFETY: the caller promises that the entry's buffers are this item's alone.
        unsafe { Self::from_entry(pool, entry, owner) }
    }

    unsafe fn free(pool: &'static PacketPool, entries: &[Entry]) {
        for some in entries.chunks(BATCH) {
            let mut ids = [0; BATCH];
            let whole = ids
                .iter_mut()
                .zip(some)
                .filter(|(_, e)| e.flags() & Entry::CHAINED == 0);
            let count = whole.map(|(id, entry)| *id = entry.id()).count();
            if count == some.len() {
                // The usual case: one trip to the depot for all of them.
                pool.give(ids.get(..count).unwrap_or(&[]));
                continue;
            }
            for entry in some {
                // SAFETY: the caller gives the entry's buffers up, chain and all.
                unsafe { give_frame(pool, *entry) };
            }
        }
    }
}

// SAFETY: a raw RRef is the same object without its owner.
unsafe impl<T: Exchangeable> Element for RRef<T> {
    type Slot = crate::heap::RawRRef;
    type Context = ();
    const TAG: TypeTag = T::TAG;

    fn belongs(&self, (): ()) -> bool {
        true
    }

    fn into_slot(self) -> Self::Slot {
        self.into_raw()
    }

    unsafe fn from_slot((): (), raw: Self::Slot, owner: DomainId) -> Self {
        // SAFETY: the caller promises that `raw` came from `into_raw` and is used once.
        unsafe { Self::from_raw(raw, owner) }
    }
}

/// What a queue is on the heap: items, oldest first, in `first..end` of `slots`.
struct Queue<T: Element, const N: usize> {
    context: T::Context,
    first: usize,
    end: usize,
    slots: [MaybeUninit<T::Slot>; N],
}

// SAFETY: the queue owns its items, which are shared objects themselves; it moves between threads as
// they do.
unsafe impl<T: Element, const N: usize> Send for Queue<T, N> {}

// SAFETY: the slots are RRefs in another form, the context is the host's; the tag is made of the
// item's and the length.
#[diagnostic::do_not_recommend]
unsafe impl<T: Element, const N: usize> Exchangeable for Queue<T, N> {
    const TAG: TypeTag = T::TAG.of_many(b'Q', N);
}

impl<T: Element, const N: usize> Queue<T, N> {
    #[inline(always)]
    fn items(&self) -> &[T::Slot] {
        // SAFETY: `first <= end <= N` always, and slots in `first..end` are initialised: whoever
        // moves `end` wrote them before.
        unsafe {
            self.slots
                .get_unchecked(self.first..self.end)
                .assume_init_ref()
        }
    }

    #[inline(always)]
    fn items_mut(&mut self) -> &mut [T::Slot] {
        // SAFETY: as in `items`.
        unsafe {
            self.slots
                .get_unchecked_mut(self.first..self.end)
                .assume_init_mut()
        }
    }

    /// Up to `wanted` places behind the last item; the items move to the front where that makes room.
    #[inline(always)]
    fn room(&mut self, wanted: usize) -> &mut [MaybeUninit<T::Slot>] {
        if wanted > N - self.end {
            self.move_to_front();
        }
        // SAFETY: `end <= N` always.
        let room = unsafe { self.slots.get_unchecked_mut(self.end..) };
        let wanted = wanted.min(room.len());
        // SAFETY: just made sure of.
        unsafe { room.get_unchecked_mut(..wanted) }
    }

    #[inline(never)]
    fn move_to_front(&mut self) {
        self.slots.copy_within(self.first..self.end, 0);
        self.end -= self.first;
        self.first = 0;
    }
}

impl<T: Element, const N: usize> Drop for Queue<T, N> {
    fn drop(&mut self) {
        // SAFETY: the queue, whose items these are, is gone after this.
        unsafe { T::free(self.context, self.items()) };
    }
}

/// A queue of up to `N` shared objects, itself a shared object.
pub struct RRefDeque<T: Element, const N: usize> {
    queue: RRef<Queue<T, N>>,
}

impl<T: Element, const N: usize> RRefDeque<T, N> {
    /// An empty queue on the heap, the host's. `context` is the pool for packets, `()` for others.
    ///
    /// # Errors
    /// [`HeapError`] when the heap cannot hold it.
    pub fn new(heap: &'static SharedHeap, context: T::Context) -> Result<Self, HeapError> {
        let slots = [MaybeUninit::uninit(); N];
        let queue = Queue {
            context,
            first: 0,
            end: 0,
            slots,
        };
        Ok(Self {
            queue: heap.allocate(queue)?,
        })
    }

    /// Lets domains put such queues on a heap.
    #[cfg(not(feature = "image"))]
    pub(crate) fn let_in(heap: &SharedHeap) {
        heap.know::<Queue<T, N>>();
    }

    /// The header: whose the queue and all its items are.
    pub fn header(&self) -> &Header {
        self.queue.header()
    }

    /// How many items there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.queue.end - self.queue.first
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no more fit.
    pub fn is_full(&self) -> bool {
        self.len() == N
    }

    /// Puts an item at the end.
    ///
    /// # Errors
    /// The item, when the queue is full, or when it is not of the queue's context: a packet of
    /// another pool.
    pub fn push_back(&mut self, item: T) -> Result<(), T> {
        if !item.belongs(self.queue.context) {
            return Err(item);
        }
        // SAFETY: one item, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        match self.queue.room(1).first_mut() {
            Some(slot) => {
                slot.write(item.into_slot());
                self.queue.end += 1;
                Ok(())
            }
            None => Err(item),
        }
    }

    /// Takes the oldest item; it has the queue's owner.
    pub fn pop_front(&mut self) -> Option<T> {
        // SAFETY: one item, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        let slot = *self.queue.items().first()?;
        self.queue.first += 1;
        let owner = self.header().owner();
        // SAFETY: the slot was in `first..end` and is no longer: it is used once.
        Some(unsafe { T::from_slot(self.queue.context, slot, owner) })
    }

    /// Drops all items.
    pub fn clear(&mut self) {
        // SAFETY: bounded by the queue, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        let queue = &mut *self.queue;
        let (first, end) = (queue.first, queue.end);
        // No longer the queue's, whatever freeing them does.
        queue.first = end;
        // SAFETY: `first..end` held items a moment ago, and `first <= end <= N`.
        let items = unsafe { queue.slots.get_unchecked(first..end).assume_init_ref() };
        // SAFETY: the queue forgot them above.
        unsafe { T::free(queue.context, items) };
    }
}

/// One packet of a batch, borrowed in place.
pub struct PacketMut<'a> {
    entry: &'a mut Entry,
    pool: &'static PacketPool,
}

impl PacketMut<'_> {
    /// What is known of the frame.
    pub fn meta(&self) -> PacketMeta {
        PacketMeta::of(*self.entry)
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        segments(self.pool, *self.entry)
            .map(|(_, len)| usize::from(len))
            .sum()
    }

    /// The bytes in the first buffer: of most frames, all.
    #[inline(always)]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: the batch owns the packet's buffers and is borrowed mutably through `self`.
        unsafe { bytes_mut(self.pool, self.entry.id(), self.entry.len()) }
    }

    /// The frame, buffer by buffer.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let pool = self.pool;
        // SAFETY: the batch owns the packet's buffers and is borrowed through `self`.
        segments(pool, *self.entry).map(|(id, len)| unsafe { bytes(pool, id, len) })
    }
}

impl<const N: usize> RRefDeque<Packet, N> {
    /// The pool the packets are of.
    pub fn pool(&self) -> &'static PacketPool {
        self.queue.context
    }

    /// Bytes of all frames together.
    #[inline]
    pub fn frame_bytes(&self) -> u64 {
        let entries = self.queue.items();
        let (flags, bytes) = entries.iter().fold((0, 0), |(flags, bytes), entry| {
            (flags | entry.flags(), bytes + u64::from(entry.len()))
        });
        match flags & Entry::CHAINED {
            0 => bytes,
            _ => self.chained_bytes(),
        }
    }

    #[cold]
    fn chained_bytes(&self) -> u64 {
        let frames = self.queue.items().iter();
        frames
            .flat_map(|entry| segments(self.queue.context, *entry))
            .map(|(_, len)| u64::from(len))
            .sum()
    }

    /// The packets in place, oldest first.
    #[inline(always)]
    pub fn packets_mut(&mut self) -> impl Iterator<Item = PacketMut<'_>> {
        let pool = self.queue.context;
        self.queue
            .items_mut()
            .iter_mut()
            .map(move |entry| PacketMut { entry, pool })
    }
}

impl<T: Element, const N: usize> core::fmt::Debug for RRefDeque<T, N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "RRefDeque({} of {N})", self.len())
    }
}

// SAFETY: a pushed entry's buffers are in the queue, which frees them when dropped.
unsafe impl<const N: usize> EntrySink for RRefDeque<Packet, N> {
    #[inline(always)]
    fn pool_key(&self) -> usize {
        self.queue.context.key()
    }

    #[inline(always)]
    fn room(&self) -> usize {
        N - self.len()
    }

    #[inline(always)]
    unsafe fn push(&mut self, entry: Entry) -> bool {
        let Some(slot) = self.queue.room(1).first_mut() else {
            return false;
        };
        slot.write(entry);
        self.queue.end += 1;
        true
    }

    #[inline(always)]
    fn spare(&mut self, wanted: usize) -> &mut [MaybeUninit<Entry>] {
        self.queue.room(wanted)
    }

    #[inline(always)]
    unsafe fn filled(&mut self, count: usize) {
        self.queue.end = (self.queue.end + count).min(N);
    }
}

// SAFETY: the entries are in `first..end`, owned by the queue; `advance` takes them out of it.
unsafe impl<const N: usize> EntrySource for RRefDeque<Packet, N> {
    #[inline(always)]
    fn pool_key(&self) -> usize {
        self.queue.context.key()
    }

    #[inline(always)]
    fn entries(&self) -> &[Entry] {
        self.queue.items()
    }

    #[inline(always)]
    unsafe fn advance(&mut self, count: usize) {
        self.queue.first = (self.queue.first + count).min(self.queue.end);
    }

    #[inline(always)]
    unsafe fn empty(&mut self) {
        self.queue.first = 0;
        self.queue.end = 0;
    }
}
