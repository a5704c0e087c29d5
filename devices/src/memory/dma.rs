//! DMA memory inside this process: what an in-process driver allocates and software devices reach.
//!
//! Memory is mapped once, in the window, so the processor's address is the window's base plus the
//! bus address. Bus addresses begin at 4 GiB and are far below any pointer: a pointer used as a bus
//! address, a null address or one cut to 32 bits is a DMA fault. Large allocations are regions of
//! their own; small ones share 2 MiB chunks in whole pages. What is freed is unreachable at once.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sumac_device::{DmaError, DmaMemory, DmaSpace};

use super::lent::{Extent, Lender, Lent};
use super::places::Places;
use super::window::{CHUNK, GuestMemory, PAGE, WindowError};

/// First bus address handed out.
const FIRST_IOVA: u64 = 4 << 30;
/// Size of the window: bus addresses below this exist.
const WINDOW: u64 = 68 << 30;

/// What kind of memory the system gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaFacts {
    /// Whether every region so far sits in reserved 2 MiB huge pages.
    pub huge_pages: bool,
    /// Whether every region so far could be locked in memory.
    pub locked: bool,
}

/// DMA memory for every software device of a process.
#[derive(Clone)]
pub struct SimDma {
    shared: Arc<Shared>,
}

struct Shared {
    window: Arc<GuestMemory>,
    /// Bus addresses, and whether huge pages back them.
    places: Mutex<Places<bool>>,
    ordinary_pages: AtomicBool,
    unlocked: AtomicBool,
}

impl SimDma {
    /// Reserves the window. Memory is taken from the system as drivers ask for it.
    ///
    /// # Errors
    /// [`WindowError::Reserve`] when the address space is limited.
    pub fn new() -> Result<Self, WindowError> {
        Self::with_room(WINDOW - FIRST_IOVA)
    }

    /// As [`new`](Self::new), with room for `bytes` bytes of memory instead of 64 GiB: for where
    /// address space is scarce.
    ///
    /// # Errors
    /// [`WindowError::Reserve`] when it is scarcer still.
    pub fn with_room(bytes: u64) -> Result<Self, WindowError> {
        let window = GuestMemory::new(FIRST_IOVA + bytes.min(WINDOW))?;
        Ok(Self {
            shared: Arc::new(Shared {
                places: Mutex::new(Places::new(std::iter::once(FIRST_IOVA..window.limit()))),
                window: Arc::new(window),
                ordinary_pages: AtomicBool::new(false),
                unlocked: AtomicBool::new(false),
            }),
        })
    }

    /// The memory as devices reach it.
    pub fn window(&self) -> &Arc<GuestMemory> {
        &self.shared.window
    }

    /// What kind of memory was had so far.
    pub fn facts(&self) -> DmaFacts {
        DmaFacts {
            huge_pages: !self.shared.ordinary_pages.load(Ordering::Relaxed),
            locked: !self.shared.unlocked.load(Ordering::Relaxed),
        }
    }
}

impl DmaSpace for SimDma {
    fn allocate(&self, len: usize, align: usize) -> Result<DmaMemory, DmaError> {
        if len == 0 || !align.is_power_of_two() || align as u64 > CHUNK {
            return Err(DmaError::BadLayout { bytes: len, align });
        }
        let mapping = if Places::<bool>::shares(len) {
            Shared::allocate_pages(&self.shared, len, align)?
        } else {
            Shared::allocate_region(&self.shared, len)?
        };
        Ok(DmaMemory::new(Box::new(mapping)))
    }
}

impl Shared {
    fn allocate_region(shared: &Arc<Self>, len: usize) -> Result<Lent<Self>, DmaError> {
        let bytes = (len as u64).next_multiple_of(CHUNK);
        let mut places = shared.places();
        let (iova, huge) = shared.map(&places, bytes, len)?;
        places.take(iova, bytes, huge);
        Ok(Self::lend(shared, iova, len, bytes, huge))
    }

