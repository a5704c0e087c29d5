//! Pages for domain images: anonymous private mappings, given back when dropped.
//!
//! Invariant: no page is ever both writable and executable.

use std::ops::Range;
use std::ptr;

use sumac_runtime::load::memory::{Access, ImageMemory, ImagePages, MemoryError, PAGE};

/// Images in this process's memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxImages;

impl ImageMemory for LinuxImages {
    fn reserve(&self, bytes: usize) -> Result<Box<dyn ImagePages>, MemoryError> {
        let none = |code| MemoryError::None { bytes, code };
        let whole = bytes
            .checked_next_multiple_of(PAGE)
            .filter(|whole| *whole > 0)
            .ok_or_else(|| none(libc::EINVAL))?;
        // SAFETY: a new private mapping, wherever the system finds room: it touches none that is there.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(none(last_error()));
        }
        Ok(Box::new(Pages {
            base: base.cast(),
            bytes: whole,
            read_only: 0..0,
        }))
    }
}

/// One image's mapping.
struct Pages {
    base: *mut u8,
    bytes: usize,
    /// From the first page that was protected to the last: nothing there is written any more.
    read_only: Range<usize>,
}

// SAFETY: the mapping belongs to no thread; it is changed through `&mut` only.
unsafe impl Send for Pages {}
// SAFETY: shared access tells where the mapping is, no more.
unsafe impl Sync for Pages {}

// SAFETY: `base` and `bytes` are of a private mapping of its own, unmapped in `drop` and not before.
unsafe impl ImagePages for Pages {
    fn base(&self) -> usize {
        self.base.addr()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn write(&mut self, at: usize, contents: &[u8]) -> Result<(), MemoryError> {
        let range = self.within(at..at.saturating_add(contents.len()))?;
        if range.start < self.read_only.end && self.read_only.start < range.end {
            return Err(MemoryError::Range {
                start: range.start,
                end: range.end,
            });
        }
        // SAFETY: the range is of this mapping, still writable, and nobody has a reference into it.
        unsafe {
            ptr::copy_nonoverlapping(
                contents.as_ptr(),
                self.base.add(range.start),
                contents.len(),
            );
        }
        Ok(())
    }

    fn protect(&mut self, range: Range<usize>, access: Access) -> Result<(), MemoryError> {
        let range = self.within(range)?;
        if !range.start.is_multiple_of(PAGE) || !range.end.is_multiple_of(PAGE) {
            return Err(MemoryError::Range {
                start: range.start,
                end: range.end,
            });
        }
        let rights = match access {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
            Access::Execute => libc::PROT_READ | libc::PROT_EXEC,
        };
        // SAFETY: whole pages of this mapping, to which nobody has a reference.
        let result =
            unsafe { libc::mprotect(self.base.add(range.start).cast(), range.len(), rights) };
        if result != 0 {
            return Err(MemoryError::Protect {
                access,
                code: last_error(),
            });
        }
        if access != Access::Write {
            let known = self.read_only.clone();
            self.read_only = if known.is_empty() {
                range
            } else {
                known.start.min(range.start)..known.end.max(range.end)
            };
        }
        Ok(())
    }
}

impl Pages {
    fn within(&self, range: Range<usize>) -> Result<Range<usize>, MemoryError> {
        if range.start <= range.end && range.end <= self.bytes {
            return Ok(range);
        }
        Err(MemoryError::Range {
            start: range.start,
            end: range.end,
        })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this mapping, which its owner gives up: nothing of it is used after this.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

fn last_error() -> i32 {
    std::io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rights of the mapping at an address, as /proc tells them.
    fn rights(address: usize) -> Option<String> {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("the process's mappings");
        maps.lines().find_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            (number(start)?..number(end)?)
                .contains(&address)
                .then(|| rest[..4].to_owned())
        })
    }

    #[test]
    fn test_pages_get_the_rights_asked_for_and_go() {
        let mut pages = LinuxImages.reserve(3 * PAGE - 7).expect("three pages");
        let base = pages.base();
        assert_eq!((pages.bytes(), base % PAGE), (3 * PAGE, 0));
        pages.write(PAGE - 2, &[1, 2, 3, 4]).expect("within");
        pages.protect(0..PAGE, Access::Execute).expect("whole");
        pages.protect(PAGE..2 * PAGE, Access::Read).expect("whole");
        let at = |page| rights(base + page * PAGE);
        assert_eq!(at(0).as_deref(), Some("r-xp"));
        assert_eq!(at(1).as_deref(), Some("r--p"));
        assert_eq!(at(2).as_deref(), Some("rw-p"));
        drop(pages);
        // Another test's thread may map something here; not with these rights.
        assert_ne!(rights(base).as_deref(), Some("r-xp"));
    }

    #[test]
    fn test_ranges_outside_are_refused() {
        let mut pages = LinuxImages.reserve(PAGE).expect("a page");
        let outside = |result| matches!(result, Err(MemoryError::Range { .. }));
        assert!(outside(pages.write(PAGE - 1, &[1, 2])));
        assert!(outside(pages.write(usize::MAX, &[1, 2])));
        assert!(outside(pages.protect(0..2 * PAGE, Access::Read)));
        assert!(outside(pages.protect(0..PAGE - 1, Access::Read)));
        pages.protect(0..PAGE, Access::Read).expect("whole");
        assert!(outside(pages.write(0, &[1])));
        assert!(matches!(
            LinuxImages.reserve(0),
            Err(MemoryError::None { .. })
        ));
        assert!(matches!(
            LinuxImages.reserve(1 << 60),
            Err(MemoryError::None { .. })
        ));
    }
}
