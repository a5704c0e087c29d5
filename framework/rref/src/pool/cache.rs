//! A queue's own stock of free buffers: taken from and given back last in, first out, so that the
//! buffers used next are those whose lines are still in the cache. It trades with the depot in bulk.
//!
//! The stock lies in the pool (a *shelf*), claimed by at most one [`PacketCache`] at a time, so that
//! it is found again when whoever claimed it is gone.

use sumac_device::Whole;
use sumac_device::ring::{BufferAddresses, BufferId, BufferPool, Entry, EntrySink, EntrySource};

use super::{BUFFER_BYTES, PacketPool};
use crate::spin::UnsafeCell;
use crate::spin::atomic::{AtomicU32, Ordering};
use crate::{DomainId, Packet, RRefDeque};

/// Buffers a shelf holds at most.
const SHELF: usize = if cfg!(loom) { 4 } else { 512 };
/// Buffers moved between shelf and depot at once.
const BULK: usize = if cfg!(loom) { 2 } else { 128 };

/// A place for one cache in the pool. Written by whoever claimed it, read by the accountant.
#[repr(align(128))]
pub(super) struct Shelf {
    /// The domain whose cache claimed it; [`DomainId::NONE`] where nobody's did.
    owner: AtomicU32,
    len: AtomicU32,
    device: AtomicU32,
    ids: UnsafeCell<[BufferId; SHELF]>,
}

// SAFETY: `ids` is touched only by the one `PacketCache` that claimed the shelf.
unsafe impl Sync for Shelf {}
// SAFETY: a shelf holds plain numbers.
unsafe impl Send for Shelf {}

/// What only hosts do with shelves.
#[cfg(not(feature = "image"))]
impl Shelf {
    pub(super) fn new() -> Self {
        Self {
            owner: AtomicU32::new(DomainId::NONE.get()),
            len: AtomicU32::new(0),
            device: AtomicU32::new(0),
            ids: UnsafeCell::new([0; SHELF]),
        }
    }

    pub(super) fn owner(&self) -> DomainId {
        DomainId::new(self.owner.load(Ordering::Relaxed))
    }

    /// Takes the shelf from a domain that is gone: the buffers on it.
    ///
    /// # Safety
    /// Whoever claimed it runs nowhere any more.
    pub(super) unsafe fn take_over(&self) -> alloc::vec::Vec<BufferId> {
        #[cfg(not(loom))]
        let ids = self.ids.get();
        #[cfg(loom)]
        let ids = self.ids.with_mut(|ids| ids);
        // SAFETY: the one cache that touched it is gone, by the caller's promise.
        let ids = unsafe { &*ids };
        let ids = ids.get(..self.len() as usize).unwrap_or(ids).to_vec();
        self.len.store(0, Ordering::Relaxed);
        self.device.store(0, Ordering::Relaxed);
        self.owner.store(DomainId::NONE.get(), Ordering::Release);
        ids
    }
}

impl Shelf {
    pub(super) fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    pub(super) fn device(&self) -> u32 {
        self.device.load(Ordering::Relaxed)
    }
}

/// One queue's stock of free buffers. Not shared; may move between threads.
pub struct PacketCache {
    pool: &'static PacketPool,
    shelf: &'static Shelf,
}

impl PacketCache {
    pub(super) fn claim(pool: &'static PacketPool) -> Option<Self> {
        let nobody = DomainId::NONE.get();
        let owner = (pool.heap().hooks().current)().get();
        let free = |shelf: &&Shelf| {
            shelf
                .owner
                .compare_exchange(nobody, owner, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        };
        pool.shelves
            .iter()
            .find(free)
            .map(|shelf| Self { pool, shelf })
    }

    /// The pool whose buffers these are.
    pub fn pool(&self) -> &'static PacketPool {
        self.pool
    }

    #[inline(always)]
    fn ids(&mut self) -> &mut [BufferId; SHELF] {
        #[cfg(not(loom))]
        let ids = self.shelf.ids.get();
        #[cfg(loom)]
        let ids = self.shelf.ids.with_mut(|ids| ids);
        // SAFETY: the shelf is claimed by this cache alone, which is borrowed mutably.
        unsafe { &mut *ids }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.shelf.len.load(Ordering::Relaxed) as usize
    }