    fn allocate_pages(
        shared: &Arc<Self>,
        len: usize,
        align: usize,
    ) -> Result<Lent<Self>, DmaError> {
        let mut places = shared.places();
        let mut found = places
            .take_pages(len, align)
            .map(|(iova, _, huge)| (iova, *huge));
        if found.is_none() {
            let (chunk, huge) = shared.map(&places, CHUNK, len)?;
            shared.window.set_reachable(chunk, CHUNK, false);
            places.take_chunk(chunk, huge);
            found = places
                .take_pages(len, align)
                .map(|(iova, _, huge)| (iova, *huge));
        }
        let (iova, huge) = found.ok_or(DmaError::BadLayout { bytes: len, align })?;
        let bytes = (len as u64).next_multiple_of(PAGE);
        let mut mapping = Self::lend(shared, iova, len, bytes, huge);
        mapping.zero();
        shared.window.set_reachable(iova, bytes, true);
        Ok(mapping)
    }

    fn lend(shared: &Arc<Self>, iova: u64, len: usize, bytes: u64, huge: bool) -> Lent<Self> {
        let base = shared.window.host_address(iova);
        let extent = Extent {
            base,
            iova,
            len,
            bytes,
            huge,
        };
        // SAFETY: the pages were mapped in the window, at the same offset in whole 2 MiB, and taken from
        // `places`; `take_back` makes them unreachable, waiting for devices at work, before it returns them.
        unsafe { Lent::new(shared, extent) }
    }

    fn places(&self) -> MutexGuard<'_, Places<bool>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps fresh memory at bus addresses nobody uses. Returns where, and whether in huge pages.
    fn map(
        &self,
        places: &Places<bool>,
        bytes: u64,
        asked: usize,
    ) -> Result<(u64, bool), DmaError> {
        let out_of_memory = |reason: String| DmaError::OutOfMemory {
            bytes: asked,
            reason,
        };
        let iova = places.find(bytes).ok_or_else(|| {
            out_of_memory("the software devices' window is full; free some".into())
        })?;
        let huge = match map_file(&self.window, iova, bytes, libc::MFD_HUGETLB) {
            Ok(()) => true,
            Err(_) => {
                map_file(&self.window, iova, bytes, 0).map_err(|error| {
                    out_of_memory(format!("{error}; use fewer or smaller buffers"))
                })?;
                self.ordinary_pages.store(true, Ordering::Relaxed);
                false
            }
        };
        if !lock_in_memory(&self.window, iova, bytes, huge) {
            self.unlocked.store(true, Ordering::Relaxed);
        }
        Ok((iova, huge))
    }
}

impl Lender for Shared {
    fn take_back(&self, iova: u64, bytes: u64) {
        let mut places = self.places();
        if bytes < CHUNK {
            self.window.set_reachable(iova, bytes, false);
        }
        if let Some(freed) = places.give_back(iova, bytes) {
            // A range that was mapped can be unmapped; if the system refuses all the same, it
            // stays mapped but unreachable, which harms nobody.
            let _ = self.window.unmap(freed.iova, freed.bytes);
        }
    }
}

