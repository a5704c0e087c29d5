//! A register BAR of which parts are mapped into this process, and the rest is reached by calls.
//!
//! Invariant: an [`Area`]'s mapping lives as long as the BAR, and nothing but 32-bit volatile or atomic accesses
//! ever touches it: what lies behind is a device, not memory.

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use sumac_device::RegisterIo;

/// Accesses to registers that are not mapped.
pub(crate) trait Calls: Send + Sync {
    /// Reads the register at `offset`; all ones when the device does not answer.
    fn read32(&self, offset: u32) -> u32;
    /// Writes it; lost when the device does not answer.
    fn write32(&self, offset: u32, value: u32);
}

/// A BAR, mapped where it can be.
pub(crate) struct MappedBar<C> {
    len: u32,
    areas: Vec<Area>,
    /// Cells of which some may be stored to, and which.
    doorbells: Option<(Area, fn(u32) -> bool)>,
    rest: C,
}

impl<C> MappedBar<C> {
    /// A BAR of `len` bytes with these areas mapped.
    pub fn new(len: u32, areas: Vec<Area>, rest: C) -> Self {
        Self {
            len,
            areas,
            doorbells: None,
            rest,
        }
    }

    /// As well stores to the registers for which `is_doorbell` holds, in `cells`; reads of them are calls.
    pub fn with_doorbells(self, cells: Area, is_doorbell: fn(u32) -> bool) -> Self {
        Self {
            doorbells: Some((cells, is_doorbell)),
            ..self
        }
    }

    /// The cell that a store at `offset` may go to.
    #[inline]
    fn target(&self, offset: u32) -> Option<NonNull<u32>> {
        let doorbell = || {
            let (cells, is_doorbell) = self.doorbells.as_ref()?;
            cells.cell(offset).filter(|_| is_doorbell(offset))
        };
        self.cell(offset).or_else(doorbell)
    }

    /// The cell at `offset`, if it is mapped.
    #[inline]
    fn cell(&self, offset: u32) -> Option<NonNull<u32>> {
        self.areas.iter().find_map(|area| area.cell(offset))
    }

    /// Whether there is a register at `offset`.
    #[inline]
    fn has(&self, offset: u32) -> bool {
        offset.is_multiple_of(4) && offset < self.len.saturating_sub(3)
    }
}

// SAFETY: a cell lies in an area, which lives as long as `self` and is shared with the device alone.
unsafe impl<C: Calls> RegisterIo for MappedBar<C> {
    fn len(&self) -> u32 {
        self.len
    }

    fn read32(&self, offset: u32) -> u32 {
        if !self.has(offset) {
            return u32::MAX;
        }
        match self.cell(offset) {
            // SAFETY: an aligned register within a mapped area.
            Some(cell) => unsafe { cell.as_ptr().read_volatile() },
            None => self.rest.read32(offset),
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        if !self.has(offset) {
            return;
        }
        match self.target(offset) {
            // SAFETY: an aligned register within a mapped area.
            Some(cell) => unsafe { cell.as_ptr().write_volatile(value) },
            None => self.rest.write32(offset, value),
        }
    }

    fn mapped(&self, offset: u32) -> Option<NonNull<AtomicU32>> {
        self.target(offset)
            .filter(|_| self.has(offset))
            .map(NonNull::cast)
    }
}

/// A mapped part of a BAR.
pub(crate) struct Area {
    offset: u32,
    len: u32,
    base: NonNull<u8>,
}

// SAFETY: registers may be reached from any thread; the mapping is this value's.
unsafe impl Send for Area {}
// SAFETY: as above; accesses are single 32-bit loads and stores.
unsafe impl Sync for Area {}

impl Area {
    /// Maps `len` bytes at `position` of `file` as the part of a BAR that begins at `offset`; all of it whole
    /// pages.
    ///
    /// # Errors
    /// What the system says.
    pub fn map(file: impl AsFd, position: u64, offset: u32, len: u32) -> io::Result<Self> {
        let bad = || io::Error::from(io::ErrorKind::InvalidInput);
        let length = NonZeroUsize::new(len as usize).ok_or_else(bad)?;
        let position = libc::off_t::try_from(position).map_err(|_| bad())?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choosing.
        let base = unsafe {
            mmap(
                None,
                length,
                protection,
                MapFlags::MAP_SHARED,
                file,
                position,
            )
        }?;
        Ok(Self {
            offset,
            len,
            base: base.cast(),
        })
    }

    #[inline]
    fn cell(&self, offset: u32) -> Option<NonNull<u32>> {
        let within = offset.checked_sub(self.offset)?;
        let whole = within.is_multiple_of(4) && within <= self.len.checked_sub(4)?;
        // SAFETY: the register's four bytes lie within the mapping.
        whole.then(|| unsafe { self.base.add(within as usize) }.cast())
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: this value's own mapping; whoever was handed a cell keeps the BAR alive.
        let _ = unsafe { munmap(self.base.cast::<c_void>(), self.len as usize) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    #[derive(Default)]
    struct Called(Mutex<Vec<(u32, u32)>>);

    impl Calls for Called {
        fn read32(&self, offset: u32) -> u32 {
            offset + 1
        }
        fn write32(&self, offset: u32, value: u32) {
            self.0.lock().unwrap().push((offset, value));
        }
    }

    #[test]
    fn mapped_parts_are_reached_directly_and_the_rest_by_calls() {
        let file = File::from(memfd_create(c"bar", MFdFlags::MFD_CLOEXEC).unwrap());
        file.set_len(0x3000).unwrap();
        let area = Area::map(&file, 0x1000, 0x2000, 0x1000).unwrap();
        let bar = MappedBar::new(0x4000, vec![area], Called::default());
        bar.write32(0x2ffc, 7);
        bar.write32(0x3000, 8);
        bar.write32(0x1ffc, 9);
        for lost in [0x4000, u32::MAX, 0x2001] {
            bar.write32(lost, 1);
            assert_eq!((bar.read32(lost), bar.mapped(lost)), (u32::MAX, None));
        }
        assert_eq!(*bar.rest.0.lock().unwrap(), [(0x3000, 8), (0x1ffc, 9)]);
        assert_eq!((bar.read32(0x2ffc), bar.read32(0x3000)), (7, 0x3001));
        assert!(bar.mapped(0x3000).is_none() && bar.mapped(0x1ffc).is_none());
        let cell = bar.mapped(0x2ffc).unwrap();
        // SAFETY: the cell lives as long as `bar`.
        unsafe { cell.as_ref() }.store(10, Ordering::Relaxed);
        assert_eq!(bar.read32(0x2ffc), 10);
    }
}
