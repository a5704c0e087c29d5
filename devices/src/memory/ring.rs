//! A descriptor ring in a driver's memory, as a device sees it.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::copy;
use super::window::GuestMemory;

/// Descriptors in a cache line.
const PER_LINE: usize = 4;

/// A descriptor ring in a driver's memory: 16-byte descriptors as two 64-bit words each.
#[derive(Clone, Copy)]
pub struct GuestRing<'a> {
    /// So many aligned descriptors are there while the access lives: `Access::ring` and `Nearby::ring`, who alone make
    /// one, have looked.
    pub(super) start: NonNull<[AtomicU64; 2]>,
    pub(super) count: u32,
    pub(super) access: PhantomData<&'a GuestMemory>,
}

impl<'a> GuestRing<'a> {
    /// Descriptors from `index` on: `limit`, or as many as come before the ring's end.
    #[inline(always)]
    pub fn run(&self, index: u32, limit: usize) -> &'a [[AtomicU64; 2]] {
        let count = ((self.count.saturating_sub(index)) as usize).min(limit);
        if count == 0 {
            return &[];
        }
        // SAFETY: `Access::ring` checked `self.count` aligned descriptors, which exist while the
        // access lives; `index + count` is no more. Both sides use atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(index as usize), count) }
    }

    /// How many descriptors the ring has.
    #[inline(always)]
    pub fn count(&self) -> u32 {
        self.count
    }

    #[inline(always)]
    fn words(&self, index: u32) -> &[AtomicU64; 2] {
        assert!(index < self.count, "descriptor index beyond the ring");
        // SAFETY: `Access::ring` checked `count` aligned descriptors; the index is below it.
        unsafe { self.start.add(index as usize).as_ref() }
    }

    /// Reads descriptor `index`.
    #[inline(always)]
    pub fn read(&self, index: u32) -> [u64; 2] {
        let words = self.words(index);
        [
            words[0].load(Ordering::Relaxed),
            words[1].load(Ordering::Relaxed),
        ]
    }

    /// Writes descriptor `index`; the second word, which holds DD, becomes visible last.
    #[inline(always)]
    pub fn write(&self, index: u32, descriptor: [u64; 2]) {
        let words = self.words(index);
        words[0].store(descriptor[0], Ordering::Relaxed);
        words[1].store(descriptor[1], Ordering::Release);
    }

    /// Writes `descriptors` from `index` on, round the ring's end; no more than the ring has. Each
    /// descriptor becomes visible after those before it, its second word not before its first.
    #[inline(always)]
    pub fn write_all(&self, index: u32, descriptors: &[[u64; 2]]) {
        let first = self.run(index, descriptors.len());
        let (before, after) = descriptors.split_at(first.len());
        write_run(first, before);
        if !after.is_empty() {
            write_run(self.run(0, after.len()), after);
        }
    }

    /// Writes only the second word of descriptor `index`, after everything written before.
    #[inline(always)]
    pub fn write_status(&self, index: u32, word: u64) {
        self.words(index)[1].store(word, Ordering::Release);
    }

    /// Tells the processor that `count` descriptors from `index` on are about to be written, as far
    /// as the ring's end.
    #[inline(always)]
    pub fn prefetch(&self, index: u32, count: usize) {
        for line in self.run(index, count).iter().step_by(PER_LINE) {
            copy::prefetch_write(std::ptr::from_ref(line).cast(), 0);
        }
    }
}

#[inline(always)]
fn write_run(cells: &[[AtomicU64; 2]], descriptors: &[[u64; 2]]) {
    let (mut cells, mut descriptors) = (cells, &descriptors[..cells.len()]);
    if copy::stores_descriptors() {
        let (lines, rest) = cells.as_chunks::<PER_LINE>();
        let (staged, more) = descriptors.as_chunks::<PER_LINE>();
        for (line, staged) in lines.iter().zip(staged) {
            let to = std::ptr::from_ref(line).cast_mut().cast();
            // SAFETY: the processor can; the atomics are 64 writable bytes of a ring, whose address
            // `ring` found to be a multiple of 16.
            unsafe { copy::store_line(staged, to) };
        }
        (cells, descriptors) = (rest, more);
    }
    for (cells, words) in cells.iter().zip(descriptors) {
        cells[0].store(words[0], Ordering::Relaxed);
        cells[1].store(words[1], Ordering::Release);
    }
}
