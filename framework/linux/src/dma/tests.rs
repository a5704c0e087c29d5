//! The space on real memory files, with the software devices' window as a way to it.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use super::*;

const ROOM: u64 = 256 << 20;

fn window() -> Arc<GuestMemory> {
    Arc::new(GuestMemory::new(FIRST_IOVA + ROOM).unwrap())
}

fn reaches(windows: &[Arc<GuestMemory>]) -> Vec<Arc<dyn Reach>> {
    (windows.iter())
        .map(|window| Arc::clone(window) as _)
        .collect()
}

fn reachable(window: &GuestMemory, iova: u64, len: usize) -> bool {
    window.access().slice(iova, len).is_some()
}

#[test]
fn every_device_reaches_the_same_memory_at_the_same_address() {
    let windows = [window(), window()];
    let dma = LinuxDma::new(reaches(&windows));
    for len in [1, 4096, 100_000, 5 << 20] {
        let memory = dma.allocate(len, 64).unwrap();
        assert!(memory.check(len, 64).is_ok());
        let iova = memory.iova().to_bits();
        assert!(iova >= FIRST_IOVA);
        memory
            .cell(0)
            .inspect(|cell| cell.store(0x1122, Ordering::Relaxed));
        for window in &windows {
            let mut bytes = [0; 1];
            window.access().slice(iova, len).unwrap().read(&mut bytes);
            assert_eq!(bytes[0], if len < 8 { 0 } else { 0x22 });
        }
        drop(memory);
        assert!(!windows.iter().any(|window| reachable(window, iova, 1)));
    }
}

#[test]
fn small_allocations_share_a_region_and_are_clean() {
    let window = window();
    let dma = LinuxDma::new(reaches(std::slice::from_ref(&window)));
    let first = dma.allocate(4096, 4096).unwrap();
    for _ in 0..3 {
        let memory = dma.allocate(8192, 8192).unwrap();
        assert_eq!(
            memory.iova().to_bits() / CHUNK,
            first.iova().to_bits() / CHUNK
        );
        assert!(
            memory
                .cells()
                .iter()
                .all(|cell| cell.load(Ordering::Relaxed) == 0)
        );
        (memory.cells().iter()).for_each(|cell| cell.store(u64::MAX, Ordering::Relaxed));
    }
    drop(first);
    assert_eq!(dma.shared.places().iter().count(), 0);
}

/// Passes a number of regions on to the window, and then refuses.
struct Limited {
    window: Arc<GuestMemory>,
    left: Mutex<usize>,
    keeps: bool,
}

// SAFETY: as the window, but for what it refuses.
unsafe impl Reach for Limited {
    fn usable(&self) -> Vec<Range<u64>> {
        Reach::usable(&*self.window)
    }
    fn map(&self, region: &Region, iova: u64) -> Result<(), String> {
        let mut left = self.left.lock().unwrap();
        *left = left
            .checked_sub(1)
            .ok_or("the limit is reached; raise it")?;
        Reach::map(&*self.window, region, iova)
    }
    fn unmap(&self, iova: u64, bytes: u64) -> Result<(), String> {
        if self.keeps {
            return Err("refused".into());
        }
        Reach::unmap(&*self.window, iova, bytes)
    }
}

#[test]
fn what_one_device_cannot_reach_no_other_does() {
    let window = window();
    let limited = Limited {
        window: self::window(),
        left: 1.into(),
        keeps: false,
    };
    let dma = LinuxDma::new(vec![window.clone(), Arc::new(limited)]);
    let memory = dma.allocate(2 << 20, 1).unwrap();
    let error = dma.allocate(2 << 20, 1).unwrap_err().to_string();
    assert!(error.ends_with("the limit is reached; raise it"), "{error}");
    let next = memory.iova().to_bits() + CHUNK;
    assert!(!reachable(&window, next, 1));
    assert_eq!(dma.shared.places().iter().count(), 1);
}

