//! Which bus addresses are taken: whole 2 MiB chunks, or pages of chunks that small allocations share.
//!
//! Bookkeeping only: what backs a chunk is the caller's. What was given back is not handed out again at
//! once, so that a late access finds nothing there.

use std::collections::BTreeMap;
use std::ops::Range;

use super::window::{CHUNK, PAGE};

const CHUNK_PAGES: usize = (CHUNK / PAGE) as usize;

/// Bus addresses that may be used, which of them are taken, and what backs those.
pub struct Places<B> {
    /// Whole chunks, in the order in which they are searched.
    usable: Vec<Range<u64>>,
    /// By first address.
    taken: BTreeMap<u64, Taken<B>>,
    /// Where the next search starts.
    next: u64,
}

struct Taken<B> {
    bytes: u64,
    backing: B,
    /// Which pages are in use, in a chunk that is shared.
    pages: Option<Box<[bool; CHUNK_PAGES]>>,
}

/// A backing that nothing lies in any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Freed<B> {
    /// First bus address.
    pub iova: u64,
    /// Length in whole chunks.
    pub bytes: u64,
    /// What backed it.
    pub backing: B,
}

impl<B> Places<B> {
    /// Places within `usable`, searched in that order; what is not a whole chunk is left out.
    pub fn new(usable: impl IntoIterator<Item = Range<u64>>) -> Self {
        let whole = |range: Range<u64>| {
            let start = range.start.checked_next_multiple_of(CHUNK)?;
            let end = range.end / CHUNK * CHUNK;
            (start < end).then_some(start..end)
        };
        Self {
            usable: usable.into_iter().filter_map(whole).collect(),
            taken: BTreeMap::new(),
            next: 0,
        }
    }

    /// Whether an allocation is small enough to share a chunk.
    pub fn shares(bytes: usize) -> bool {
        bytes.div_ceil(PAGE as usize) <= CHUNK_PAGES / 2
    }

    /// Where `bytes` bytes, in whole chunks, would fit.
    pub fn find(&self, bytes: u64) -> Option<u64> {
        let bytes = bytes.checked_next_multiple_of(CHUNK)?;
        let later = self.usable.iter().find_map(|range| {
            let rest = range.start.max(self.next)..range.end;
            self.find_in(rest, bytes)
        });
        later.or_else(|| (self.usable.iter()).find_map(|range| self.find_in(range.clone(), bytes)))
    }

    fn find_in(&self, range: Range<u64>, bytes: u64) -> Option<u64> {
        let mut candidate = range.start;
        let before = self.taken.range(..candidate).next_back();
        if let Some((start, taken)) = before {
            candidate = candidate.max(start + taken.bytes);
        }
        if candidate >= range.end {
            return None;
        }
        for (start, taken) in self.taken.range(candidate..range.end) {
            if candidate.checked_add(bytes)? <= *start {
                break;
            }
            candidate = start + taken.bytes;
        }
        (candidate.checked_add(bytes)? <= range.end).then_some(candidate)
    }

    /// Takes what [`find`](Self::find) found, as one allocation.
    pub fn take(&mut self, iova: u64, bytes: u64, backing: B) {
        self.insert(iova, bytes, backing, None);
    }

    /// Takes a chunk that [`find`](Self::find) found, for pages.
    pub fn take_chunk(&mut self, iova: u64, backing: B) {
        self.insert(iova, CHUNK, backing, Some(Box::new([false; CHUNK_PAGES])));
    }

    fn insert(
        &mut self,
        iova: u64,
        bytes: u64,
        backing: B,
        pages: Option<Box<[bool; CHUNK_PAGES]>>,
    ) {
        let bytes = bytes.next_multiple_of(CHUNK);
        self.next = iova + bytes;
        self.taken.insert(
            iova,
            Taken {
                bytes,
                backing,
                pages,
            },
        );
    }

    /// Takes pages for `bytes` bytes, aligned to `align`, in a chunk that has room: where, and the chunk's
    /// address and backing.
    pub fn take_pages(&mut self, bytes: usize, align: usize) -> Option<(u64, u64, &B)> {
        let count = bytes.div_ceil(PAGE as usize);
        let step = align.div_ceil(PAGE as usize).max(1);
        let (chunk, taken, first) = self.taken.iter_mut().find_map(|(chunk, taken)| {
            let pages = taken.pages.as_ref()?;
            let first = (0..=CHUNK_PAGES.checked_sub(count)?)
                .step_by(step)
                .find(|&first| !pages[first..first + count].contains(&true))?;
            Some((*chunk, taken, first))
        })?;
        if let Some(pages) = &mut taken.pages {
            pages[first..first + count].fill(true);
        }
        Some((chunk + first as u64 * PAGE, chunk, &taken.backing))
    }

