//! DMA memory for devices outside this process: one space for all of them, however each is reached.
//!
//! Memory is taken from Linux in regions of whole 2 MiB, and made reachable at the same bus
//! addresses every way there is: through an IOMMU container, the processes that serve
//! devices, the software devices' window. So one packet pool serves all ports. Small allocations share
//! a region in whole pages: a device that runs wild within its space is bounded by what this process
//! gave it, not by what one driver holds. Where no IOMMU translates, memory is reachable as it is, at its physical
//! addresses.

mod physical;
mod region;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sumac_device::{DmaError, DmaMemory, DmaSpace};
use sumac_devices::memory::{
    CHUNK, DmaFacts, Extent, Freed, GuestMemory, Lender, Lent, PAGE, Places, WindowError,
};

pub(crate) use region::Region;

/// Bus addresses from here on are handed out first: an address cut to 32 bits, or a null one, is not
/// among them.
const FIRST_IOVA: u64 = 4 << 30;
/// Never handed out, however scarce addresses are.
const LOWEST_IOVA: u64 = 1 << 20;

/// A way by which memory of this process becomes reachable for devices.
///
/// # Safety
/// Implementers promise that memory is unreachable, or stays pinned for whoever can still reach it, once
/// [`unmap`](Self::unmap) succeeded or `self` is gone.
pub(crate) unsafe trait Reach: Send + Sync {
    /// Bus addresses that devices behind this can use.
    fn usable(&self) -> Vec<Range<u64>>;

    /// Makes `region` reachable at `iova`; why not, and what to do about it.
    fn map(&self, region: &Region, iova: u64) -> Result<(), String>;

    /// Takes it away again; why that failed.
    fn unmap(&self, iova: u64, bytes: u64) -> Result<(), String>;

    /// Whether another process gets the regions' files.
    fn lends_files(&self) -> bool {
        false
    }
}

// SAFETY: the window has a mapping of its own of the region's file.
unsafe impl Reach for GuestMemory {
    fn usable(&self) -> Vec<Range<u64>> {
        vec![FIRST_IOVA..self.limit()]
    }

    fn map(&self, region: &Region, iova: u64) -> Result<(), String> {
        GuestMemory::map(self, iova, region.len() as u64, region.file(), 0).map_err(in_words)
    }

    fn unmap(&self, iova: u64, bytes: u64) -> Result<(), String> {
        GuestMemory::unmap(self, iova, bytes).map_err(in_words)
    }
}

fn in_words(error: WindowError) -> String {
    error.to_string()
}

/// Memory that every device of a process can reach.
#[derive(Clone)]
pub struct LinuxDma {
    shared: Arc<Shared>,
}

struct Shared {
    // Regions go before what makes them reachable: their places unmap them.
    places: Mutex<Places<Region>>,
    /// Locked after `places`.
    reaches: Mutex<Vec<Arc<dyn Reach>>>,
    /// Bus addresses that all of them can use.
    usable: Vec<Range<u64>>,
    /// Whether bus addresses are physical ones: nothing translates.
    physical: bool,
    /// Whether other processes get the memory.
    lent: bool,
    ordinary_pages: AtomicBool,
    mapping_ns: AtomicU64,
}

impl LinuxDma {
    /// Memory reachable through all of `reaches`.
    pub(crate) fn new(reaches: Vec<Arc<dyn Reach>>) -> Self {
        let everywhere = vec![LOWEST_IOVA..u64::MAX];
        let usable = (reaches.iter()).fold(everywhere, |all, reach| common(&all, &reach.usable()));
        let high = common(&usable, &[FIRST_IOVA..u64::MAX]);
        let low = common(&usable, &[0..FIRST_IOVA]);
        let places = Places::new(high.into_iter().chain(low));
        Self::with(places, reaches, usable, false)
    }

    /// Memory for devices that no IOMMU translates for.
    pub(crate) fn physical() -> Self {
        Self::with(Places::new([]), Vec::new(), Vec::new(), true)
    }

