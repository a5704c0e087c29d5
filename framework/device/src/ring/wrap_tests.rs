//! Indices run freely and wrap around at 2^32: both rings across that edge.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

use super::*;
use crate::registers::Writable;
use crate::{Bar, DmaError, DmaMapping, DmaMemory, DmaSpace, Doorbell, RegisterIo};

const SIZE: RingSize = RingSize::new(8).expect("a power of two");
/// A ring before the edge.
const START: u32 = u32::MAX - 7;

#[repr(C, align(4096))]
struct Page([u8; 4096]);

struct Mapping(NonNull<Page>);

// SAFETY: the page is this value's alone.
unsafe impl Send for Mapping {}
// SAFETY: nothing is reached through a shared reference.
unsafe impl Sync for Mapping {}
// SAFETY: a zeroed page of this mapping's alone, freed with it.
unsafe impl DmaMapping for Mapping {
    fn base(&self) -> NonNull<u8> {
        self.0.cast()
    }
    fn len(&self) -> usize {
        4096
    }
    fn iova(&self) -> u64 {
        1 << 32
    }
    fn huge_pages(&self) -> bool {
        false
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the page was a box's and is not used any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

struct Host;

impl DmaSpace for Host {
    fn allocate(&self, _: usize, _: usize) -> Result<DmaMemory, DmaError> {
        Ok(page())
    }
}

fn page() -> DmaMemory {
    let page = Box::leak(Box::new(Page([0; 4096])));
    DmaMemory::new(Box::new(Mapping(NonNull::from(page))))
}

struct NoRegisters;

// SAFETY: nothing is mapped.
unsafe impl RegisterIo for NoRegisters {
    fn len(&self) -> u32 {
        0
    }
    fn read32(&self, _: u32) -> u32 {
        u32::MAX
    }
    fn write32(&self, _: u32, value: u32) {
        assert!(value < SIZE.get(), "a tail beyond the ring");
    }
    fn mapped(&self, _: u32) -> Option<NonNull<AtomicU32>> {
        None
    }
}

#[derive(Clone, Copy)]
struct Tail;

impl Writable for Tail {
    fn offset(self) -> u32 {
        0
    }
}

fn doorbell() -> Doorbell {
    Bar::new(Arc::new(NoRegisters)).doorbell(Tail)
}

/// Free buffers, and how many are with the device.
struct Pool(Vec<BufferId>, u32, DmaMemory);

// SAFETY: ids are taken out of the list and come back into it; nothing is behind them, and the only
// device is this test.
unsafe impl BufferPool for Pool {
    fn key(&self) -> usize {
        1
    }
    fn capacity(&self) -> u16 {
        2048
    }
    fn addresses(&self) -> BufferAddresses {
        BufferAddresses::new(self.2.iova(), core::ptr::null(), 64)
    }
    unsafe fn take(&mut self) -> Option<BufferId> {
        self.0.pop()
    }
    fn stock(&mut self, wanted: usize) -> &[BufferId] {
        &self.0[self.0.len().saturating_sub(wanted)..]
    }
    unsafe fn use_stock(&mut self, count: usize) {
        self.0.truncate(self.0.len() - count);
    }
    unsafe fn give(&mut self, ids: &[BufferId]) {
        self.0.extend(ids);
    }
    unsafe fn account(&mut self, posted: u32, returned: u32) {
        self.1 = self.1.wrapping_add(posted).wrapping_sub(returned);
    }
    unsafe fn link(&mut self, _: BufferId, _: BufferId, _: u16) {}
    unsafe fn end(&mut self, _: BufferId) {}
    fn continuation(&self, _: BufferId) -> Option<(BufferId, u16)> {
        None
    }
}

#[derive(Default)]
struct Queue(Vec<Entry>);

// SAFETY: entries stay in the vector.
unsafe impl EntrySink for Queue {
    fn pool_key(&self) -> usize {
        1
    }
    fn room(&self) -> usize {
        64 - self.0.len()
    }
    unsafe fn push(&mut self, entry: Entry) -> bool {
        self.0.push(entry);
        true
    }
    fn spare(&mut self, wanted: usize) -> &mut [MaybeUninit<Entry>] {
        self.0.reserve(wanted);
        let spare = self.0.spare_capacity_mut();
        let wanted = wanted.min(spare.len());
        &mut spare[..wanted]
    }
    unsafe fn filled(&mut self, count: usize) {
        // SAFETY: the caller wrote them.
        unsafe { self.0.set_len(self.0.len() + count) };
    }
}

// SAFETY: entries leave the vector in `advance`.
unsafe impl EntrySource for Queue {
    fn pool_key(&self) -> usize {
        1
    }
    fn entries(&self) -> &[Entry] {
        &self.0
    }
    unsafe fn advance(&mut self, count: usize) {
        self.0.drain(..count);
    }

    unsafe fn empty(&mut self) {
        let all = self.entries().len();
        // SAFETY: the caller's promise.
        unsafe { self.advance(all) };
    }
}

struct Format;

impl ReceiveFormat for Format {
    const DONE: u64 = 1;
    const END: u64 = 2;
    fn annotate(detail: u64, status: u64) -> [u64; 2] {
        [detail, status]
    }
}

impl TransmitFormat for Format {
    const DONE: u64 = 1 << 32;
    const REPORT: u64 = 1 << 27;
    const OFFLOADS: u32 = 1 << 16;
    const CONTEXT: (u64, u64) = (1 << 20, 1 << 20);
    fn whole(&self, len: u16) -> u64 {
        u64::from(len)
    }
    fn part(&self, part: Part) -> u64 {
        u64::from(part.len)
    }
    fn context(&mut self, frame: Entry) -> Option<[u64; 2]> {
        Some([u64::from(frame.tag()), 1 << 20])
    }
    fn forget_context(&mut self) {}
}

fn sorted(mut ids: Vec<BufferId>) -> Vec<BufferId> {
    ids.sort_unstable();
    ids
}

#[test]
fn receiving_goes_on() {
    let scatter = Scatter { max_buffers: 2 };
    let mut pool = Pool((0..24).collect(), 0, page());
    let mut ring =
        ReceiveRing::<Format>::new(&Host, SIZE, doorbell(), scatter).expect("a page is enough");
    ring.fill(&mut pool).expect("24 are enough");
    let mut queue = Queue::default();
    let mut index = START;
    ring.start_at(START);
    for burst in [1u32, 4, 3, 2, 7, 6, 1, 5, 8] {
        // `index` is where the ring is: setting it again changes nothing but the last doorbell.
        let device = ring.start_at(index);
        for i in 0..burst {
            let slot = index.wrapping_add(i);
            slots::write(device.descriptor(slot), [0, 3 | u64::from(60 + i) << 32]);
        }
        let reaped = ring.reap(&mut pool, &mut queue, 64);
        assert_eq!(reaped, Ok(burst as usize));
        index = index.wrapping_add(burst);
        let lengths: Vec<u16> = queue.0.iter().map(|entry| entry.len()).collect();
        assert!(lengths.into_iter().eq((60..).take(burst as usize)));
        pool.0.extend(queue.0.drain(..).map(Entry::id));
        assert_eq!((pool.0.len(), pool.1), (16, 8));
    }
    assert!(index < START, "the edge was crossed");
    assert_eq!(ring.drain(&mut pool), 8);
    assert!(sorted(pool.0).into_iter().eq(0..24));
}

#[test]
fn transmitting_goes_on() {
    let mut pool = Pool((0..24).collect(), 0, page());
    let mut ring = TransmitRing::new(&Host, SIZE, doorbell(), Format).expect("a page is enough");
    ring.start_at(START);
    let mut queue = Queue::default();
    for round in 0..40u64 {
        let free = pool.0.len().min(1 + round as usize % 3);
        for id in pool.0.split_off(pool.0.len() - free) {
            let flags = if round % 5 == 0 { 1 << 16 } else { 0 };
            queue
                .0
                .push(Entry::new(id, [0, 60 << 32]).with_flags(flags));
        }
        let posted = ring.post(&mut pool, &mut queue);
        assert!(posted.is_ok());
        if round % 2 == 0 {
            for slot in 0..SIZE.get() {
                ring.finish_reported(slot);
            }
        }
        ring.reclaim(&mut pool);
        let posted = pool.1 as usize;
        assert_eq!(pool.0.len() + queue.0.len() + posted, 24);
        assert!(ring.outstanding() < SIZE.get());
    }
    assert!(ring.counters().reclaimed > 16, "the edge was crossed");
    ring.drain(&mut pool);
    pool.0.extend(queue.0.drain(..).map(Entry::id));
    assert_eq!(pool.1, 0);
    assert!(sorted(pool.0).into_iter().eq(0..24));
}
