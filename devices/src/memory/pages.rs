//! Which pages of a window exist: a bit each.

use std::sync::atomic::{AtomicU64, Ordering};

use super::window::PAGE;

/// Words that are followed each way from a page: 32 MiB, more than most packet pools.
const STRETCH_WORDS: usize = 128;

/// A bit for each page: whether devices may use it.
pub(super) struct PageMap(Box<[AtomicU64]>);

impl PageMap {
    /// A map of the pages below `limit`, none of which exists.
    pub fn new(limit: u64) -> Self {
        let words = limit.div_ceil(PAGE * 64) as usize;
        // Pages of the map that are never looked at are never there: a large window costs little.
        let zeros = Box::<[AtomicU64]>::new_zeroed_slice(words);
        // SAFETY: all bits zero is an atomic integer of value zero.
        Self(unsafe { zeros.assume_init() })
    }

    /// Whether a page exists.
    #[inline(always)]
    pub fn has(&self, page: u64) -> bool {
        self.0
            .get((page / 64) as usize)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (page % 64) & 1 != 0)
    }

    /// Lets the pages of `len` bytes from `iova` on exist, or not.
    pub fn set(&self, iova: u64, len: u64, exist: bool) {
        for page in iova / PAGE..(iova + len) / PAGE {
            if let Some(word) = self.0.get((page / 64) as usize) {
                let bit = 1 << (page % 64);
                if exist {
                    word.fetch_or(bit, Ordering::Release);
                } else {
                    word.fetch_and(!bit, Ordering::Release);
                }
            }
        }
    }

    /// The pages around `page` that all exist, not too far away: first, and how many.
    pub fn around(&self, page: u64) -> (u64, u64) {
        let (index, bit) = ((page / 64) as usize, page % 64);
        let word = self.word(index);
        let mut below = u64::from((word << (63 - bit)).leading_ones());
        let mut above = u64::from((word >> bit).trailing_ones());
        if below == 0 {
            return (page, 0);
        }
        if below == bit + 1 {
            for index in (index.saturating_sub(STRETCH_WORDS)..index).rev() {
                let more = self.word(index).leading_ones();
                below += u64::from(more);
                if more < 64 {
                    break;
                }
            }
        }
        if above == 64 - bit {
            for index in index + 1..=index + STRETCH_WORDS {
                let more = self.word(index).trailing_ones();
                above += u64::from(more);
                if more < 64 {
                    break;
                }
            }
        }
        (page + 1 - below, below + above - 1)
    }

    fn word(&self, index: usize) -> u64 {
        (self.0.get(index)).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}