    fn with(
        places: Places<Region>,
        reaches: Vec<Arc<dyn Reach>>,
        usable: Vec<Range<u64>>,
        physical: bool,
    ) -> Self {
        let lent = reaches.iter().any(|reach| reach.lends_files());
        Self {
            shared: Arc::new(Shared {
                places: Mutex::new(places),
                lent,
                reaches: Mutex::new(reaches),
                usable,
                physical,
                ordinary_pages: AtomicBool::new(false),
                mapping_ns: AtomicU64::new(0),
            }),
        }
    }

    /// What kind of memory was had so far.
    pub fn facts(&self) -> DmaFacts {
        DmaFacts {
            huge_pages: !self.shared.ordinary_pages.load(Ordering::Relaxed),
            locked: true,
        }
    }

    /// Bus addresses that every device can use: no memory lies elsewhere.
    pub fn bus_addresses(&self) -> &[Range<u64>] {
        &self.shared.usable
    }

    /// How long it took so far to make memory reachable, without getting it from Linux.
    pub fn mapping_time(&self) -> Duration {
        Duration::from_nanos(self.shared.mapping_ns.load(Ordering::Relaxed))
    }
}

impl LinuxDma {
    /// Shows all memory to a device that came back, and what there will be from now on.
    ///
    /// # Errors
    /// In words; nothing is shown to it then.
    pub(crate) fn join(&self, reach: &Arc<dyn Reach>) -> Result<(), String> {
        // Nothing is allocated or freed meanwhile.
        let places = self.shared.places();
        for (done, (iova, _, region)) in places.iter().enumerate() {
            if let Err(reason) = reach.map(region, iova) {
                hide(&**reach, places.iter().take(done));
                return Err(reason);
            }
        }
        let mut reaches = self.shared.reaches();
        if !reaches.iter().any(|other| Arc::ptr_eq(other, reach)) {
            reaches.push(Arc::clone(reach));
        }
        Ok(())
    }

    /// Hides all memory from a device that is gone, and what there will be from now on.
    pub(crate) fn leave(&self, reach: &Arc<dyn Reach>) {
        let places = self.shared.places();
        let mut reaches = self.shared.reaches();
        reaches.retain(|other| !Arc::ptr_eq(other, reach));
        hide(&**reach, places.iter());
    }
}

/// Hides regions from a device that is to be forgotten: what it keeps all the same it loses as it is.
fn hide<'a>(reach: &dyn Reach, regions: impl Iterator<Item = (u64, u64, &'a Region)>) {
    for (iova, bytes, _) in regions {
        if let Err(reason) = reach.unmap(iova, bytes) {
            log::warn!("DMA memory at {iova:#x}: {reason}");
        }
    }
}

/// What lies in a range of both lists.
fn common(first: &[Range<u64>], second: &[Range<u64>]) -> Vec<Range<u64>> {
    let overlap = |a: &Range<u64>, b: &Range<u64>| a.start.max(b.start)..a.end.min(b.end);
    (first.iter())
        .flat_map(|a| second.iter().map(move |b| overlap(a, b)))
        .filter(|range| !range.is_empty())
        .collect()
}

impl DmaSpace for LinuxDma {
    fn allocate(&self, len: usize, align: usize) -> Result<DmaMemory, DmaError> {
        if len == 0 || !align.is_power_of_two() || align as u64 > CHUNK {
            return Err(DmaError::BadLayout { bytes: len, align });
        }
        let mut places = self.shared.places();
        let mapping = if Places::<Region>::shares(len) {
            self.allocate_pages(&mut places, len, align)?
        } else {
            let (iova, region) = self.shared.map(&mut places, len)?;
            let mapping = self.lend(&region, 0, iova, len, region.len() as u64);
            places.take(iova, region.len() as u64, region);
            mapping
        };
        Ok(DmaMemory::new(Box::new(mapping)))
    }
}

impl LinuxDma {
    fn allocate_pages(
        &self,
        places: &mut Places<Region>,
        len: usize,
        align: usize,
    ) -> Result<Lent<Shared>, DmaError> {
        if let Some(mapping) = self.share(places, len, align) {
            return Ok(mapping);
        }
        let (iova, region) = self.shared.map(places, len)?;
        places.take_chunk(iova, region);
        let mapping = self.share(places, len, align);
        mapping.ok_or(DmaError::BadLayout { bytes: len, align })
    }

