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
        for (index, bits) in words(iova, len) {
            let Some(word) = self.0.get(index) else {
                return;
            };
            match (exist, bits) {
                // Nobody else's pages are in there. A terabyte has four million such words.
                (true, u64::MAX) => word.store(u64::MAX, Ordering::Release),
                (false, u64::MAX) => word.store(0, Ordering::Release),
                (true, bits) => _ = word.fetch_or(bits, Ordering::Release),
                (false, bits) => _ = word.fetch_and(!bits, Ordering::Release),
            }
        }
    }

    /// Whether any page of `len` bytes from `iova` on exists.
    pub fn any(&self, iova: u64, len: u64) -> bool {
        words(iova, len).any(|(index, bits)| self.word(index) & bits != 0)
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

/// The words that have the whole pages of `len` bytes from `iova` on, and which bits of each.
fn words(iova: u64, len: u64) -> impl Iterator<Item = (usize, u64)> {
    let (first, end) = (iova / PAGE, (iova + len) / PAGE);
    let end = if len == 0 { first / 64 * 64 } else { end };
    (first / 64..end.div_ceil(64)).map(move |index| {
        let from = first.saturating_sub(index * 64);
        let to = (end - index * 64).min(64);
        (index as usize, u64::MAX >> (64 - (to - from)) << from)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_at_a_time_is_as_a_page_at_a_time(
            steps in proptest::collection::vec((0_u64..400, 1_u64..400, any::<bool>()), 1..12),
        ) {
            let map = PageMap::new(512 * PAGE);
            let mut model = BTreeSet::new();
            for (first, count, exist) in steps {
                let pages = first..(first + count).min(512);
                let len = (pages.end - pages.start) * PAGE;
                let any = pages.clone().any(|page| model.contains(&page));
                prop_assert_eq!(map.any(first * PAGE, len), any);
                map.set(first * PAGE, len, exist);
                for page in pages {
                    if exist { model.insert(page); } else { model.remove(&page); }
                }
                for page in 0..513 {
                    prop_assert_eq!(map.has(page), model.contains(&page), "page {}", page);
                }
            }
        }
    }

    #[test]
    fn nothing_has_no_words() {
        assert_eq!(words(5 * PAGE, 0).count(), 0);
        assert_eq!(words(64 * PAGE, 0).count(), 0);
        assert_eq!(words(0, 64 * PAGE).collect::<Vec<_>>(), [(0, u64::MAX)]);
    }
}