    #[inline(always)]
    fn set_len(&self, len: usize) {
        self.shelf.len.store(len as u32, Ordering::Relaxed);
    }

    /// Adds buffers to a shelf that has few, if the depot has any.
    #[cold]
    #[inline(never)]
    fn restock(&mut self) {
        // SAFETY: a copy of BULK numbers, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        let len = self.len();
        let pool = self.pool;
        if let Some(room) = self.ids().get_mut(len..len + BULK) {
            let taken = pool.take_bulk(room);
            self.set_len(len + taken);
        }
    }

    #[cold]
    #[inline(never)]
    fn stock_after_restocking(&mut self, wanted: usize) -> &[BufferId] {
        self.restock();
        let len = self.len();
        let first = len.saturating_sub(wanted);
        self.ids().get(first..len).unwrap_or(&[])
    }

    /// Moves buffers to the depot until `room` more fit on the shelf.
    #[cold]
    fn spill(&mut self, room: usize) {
        // SAFETY: copies of a shelf, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        let len = self.len();
        // The oldest go, at the bottom: the youngest are those still in the processor's cache.
        let surplus = (len + room).saturating_sub(SHELF).max(BULK).min(len);
        let pool = self.pool;
        let ids = self.ids();
        pool.give(&ids[..surplus]);
        ids.copy_within(surplus..len, 0);
        self.set_len(len - surplus);
    }

    /// Adds up to `count` empty packets of `len` bytes each to a batch of this pool; returns how many.
    /// What the bytes are is left over from earlier use.
    #[inline]
    pub fn allocate<const N: usize>(
        &mut self,
        batch: &mut RRefDeque<Packet, N>,
        count: usize,
        len: u16,
    ) -> usize {
        if !core::ptr::eq(batch.pool(), self.pool) {
            return 0;
        }
        // SAFETY: bounded by the batch, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        let room = batch.spare(count);
        let stock = self.stock(room.len());
        for (room, id) in room.iter_mut().zip(stock.iter().rev()) {
            room.write(Entry::new(*id, [0, 0]).with_len(len.min(BUFFER_BYTES)));
        }
        let taken = stock.len();
        // SAFETY: `taken` buffers were shown, of the batch's pool, and fill as many places.
        unsafe {
            self.use_stock(taken);
            batch.filled(taken);
        }
        taken
    }

    /// Gives the buffers of all packets of a batch of this pool back; a batch of another pool gives
    /// them to its own.
    #[inline(always)]
    pub fn recycle<const N: usize>(&mut self, batch: &mut RRefDeque<Packet, N>) {
        // SAFETY: bounded by the batch, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        let entries = batch.entries();
        if let [entry] = *entries
            && entry.flags() & Entry::CHAINED == 0
            && core::ptr::eq(batch.pool(), self.pool)
        {
            // SAFETY: the batch owns this buffer of this pool, and lets go of it.
            unsafe {
                self.give(&[entry.id()]);
                batch.empty();
            }
            return;
        }
        self.recycle_many(batch);
    }

    #[inline(never)]
    fn recycle_many<const N: usize>(&mut self, batch: &mut RRefDeque<Packet, N>) {
        let count = batch.len();
        if count > BULK || !core::ptr::eq(batch.pool(), self.pool) {
            batch.clear();
            return;
        }
        if self.len() + count > SHELF {
            self.spill(count);
        }
        let len = self.len();
        let room = self.ids().get_mut(len..len + count).unwrap_or(&mut []);
        // In fours, as frames come: vector code would take longer to start than a small batch lasts.
        let (fours, rest) = batch.entries().as_chunks::<4>();
        let (rooms, room) = room.as_chunks_mut::<4>();
        let mut flags = 0;
        for (room, four) in rooms.iter_mut().zip(fours) {
            for i in 0..4 {
                flags |= four[i].flags();
                room[i] = four[i].id();
            }
        }
        for (room, entry) in room.iter_mut().zip(rest) {
            flags |= entry.flags();
            *room = entry.id();
        }
        if flags & Entry::CHAINED != 0 {
            // What was noted above lies beyond the shelf's length.
            batch.clear();
            return;
        }
        self.set_len(len + count);
        self.share();
        // SAFETY: the buffers of all entries were taken over just now.
        unsafe { batch.empty() };
    }