    /// Pages of a region that has some left.
    fn share(&self, places: &mut Places<Region>, len: usize, align: usize) -> Option<Lent<Shared>> {
        let (iova, chunk, region) = places.take_pages(len, align)?;
        let bytes = (len as u64).next_multiple_of(PAGE);
        let mut mapping = self.lend(region, (iova - chunk) as usize, iova, len, bytes);
        mapping.zero();
        Some(mapping)
    }

    fn lend(&self, region: &Region, at: usize, iova: u64, len: usize, bytes: u64) -> Lent<Shared> {
        let extent = Extent {
            base: region.at(at),
            iova,
            len,
            bytes,
            huge: region.huge_pages(),
        };
        // SAFETY: the pages are of a region that `places` keeps, aligned to 2 MiB at both addresses, and were
        // taken from it; a region whose last pages come back is unmapped, or kept for good, before it is freed. A
        // device that still runs when they come back reaches them as it does all of the space, which holds no object.
        unsafe { Lent::new(&self.shared, extent) }
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places<Region>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reaches(&self) -> MutexGuard<'_, Vec<Arc<dyn Reach>>> {
        self.reaches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A region of fresh memory for `len` bytes that all devices reach, and where.
    fn map(&self, places: &mut Places<Region>, len: usize) -> Result<(u64, Region), DmaError> {
        let no_memory = |reason| DmaError::OutOfMemory { bytes: len, reason };
        let bytes = len.checked_next_multiple_of(CHUNK as usize);
        let bytes = bytes.ok_or_else(|| no_memory("that is more than there can be".into()))?;
        let (iova, region) = self.place(places, bytes).map_err(no_memory)?;
        let start = Instant::now();
        let reaches = self.reaches();
        for (index, reach) in reaches.iter().enumerate() {
            if let Err(reason) = reach.map(&region, iova) {
                if !self.unmap(&reaches[..index], iova, bytes as u64) {
                    // Neither the memory nor its address is to be had by anybody else.
                    places.take(iova, bytes as u64, region);
                }
                return Err(no_memory(reason));
            }
        }
        let mapping_ns = start.elapsed().as_nanos() as u64;
        self.mapping_ns.fetch_add(mapping_ns, Ordering::Relaxed);
        if !region.huge_pages() {
            self.ordinary_pages.store(true, Ordering::Relaxed);
        }
        Ok((iova, region))
    }

    /// Fresh memory, and where devices are to find it.
    fn place(&self, places: &Places<Region>, bytes: usize) -> Result<(u64, Region), String> {
        if self.physical {
            return physical::region(bytes);
        }
        let iova = (places.find(bytes as u64))
            .ok_or("the devices' bus addresses are used up; use fewer or smaller buffers")?;
        let region = match self.lent {
            true => Region::ordinary(bytes),
            false => Region::new(bytes),
        };
        let region = region.map_err(|error| format!("{error}; use fewer or smaller buffers"))?;
        Ok((iova, region))
    }

    /// Whether the memory is out of every device's reach.
    fn unmap(&self, reaches: &[Arc<dyn Reach>], iova: u64, bytes: u64) -> bool {
        let mut all = true;
        for reach in reaches {
            if let Err(reason) = reach.unmap(iova, bytes) {
                log::error!(
                    "DMA memory at {iova:#x} stays mapped, and is not used again: {reason}"
                );
                all = false;
            }
        }
        all
    }
}

impl Lender for Shared {
    fn take_back(&self, iova: u64, bytes: u64) {
        let mut places = self.places();
        let Some(Freed {
            iova,
            bytes,
            backing,
        }) = places.give_back(iova, bytes)
        else {
            return;
        };
        if !self.unmap(&self.reaches(), iova, bytes) {
            // Neither the memory nor its address is to be had by anybody else.
            places.take(iova, bytes, backing);
        }
    }
}
