//! What an IOMMU's mappings cost by the size of pages: `map_pages ADDRESS [MIB [ROUNDS]]`, for a device that is with
//! vfio-pci. Memory is mapped for it at once, and page by page, as it has to be where pages lie apart on the bus: in
//! 2 MiB pages, in 4 KiB pages, by turns. A line each: how many mappings, and the median of the rounds with the
//! least and the most, in milliseconds, for mapping and for taking away.
//!
//! Straight to the kernel's VFIO, by the library's own calls: the library itself maps a pool at once.
// UNSAFETY: memory is given to a device that is told nothing of it, through calls without a safe form.
#![expect(unsafe_code)]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use sumac_linux::pci::{PciDevice, Tree};
use vfio_bindings::bindings::vfio::{
    VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_TYPE1v2_IOMMU, vfio_iommu_type1_dma_map,
};

#[path = "../src/vfio/region.rs"]
#[allow(
    dead_code,
    clippy::single_range_in_vec_init,
    reason = "some of it, by the library's own rules"
)]
mod region;
#[path = "../src/vfio/sys.rs"]
#[allow(dead_code, reason = "some of it is used")]
mod sys;

/// Where memory is mapped.
const IOVA: u64 = 4 << 30;
const SMALL: usize = 4 << 10;
const LARGE: usize = 2 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("map_pages: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("give a PCI address")?;
    let bytes = arguments
        .next()
        .map_or(Ok(512), |mib| mib.parse::<usize>())?
        << 20;
    let rounds = arguments.next().map_or(Ok(3), |rounds| rounds.parse())?;
    let container = Container::of(&address)?;
    let large = Memory::of(LARGE, bytes)?;
    let small = Memory::of(SMALL, bytes)?;
    let mut ways = [
        Way::new("2 MiB pages at once", &large, bytes),
        Way::new("2 MiB pages one by one", &large, LARGE),
        Way::new("4 KiB pages at once", &small, bytes),
        Way::new("4 KiB pages one by one", &small, SMALL),
    ];
    for _ in 0..rounds {
        for way in &mut ways {
            way.time(&container)?;
        }
    }
    println!("{address}: {} MiB, {rounds} rounds", bytes >> 20);
    ways.iter().for_each(Way::show);
    Ok(())
}

/// A container with the device's group in it.
struct Container {
    file: File,
    // It goes before the container.
    _group: File,
}

impl Container {
    fn of(address: &str) -> Result<Self, Box<dyn Error>> {
        let address = address.parse().map_err(|()| "that is no PCI address")?;
        let device = PciDevice::read(&Tree::default(), address)?;
        let group = device.group.ok_or("no IOMMU translates for it")?;
        let open = |path: String| OpenOptions::new().read(true).write(true).open(path);
        let file = open("/dev/vfio/vfio".to_owned())?;
        let group = open(format!("/dev/vfio/{group}"))?;
        sys::set_container(&group, &file)?;
        sys::set_iommu(&file, VFIO_TYPE1v2_IOMMU)?;
        let _group = group;
        Ok(Self { file, _group })
    }
}

/// Memory of this process's, in pages of one size.
struct Memory {
    base: usize,
    bytes: usize,
}

impl Memory {
    fn of(page: usize, bytes: usize) -> Result<Self, Box<dyn Error>> {
        let huge = match page {
            LARGE => MapFlags::MAP_HUGETLB | MapFlags::MAP_HUGE_2MB,
            _ => MapFlags::empty(),
        };
        let (length, access) = (
            NonZeroUsize::new(bytes).ok_or("no memory is mapped")?,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        );
        // SAFETY: a fresh mapping at an address of the kernel's choosing.
        let base = unsafe {
            mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE | huge)
                .map_err(|error| format!("{bytes} bytes in pages of {page}: {error}"))?
        };
        let advice = match page {
            LARGE => None,
            _ => Some(MmapAdvise::MADV_NOHUGEPAGE),
        };
        for advice in advice.into_iter().chain([MmapAdvise::MADV_POPULATE_WRITE]) {
            // SAFETY: the mapping made just now, which holds nothing.
            unsafe { madvise(base, bytes, advice)? };
        }
        let base = base.as_ptr().addr();
        Ok(Self { base, bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(base) = std::ptr::NonNull::new(self.base as *mut _) {
            // SAFETY: this value's own mapping, to which no reference was ever made.
            let _ = unsafe { munmap(base, self.bytes) };
        }
    }
}

/// One way to map memory: in pieces of this many bytes.
struct Way<'a> {
    name: &'static str,
    memory: &'a Memory,
    piece: usize,
    mapping: Vec<Duration>,
    unmapping: Vec<Duration>,
}

impl<'a> Way<'a> {
    fn new(name: &'static str, memory: &'a Memory, piece: usize) -> Self {
        Self {
            name,
            memory,
            piece,
            mapping: Vec::new(),
            unmapping: Vec::new(),
        }
    }

    fn time(&mut self, container: &Container) -> Result<(), Box<dyn Error>> {
        let pieces = || (0..self.memory.bytes).step_by(self.piece);
        let failed = |error| format!("{}: {error}", self.name);
        let start = Instant::now();
        for at in pieces() {
            let map = vfio_iommu_type1_dma_map {
                argsz: size_of::<vfio_iommu_type1_dma_map>() as u32,
                flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                vaddr: (self.memory.base + at) as u64,
                iova: IOVA + at as u64,
                size: self.piece as u64,
            };
            // SAFETY: nobody but the device reaches this memory, and nobody drives that.
            unsafe { sys::map_dma(&container.file, &map) }.map_err(failed)?;
        }
        let mapped = start.elapsed();
        for at in pieces() {
            let (iova, bytes) = (IOVA + at as u64, self.piece as u64);
            let unmapped = sys::unmap_dma(&container.file, iova, bytes).map_err(failed)?;
            if unmapped != bytes {
                return Err(format!("{}: {unmapped} bytes unmapped", self.name).into());
            }
        }
        self.mapping.push(mapped);
        self.unmapping.push(start.elapsed() - mapped);
        Ok(())
    }

    fn show(&self) {
        let name = self.name;
        let mappings = self.memory.bytes / self.piece;
        let (map, unmap) = (figures(&self.mapping), figures(&self.unmapping));
        println!("{name:<24} {mappings:>7} mappings: {map} ms; away {unmap} ms");
    }
}

/// Median, least and most, in milliseconds.
fn figures(times: &[Duration]) -> String {
    let mut times: Vec<f64> = times.iter().map(|time| 1e3 * time.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    match times.as_slice() {
        [] => "nothing".to_owned(),
        [first, .., last] | [first @ last] => {
            format!("{:.1} ({first:.1} to {last:.1})", times[times.len() / 2])
        }
    }
}