    /// Gives an allocation back; what backed it, if nothing else lies there.
    pub fn give_back(&mut self, iova: u64, bytes: u64) -> Option<Freed<B>> {
        let (&start, taken) = self.taken.range_mut(..=iova).next_back()?;
        if let Some(pages) = &mut taken.pages {
            let first = ((iova - start) / PAGE) as usize;
            let count = bytes.div_ceil(PAGE) as usize;
            pages.get_mut(first..first + count)?.fill(false);
            if pages.contains(&true) {
                return None;
            }
        }
        let taken = self.taken.remove(&start)?;
        Some(Freed {
            iova: start,
            bytes: taken.bytes,
            backing: taken.backing,
        })
    }

    /// Everything that is taken: first address, length, backing.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, &B)> {
        (self.taken.iter()).map(|(iova, taken)| (*iova, taken.bytes, &taken.backing))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_whole_chunks_of_what_is_usable_are_handed_out() {
        let hole = CHUNK + 1..3 * CHUNK - 1;
        let places = Places::<()>::new([hole, 5 * CHUNK..7 * CHUNK, 9 * CHUNK..u64::MAX]);
        assert_eq!(places.find(1), Some(5 * CHUNK));
        assert_eq!(places.find(2 * CHUNK), Some(5 * CHUNK));
        assert_eq!(places.find(2 * CHUNK + 1), Some(9 * CHUNK));
        assert_eq!(places.find(u64::MAX), None);
        assert_eq!(Places::<()>::new([]).find(1), None);
    }

    #[test]
    fn what_was_freed_is_not_found_at_once_but_in_the_end() {
        let mut places = Places::new([CHUNK..4 * CHUNK]);
        for number in 1..=3 {
            let iova = places.find(CHUNK).unwrap();
            assert_eq!(iova, number * CHUNK);
            places.take(iova, CHUNK, number);
            if number == 1 {
                assert_eq!(places.give_back(iova, CHUNK).unwrap().backing, 1);
            }
        }
        assert_eq!(places.find(CHUNK), Some(CHUNK));
        assert_eq!(places.find(2 * CHUNK), None);
    }

    #[test]
    fn a_shared_chunk_is_free_when_its_last_page_is() {
        let mut places = Places::new([CHUNK..2 * CHUNK]);
        assert!(places.take_pages(1, 1).is_none());
        let chunk = places.find(1).unwrap();
        places.take_chunk(chunk, "chunk");
        let (first, ..) = places.take_pages(1, 1).unwrap();
        let (second, start, _) = places.take_pages(5000, 1 << 14).unwrap();
        assert_eq!((first, second, start), (CHUNK, CHUNK + 4 * PAGE, CHUNK));
        assert_eq!(places.give_back(first, PAGE), None);
        let freed = places.give_back(second, 2 * PAGE).unwrap();
        assert_eq!(
            (freed.iova, freed.bytes, freed.backing),
            (CHUNK, CHUNK, "chunk")
        );
    }

    proptest! {
        /// Whatever is taken lies in what is usable, and apart.
        #[test]
        fn places_keep_apart(steps in proptest::collection::vec((1_u64..9, any::<prop::sample::Index>(), any::<bool>()), 1..60)) {
            let usable = [10 * CHUNK..20 * CHUNK, 2 * CHUNK..7 * CHUNK];
            let mut places = Places::new(usable.clone());
            let mut live: Vec<(u64, u64)> = Vec::new();
            for (chunks, which, free) in steps {
                if free && !live.is_empty() {
                    let (iova, bytes) = live.swap_remove(which.index(live.len()));
                    prop_assert_eq!(places.give_back(iova, bytes).map(|f| (f.iova, f.bytes)), Some((iova, bytes)));
                    continue;
                }
                let bytes = chunks * CHUNK;
                let Some(iova) = places.find(bytes) else { continue };
                prop_assert!(usable.iter().any(|range| range.start <= iova && iova + bytes <= range.end));
                prop_assert!(live.iter().all(|&(start, len)| iova + bytes <= start || start + len <= iova));
                places.take(iova, bytes, ());
                live.push((iova, bytes));
            }
        }
    }
}