#[test]
fn a_device_that_comes_back_reaches_what_the_others_do() {
    let (stays, leaves, comes) = (window(), window(), window());
    let dma = LinuxDma::new(reaches(&[stays.clone(), leaves.clone()]));
    let first = dma.allocate(2 << 20, 1).unwrap();
    let page = dma.allocate(4096, 4096).unwrap();
    let [leaving, coming] = [&leaves, &comes].map(|window| Arc::clone(window) as Arc<dyn Reach>);
    dma.leave(&leaving);
    let second = dma.allocate(4 << 20, 1).unwrap();
    // Twice does no harm.
    dma.join(&coming).unwrap();
    dma.leave(&leaving);
    for memory in [&first, &page, &second] {
        let iova = memory.iova().to_bits();
        assert!(!reachable(&leaves, iova, 1));
        assert!(reachable(&stays, iova, 1) && reachable(&comes, iova, 1));
    }
    let third = dma.allocate(4096, 4096).unwrap().iova().to_bits();
    drop(first);
    assert_eq!(reachable(&comes, third, 1), reachable(&stays, third, 1));
    drop((page, second));
    assert!(!reachable(&comes, FIRST_IOVA, 1));
}

#[test]
fn a_device_that_does_not_take_all_memory_gets_none() {
    let (stays, comes) = (window(), window());
    let dma = LinuxDma::new(reaches(&[stays]));
    let memory = [2 << 20, 4 << 20].map(|len| dma.allocate(len, 1).unwrap());
    let limited = Limited {
        window: comes.clone(),
        left: 1.into(),
        keeps: false,
    };
    let limited: Arc<dyn Reach> = Arc::new(limited);
    let refused = dma.join(&limited).unwrap_err();
    assert!(refused.contains("the limit is reached"), "{refused}");
    for memory in memory {
        assert!(!reachable(&comes, memory.iova().to_bits(), 1));
    }
    // It is not asked for what there is from now on either, which it would refuse.
    assert!(dma.allocate(2 << 20, 1).is_ok());
}

#[test]
fn memory_that_stays_mapped_is_not_used_again() {
    let limited = Limited {
        window: window(),
        left: usize::MAX.into(),
        keeps: true,
    };
    let dma = LinuxDma::new(vec![Arc::new(limited)]);
    let (first, base) = {
        let memory = dma.allocate(4 << 20, 1).unwrap();
        (memory.iova().to_bits(), memory.base())
    };
    let memory = dma.allocate(4 << 20, 1).unwrap();
    assert_ne!((memory.iova().to_bits(), memory.base()), (first, base));
    assert_eq!(dma.shared.places().iter().count(), 2);
}

#[test]
fn impossible_memory_is_refused() {
    let dma = LinuxDma::new(reaches(&[window()]));
    for (len, align) in [(0, 1), (1, 3), (1, 4 << 20)] {
        let error = dma.allocate(len, align).unwrap_err();
        assert_eq!(error, DmaError::BadLayout { bytes: len, align });
    }
    for len in [ROOM as usize + 1, usize::MAX] {
        assert!(matches!(
            dma.allocate(len, 1),
            Err(DmaError::OutOfMemory { .. })
        ));
    }
}

#[test]
fn nobody_can_shorten_a_regions_file() {
    let region = Region::new(2 << 20).unwrap();
    assert!(region.base().as_ptr().addr().is_multiple_of(2 << 20));
    let file = region.file().try_clone().unwrap();
    assert!(file.set_len(0).is_err() && file.set_len(4 << 20).is_err());
    // SAFETY: the region is this test's, and long enough.
    unsafe { region.at(4096).write(7) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096).unwrap();
    assert_eq!(byte, [7]);
}

#[test]
fn addresses_are_those_that_all_devices_have() {
    let ranges = |list: &[(u64, u64)]| -> Vec<Range<u64>> {
        list.iter().map(|&(start, end)| start..end).collect()
    };
    let first = ranges(&[(0, 10), (20, 30)]);
    let second = ranges(&[(5, 25), (28, 40)]);
    assert_eq!(
        common(&first, &second),
        ranges(&[(5, 10), (20, 25), (28, 30)])
    );
    assert_eq!(common(&first, &[]), []);
}
