//! Memory by its physical addresses, for devices that no IOMMU translates for: reserved 2 MiB pages that lie one after
//! the other in the machine's memory.
//!
//! Linux leaves a reserved page where it is unless somebody has it moved (a memory node taken away, say). That
//! nobody does is part of what is relied on without an IOMMU.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use sumac_devices::memory::CHUNK;

use super::Region;

/// Where Linux shows which memory lies behind this process's addresses: 64 bits a page
/// (Documentation/admin-guide/mm/pagemap.rst).
const PAGEMAP: &str = "/proc/self/pagemap";
/// Bytes of a page there.
const PAGE: u64 = 4096;
/// The page is in memory.
const PRESENT: u64 = 1 << 63;
/// Its number; 0 for whoever may not know.
const FRAME: u64 = (1 << 55) - 1;
/// Reserved pages that nobody has.
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// A region of `len` bytes, a multiple of 2 MiB, and its physical address; why not, and what to do about it.
pub(super) fn region(len: usize) -> Result<(u64, Region), String> {
    let needed = len / CHUNK as usize;
    let free = fs::read_to_string(FREE).unwrap_or_default();
    let free = free.trim().parse::<usize>().unwrap_or(0);
    if free < needed {
        return Err(format!(
            "without an IOMMU it has to lie in 2 MiB pages, and {free} of {needed} are free; reserve more with `sumac hugepages`"
        ));
    }
    // More to choose from, if that many do not lie together.
    for taken in [needed, 2 * needed + 8, free] {
        let taken = taken.min(free);
        let pages = Region::huge(taken * CHUNK as usize).map_err(|error| error.to_string())?;
        let frames = addresses(&pages)?;
        if let Some(run) = run(&frames, needed) {
            let region = pages.chosen(&run).map_err(|error| error.to_string())?;
            return Ok((frames[run[0]], region));
        }
    }
    Err(format!(
        "without an IOMMU it has to lie in one piece, and no {needed} of the 2 MiB pages lie together; reserve them at start (`hugepages={}` on the kernel's command line), or use fewer buffers",
        2 * free
    ))
}

/// Where the pages of a region are in memory.
fn addresses(region: &Region) -> Result<Vec<u64>, String> {
    let failed = |error: io::Error| format!("{PAGEMAP}: {error}");
    let pagemap = File::open(PAGEMAP).map_err(failed)?;
    let address = |at: usize| {
        let mut entry = [0; 8];
        let page = region.at(at).addr().get() as u64 / PAGE;
        (pagemap.read_exact_at(&mut entry, page * 8)).map_err(failed)?;
        let entry = u64::from_ne_bytes(entry);
        match (entry & PRESENT, entry & FRAME) {
            (0, _) => Err(format!("{PAGEMAP}: a page is not in memory")),
            (_, 0) => Err(
                "without an IOMMU it is known by its physical address, which Linux tells root only; run this as root"
                    .to_owned(),
            ),
            (_, frame) => Ok(frame * PAGE),
        }
    };
    let chunks = (0..region.len()).step_by(CHUNK as usize);
    chunks.map(address).collect()
}

/// Which `needed` of the pages at these addresses lie one after the other: their indices, lowest address first.
fn run(addresses: &[u64], needed: usize) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..addresses.len()).collect();
    order.sort_by_key(|&index| addresses[index]);
    let together = |pages: &[usize]| {
        let mut pairs = pages.windows(2);
        pairs.all(|pair| addresses[pair[0]].checked_add(CHUNK) == Some(addresses[pair[1]]))
    };
    let found = order.windows(needed.max(1)).find(|pages| together(pages));
    found.map(<[usize]>::to_vec)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pages_that_lie_together_are_found_in_any_order() {
        let at = |chunks: &[u64]| -> Vec<u64> { chunks.iter().map(|at| at * CHUNK).collect() };
        assert_eq!(run(&at(&[9, 8, 7]), 3), Some(vec![2, 1, 0]));
        assert_eq!(run(&at(&[1, 3, 5]), 2), None);
        assert_eq!(run(&at(&[7, 1, 5, 6]), 3), Some(vec![2, 3, 0]));
        assert_eq!(run(&at(&[4]), 1), Some(vec![0]));
        assert_eq!(run(&[], 1), None);
        assert_eq!(run(&at(&[4]), 2), None);
        assert_eq!(run(&[u64::MAX - 1, 3], 2), None);
    }

    proptest! {
        #[test]
        fn a_run_is_one(chunks in proptest::collection::hash_set(0_u64..64, 0..48), needed in 1_usize..8) {
            let addresses: Vec<u64> = chunks.iter().map(|at| at * CHUNK).collect();
            let exists = (0..64_u64).any(|first| (first..first + needed as u64).all(|at| chunks.contains(&at)));
            match run(&addresses, needed) {
                None => prop_assert!(!exists),
                Some(run) => {
                    let found: Vec<u64> = run.iter().map(|&index| addresses[index]).collect();
                    let expected: Vec<u64> = (0..needed as u64).map(|at| found[0] + at * CHUNK).collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
