//! The device's view of physical memory: one large reserved range of addresses in which the page at
//! physical address P, where the driver owns it, appears at `base + P`.
//!
//! Translation is one addition and one look into a table of 2 MiB pages. The table says `true` only
//! while a page is mapped, and pages are unmapped only by [`Window::clear`], when no datapath runs: an
//! address the table allows is safe to use.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::SharedBarError;

/// Bytes in a huge page.
pub const HUGE_PAGE: u64 = 2 << 20;
const SHIFT: u32 = HUGE_PAGE.trailing_zeros();

/// Memory of a driver, at its physical addresses.
pub struct Window {
    base: NonNull<u8>,
    mapped: Box<[AtomicBool]>,
}

// SAFETY: the window is raw memory shared with another process; whoever uses an address from it
// treats it as such. The table is atomic.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Reserves addresses for all physical memory of the machine.
    ///
    /// # Errors
    /// [`SharedBarError::Map`] when the address space has no such range.
    pub fn new() -> Result<Self, SharedBarError> {
        let pages = physical_end().div_ceil(HUGE_PAGE).max(1) as usize;
        let length = pages << SHIFT;
        // One page more, so that a 2 MiB-aligned base fits.
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        let reserve = NonZeroUsize::new(length + HUGE_PAGE as usize).ok_or_else(unmappable)?;
        // SAFETY: a new inaccessible mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe { mmap_anonymous(None, reserve, ProtFlags::PROT_NONE, flags) }
            .map_err(map_error("the window onto physical memory"))?;
        let offset = start.as_ptr().align_offset(HUGE_PAGE as usize);
        // SAFETY: `offset` is below one huge page, and the mapping is that much longer.
        let base = unsafe { start.cast::<u8>().add(offset) };
        let mapped = (0..pages).map(|_| AtomicBool::new(false)).collect();
        Ok(Self { base, mapped })
    }

    /// Whether the page at physical address `at` is there.
    pub fn contains(&self, at: u64) -> bool {
        self.mapped
            .get((at >> SHIFT) as usize)
            .is_some_and(|page| page.load(Ordering::Acquire))
    }

    /// The address of `length` bytes at physical address `at`, if the driver owns all of them.
    #[inline(always)]
    pub fn pointer(&self, at: u64, length: u32) -> Option<NonNull<u8>> {
        let last = at.checked_add(u64::from(length.max(1)) - 1)?;
        let there = |page: u64| {
            self.mapped
                .get((page >> SHIFT) as usize)
                .is_some_and(|page| page.load(Ordering::Relaxed))
        };
        if !there(at) || (at >> SHIFT != last >> SHIFT && !there(last)) {
            return None;
        }
        // SAFETY: a mapped page lies inside the reserved range.
        Some(unsafe { self.base.add(at as usize) })
    }

    /// Shows the huge page at `offset` of `file`, whose physical address is `at`.
    ///
    /// # Errors
    /// [`SharedBarError::Map`] when the address is none of this machine's, or the kernel refuses.
    pub(super) fn map(&self, file: &File, offset: u64, at: u64) -> Result<(), SharedBarError> {
        let page = self.mapped.get((at >> SHIFT) as usize);
        let Some(page) = page.filter(|_| at.is_multiple_of(HUGE_PAGE)) else {
            return Err(unmappable());
        };
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: the target is one page of our reserved range. Where it replaces a page mapped
        // before, a new page of the same driver takes its place: still readable and writable.
        unsafe {
            let target = self.base.add(at as usize).addr();
            mmap(
                Some(target),
                NonZeroUsize::MIN.saturating_add(HUGE_PAGE as usize - 1),
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                flags,
                file.as_fd(),
                offset as libc::off_t,
            )
        }
        .map_err(map_error("a huge page of the driver"))?;
        page.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes every page away.
    ///
    /// # Safety
    /// No address that [`pointer`](Self::pointer) returned is used any more, and neither `pointer`
    /// nor [`map`](Self::map) is called during the call.
    pub(super) unsafe fn clear(&self) {
        for (index, page) in self.mapped.iter().enumerate() {
            if !page.swap(false, Ordering::AcqRel) {
                continue;
            }
            let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_FIXED;
            let length = NonZeroUsize::MIN.saturating_add(HUGE_PAGE as usize - 1);
            // SAFETY: replaces one page of our own range, which nobody uses (the
            // caller's promise), by an inaccessible one.
            let replaced = unsafe {
                let target = self.base.add(index << SHIFT).addr();
                mmap_anonymous(Some(target), length, ProtFlags::PROT_NONE, flags)
            };
            // A page that cannot be taken away stays mapped, unreachable: the table says no.
            let _ = replaced;
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and nobody can hold the window any more. The unaligned edges of
        // the reservation (less than a huge page, inaccessible) stay behind.
        let _ = unsafe { munmap(self.base.cast(), self.mapped.len() << SHIFT) };
    }
}

fn unmappable() -> SharedBarError {
    SharedBarError::Map {
        what: "a physical address beyond this machine's memory".to_owned(),
        source: nix::errno::Errno::ERANGE,
    }
}

fn map_error(what: &'static str) -> impl Fn(nix::errno::Errno) -> SharedBarError {
    move |source| SharedBarError::Map {
        what: what.to_owned(),
        source,
    }
}

/// One above the highest address of memory (1 TiB where the machine does not tell).
fn physical_end() -> u64 {
    let text = std::fs::read_to_string("/proc/iomem").unwrap_or_default();
    memory_end(&text).unwrap_or(1 << 40)
}

fn memory_end(iomem: &str) -> Option<u64> {
    iomem
        .lines()
        .filter_map(|line| line.split_once(" : "))
        .filter(|(_, what)| *what == "System RAM")
        .filter_map(|(range, _)| u64::from_str_radix(range.trim().split_once('-')?.1, 16).ok())
        .filter(|&last| last > 0)
        .max()
        .map(|last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_memory() {
        let text = "00001000-0009fbff : System RAM\n00100000-7fffffff : System RAM\n  01000000-01ffffff : Kernel code\nfee00000-fee00fff : Local APIC\n";
        assert_eq!(memory_end(text), Some(0x8000_0000));
        assert_eq!(memory_end("00000000-00000000 : System RAM\n"), None);
    }

    #[test]
    fn an_empty_window_allows_nothing() {
        let window = Window::new().unwrap();
        for at in [0, HUGE_PAGE - 1, 1 << 30, u64::MAX - 3, u64::MAX] {
            assert_eq!(window.pointer(at, 64), None);
        }
    }

    #[test]
    fn only_mapped_pages_are_allowed() {
        let window = Window::new().unwrap();
        // Ordinary memory of the same size stands in for a huge page.
        let file = File::from(
            nix::sys::memfd::memfd_create(c"page", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap(),
        );
        file.set_len(HUGE_PAGE).unwrap();
        window.map(&file, 0, HUGE_PAGE).unwrap();
        assert!(window.pointer(HUGE_PAGE, 64).is_some());
        assert!(window.pointer(2 * HUGE_PAGE - 64, 64).is_some());
        assert!(window.pointer(2 * HUGE_PAGE - 63, 64).is_none());
        assert!(window.pointer(HUGE_PAGE - 1, 64).is_none());
        window.map(&file, 0, HUGE_PAGE + 4096).unwrap_err();
        // SAFETY: no other thread knows the window, and no address is in use.
        unsafe { window.clear() };
        assert!(window.pointer(HUGE_PAGE, 64).is_none());
    }
}