fn map_file(
    window: &GuestMemory,
    iova: u64,
    bytes: u64,
    flags: libc::c_uint,
) -> Result<(), WindowError> {
    let failed = |source| WindowError::Map {
        iova,
        len: bytes,
        source,
    };
    // SAFETY: the name is a C string; the result is checked.
    let fd = unsafe { libc::memfd_create(c"sumac-dma".as_ptr(), flags | libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(failed(std::io::Error::last_os_error()));
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes).map_err(failed)?;
    window.map(iova, bytes, &file, 0)
}

/// Locks a region, as memory a real device writes must be. Not fatal here: without the right to
/// lock, the system may swap it, which costs time only.
fn lock_in_memory(window: &GuestMemory, iova: u64, bytes: u64, huge: bool) -> bool {
    let address = window.host_address(iova).as_ptr().cast::<libc::c_void>();
    // SAFETY: the range was mapped just now; both calls change how it is backed, not what it holds.
    unsafe {
        if !huge {
            libc::madvise(address, bytes as usize, libc::MADV_HUGEPAGE);
        }
        libc::mlock(address, bytes as usize) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn reachable(dma: &SimDma, iova: u64, len: usize) -> bool {
        dma.window().access().slice(iova, len).is_some()
    }

    #[test]
    fn memory_that_cannot_be_had_leaves_no_gap() {
        let bytes = 64 << 30;
        let window = GuestMemory::new(bytes).unwrap();
        // More huge pages than are free.
        assert!(map_file(&window, 0, bytes, libc::MFD_HUGETLB).is_err());
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let reserved = window.host_address(0).as_ptr() as u64;
        let is_reserved = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            let whole = number(start)? <= reserved && reserved + bytes <= number(end)?;
            Some(whole && rest.starts_with("---p"))
        };
        assert!(maps.lines().any(|line| is_reserved(line) == Some(true)));
    }

    proptest! {
        #[test]
        fn descriptors_are_written_round_the_end_and_nowhere_else(
            start in 0_u32..24,
            words in proptest::collection::vec(any::<[u64; 2]>(), 0..24),
        ) {
            let dma = SimDma::new().unwrap();
            let memory = dma.allocate(24 * 16, 128).unwrap();
            memory.cells().iter().for_each(|cell| cell.store(7, Ordering::Relaxed));
            let access = dma.window().access();
            let ring = access.ring(memory.iova().to_bits(), 24).unwrap();
            ring.write_all(start, &words);
            for index in 0..24 {
                let offset = (index + 24 - start) % 24;
                let expected = words.get(offset as usize).copied().unwrap_or([7, 7]);
                prop_assert_eq!(ring.read(index), expected);
            }
        }
    }

    #[test]
    fn what_is_allocated_is_reachable_until_it_is_freed() {
        let dma = SimDma::new().unwrap();
        for len in [1, 4096, 100_000, 5 << 20] {
            let memory = dma.allocate(len, 64).unwrap();
            let iova = memory.iova().to_bits();
            assert!(reachable(&dma, iova, len));
            assert!(
                !reachable(&dma, memory.base().as_ptr() as u64, 1),
                "a pointer is no bus address"
            );
            assert!(
                !reachable(&dma, iova & 0xFFFF_FFFF, 1),
                "nor is half of one"
            );
            drop(memory);
            assert!(!reachable(&dma, iova, 1));
        }
    }

    #[test]
    fn a_slice_ends_where_memory_does() {
        let dma = SimDma::new().unwrap();
        let memory = dma.allocate(8192, 4096).unwrap();
        let iova = memory.iova().to_bits();
        assert!(reachable(&dma, iova, 8192));
        assert!(!reachable(&dma, iova, 8193));
        assert!(!reachable(&dma, iova + 8191, 2));
        assert!(!reachable(&dma, u64::MAX, 1));
        assert!(!reachable(&dma, iova, 0));
        assert!(dma.window().access().ring(iova + 8, 4).is_none());
    }

    #[test]
    fn impossible_layouts_are_refused() {
        let dma = SimDma::new().unwrap();
        for (len, align) in [(0, 1), (1, 3), (1, 4 << 20)] {
            let error = dma.allocate(len, align).unwrap_err();
            assert_eq!(error, DmaError::BadLayout { bytes: len, align });
        }
        assert!(matches!(
            dma.allocate(1 << 40, 1),
            Err(DmaError::OutOfMemory { .. })
        ));
    }

    #[test]
    fn recycled_pages_are_clean() {
        let dma = SimDma::new().unwrap();
        let _keeps_the_chunk = dma.allocate(4096, 1).unwrap();
        for _ in 0..3 {
            let memory = dma.allocate(4096, 1).unwrap();
            assert!((memory.cells().iter()).all(|cell| cell.load(Ordering::Relaxed) == 0));
            (memory.cells().iter()).for_each(|cell| cell.store(u64::MAX, Ordering::Relaxed));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Live allocations never overlap, are aligned, and are reachable to their last byte.
        #[test]
        fn allocations_keep_apart(
            steps in proptest::collection::vec((1_usize..3_000_000, 0_u32..22, any::<bool>()), 1..24),
        ) {
            let dma = SimDma::new().unwrap();
            let mut live: Vec<DmaMemory> = Vec::new();
            for (len, align, free) in steps {
                if free && !live.is_empty() {
                    live.swap_remove(len % live.len());
                    continue;
                }
                let memory = dma.allocate(len, 1 << align).unwrap();
                let start = memory.iova().to_bits();
                prop_assert_eq!(start % (1 << align), 0);
                prop_assert!(reachable(&dma, start, len));
                for other in &live {
                    let begin = other.iova().to_bits();
                    let apart = start + len as u64 <= begin || begin + other.len() as u64 <= start;
                    prop_assert!(apart);
                }
                live.push(memory);
            }
        }
    }
}