    /// Gives the stock up if somebody found the depot empty. For queues with nothing to do; giving
    /// buffers back does the same.
    #[inline]
    pub fn share(&mut self) {
        // Whoever has nothing leaves the request for those who have.
        if self.pool.wanted.0.load(Ordering::Relaxed) && self.len() > 0 {
            self.share_now();
        }
    }

    #[cold]
    fn share_now(&mut self) {
        self.pool.wanted.0.store(false, Ordering::Relaxed);
        self.flush();
    }

    /// Gives all buffers on the shelf to the depot.
    pub fn flush(&mut self) {
        // SAFETY: a copy of a shelf, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        let len = self.len();
        let pool = self.pool;
        pool.give(&self.ids()[..len]);
        self.set_len(0);
    }
}

impl Drop for PacketCache {
    /// A shelf that is counted to have buffers with a device stays claimed: they may come back once its owner is gone.
    fn drop(&mut self) {
        // SAFETY: a copy of a shelf, and nothing in it fails.
        let _whole = unsafe { Whole::begin() };
        self.flush();
        if self.shelf.device() == 0 {
            let nobody = DomainId::NONE.get();
            self.shelf.owner.store(nobody, Ordering::Release);
        }
    }
}

// SAFETY: ids come from the depot, where each is once, and leave the shelf when taken; `link` and the
// address methods are bounds-checked by the pool.
unsafe impl BufferPool for PacketCache {
    #[inline(always)]
    fn key(&self) -> usize {
        self.pool.key()
    }

    #[inline(always)]
    fn capacity(&self) -> u16 {
        BUFFER_BYTES
    }

    #[inline(always)]
    fn addresses(&self) -> BufferAddresses {
        self.pool.addresses()
    }

    #[inline]
    unsafe fn take(&mut self) -> Option<BufferId> {
        if self.len() == 0 {
            self.restock();
        }
        let last = self.len().wrapping_sub(1);
        let id = self.ids().get(last).copied()?;
        self.set_len(last);
        Some(id)
    }

    #[inline(always)]
    fn stock(&mut self, wanted: usize) -> &[BufferId] {
        let wanted = wanted.min(BULK);
        if self.len() < wanted {
            return self.stock_after_restocking(wanted);
        }
        let len = self.len();
        self.ids().get(len - wanted..len).unwrap_or(&[])
    }

    #[inline(always)]
    unsafe fn use_stock(&mut self, count: usize) {
        self.set_len(self.len().saturating_sub(count));
    }

    #[inline(always)]
    unsafe fn give(&mut self, mut ids: &[BufferId]) {
        let len = self.len();
        if let [id] = *ids
            && let Some(room) = self.ids().get_mut(len)
        {
            *room = id;
            self.set_len(len + 1);
            self.share();
            return;
        }
        while !ids.is_empty() {
            let mut len = self.len();
            let some = ids.len().min(SHELF / 2);
            if len + some > SHELF {
                self.spill(some);
                len = self.len();
            }
            let (now, later) = ids.split_at(some);
            if let Some(room) = self.ids().get_mut(len..len + some) {
                room.copy_from_slice(now);
                self.set_len(len + some);
            }
            ids = later;
        }
        self.share();
    }

    #[inline(always)]
    unsafe fn account(&mut self, posted: u32, returned: u32) {
        let device = self
            .shelf
            .device()
            .wrapping_add(posted)
            .wrapping_sub(returned);
        self.shelf.device.store(device, Ordering::Relaxed);
    }

    unsafe fn link(&mut self, last: BufferId, next: BufferId, len: u16) {
        self.pool.link(last, next, len);
    }

    unsafe fn end(&mut self, id: BufferId) {
        self.pool.end(id);
    }

    fn continuation(&self, id: BufferId) -> Option<(BufferId, u16)> {
        self.pool.continuation(id)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use alloc::alloc::{Layout, alloc_zeroed};
    use alloc::boxed::Box;
    use core::ptr::NonNull;

    use loom::thread;
    use sumac_device::{DmaError, DmaMapping, DmaMemory, DmaSpace};

    use super::*;
    use crate::SharedHeap;

    /// Memory that is never given back, as a pool is not.
    struct Leaked(NonNull<u8>, usize);

    // SAFETY: the memory is reached through the pool only.
    unsafe impl Send for Leaked {}
    // SAFETY: as above.
    unsafe impl Sync for Leaked {}

    // SAFETY: the memory was allocated zeroed for this mapping and is never freed.
    unsafe impl DmaMapping for Leaked {
        fn base(&self) -> NonNull<u8> {
            self.0
        }
        fn len(&self) -> usize {
            self.1
        }
        fn iova(&self) -> u64 {
            1 << 32
        }
        fn huge_pages(&self) -> bool {
            false
        }
    }

    struct Host;

    impl DmaSpace for Host {
        fn allocate(&self, len: usize, align: usize) -> Result<DmaMemory, DmaError> {
            let bad = DmaError::BadLayout { bytes: len, align };
            let layout = Layout::from_size_align(len, 64).map_err(|_| bad.clone())?;
            // SAFETY: a pool has at least one buffer, so the size is above zero.
            let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(bad)?;
            Ok(DmaMemory::new(Box::new(Leaked(base, len))))
        }
    }

    fn pool() -> &'static PacketPool {
        PacketPool::create(SharedHeap::create(), &Host, 4).expect("the heap has room")
    }

    fn model(test: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(test);
    }

    fn take_and_give(pool: &'static PacketPool) {
        let mut cache = pool.claim_cache().expect("there are two");
        // SAFETY: given back next.
        if let Some(id) = unsafe { cache.take() } {
            // SAFETY: it was just taken.
            unsafe { cache.give(&[id]) };
        }
    }

    #[test]
    fn two_claims_never_meet_on_a_shelf() {
        model(|| {
            let pool = pool();
            let other = thread::spawn(move || take_and_give(pool));
            take_and_give(pool);
            other.join().expect("the thread ends");
            assert_eq!(pool.audit(), Ok(4));
        });
    }

    #[test]
    fn a_shelf_given_up_is_whole_for_the_next() {
        model(|| {
            let pool = pool();
            let first = pool.claim_cache().expect("there are two");
            let other = thread::spawn(move || {
                let mut cache = first;
                // SAFETY: the test counts it as lost.
                unsafe { cache.take() }
            });
            // Of two shelves one is claimed: the second claim may meet the first one's shelf.
            let mine = [pool.claim_cache(), pool.claim_cache()];
            for mut cache in mine.into_iter().flatten() {
                // SAFETY: given back next.
                if let Some(id) = unsafe { cache.take() } {
                    // SAFETY: it was just taken.
                    unsafe { cache.give(&[id]) };
                }
            }
            let lost = other.join().expect("the thread ends");
            assert_eq!(pool.audit(), Ok(4 - lost.iter().len() as u32));
        });
    }

    #[test]
    fn an_account_is_off_by_no_more_than_what_moves() {
        model(|| {
            let pool = pool();
            let other = thread::spawn(move || {
                let mut cache = pool.claim_cache().expect("there are two");
                // SAFETY: the test plays the ring that posted it.
                let id = unsafe { cache.take() };
                // SAFETY: as above.
                unsafe {
                    cache.account(1, 0);
                    cache.account(0, 1);
                }
                cache.flush();
                id.expect("the pool has four")
            });
            let seen = pool.account();
            assert!(seen.free.abs_diff(4) <= 1 + BULK as u32, "{seen:?}");
            assert!(seen.device <= 1 && seen.held <= 1 + BULK as u32, "{seen:?}");
            other.join().expect("the thread ends");
            let after = pool.account();
            assert_eq!((after.free, after.device, after.held), (3, 0, 1));
        });
    }
}
