//! A host's memory that counts, and looks at what the loader does with it.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;

use sumac_runtime::load::memory::{Access, ImageMemory, ImagePages, MemoryError, PAGE};

/// What became of one image's pages.
#[derive(Debug, Default)]
pub struct Seen {
    pub bytes: Vec<u8>,
    pub access: Vec<Option<Access>>,
    pub gone: bool,
}

/// Counts reservations; may be told to fail at the n-th change of rights.
#[derive(Default)]
pub struct Counting {
    pub reserved: Cell<usize>,
    pub fail_protect: Cell<Option<usize>>,
    pub last: Cell<Option<Arc<Mutex<Seen>>>>,
}

impl ImageMemory for Counting {
    fn reserve(&self, bytes: usize) -> Result<Box<dyn ImagePages>, MemoryError> {
        self.reserved.set(self.reserved.get() + 1);
        let pages = bytes.div_ceil(PAGE);
        let seen = Arc::new(Mutex::new(Seen {
            bytes: vec![0; pages * PAGE],
            access: vec![None; pages],
            gone: false,
        }));
        self.last.set(Some(seen.clone()));
        Ok(Box::new(Pages {
            seen,
            fail_protect: self.fail_protect.get(),
        }))
    }
}

struct Pages {
    seen: Arc<Mutex<Seen>>,
    fail_protect: Option<usize>,
}

// SAFETY: never entered; the base is an address only.
unsafe impl ImagePages for Pages {
    fn base(&self) -> usize {
        BASE
    }

    fn bytes(&self) -> usize {
        self.seen.lock().expect("one thread").bytes.len()
    }

    fn write(&mut self, at: usize, contents: &[u8]) -> Result<(), MemoryError> {
        let mut seen = self.seen.lock().expect("one thread");
        let pages = at / PAGE..(at + contents.len()).div_ceil(PAGE);
        assert!(
            seen.access[pages].iter().all(Option::is_none),
            "written after protecting"
        );
        seen.bytes[at..at + contents.len()].copy_from_slice(contents);
        Ok(())
    }

    fn protect(&mut self, range: Range<usize>, access: Access) -> Result<(), MemoryError> {
        assert!(
            range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE),
            "{range:?}"
        );
        match &mut self.fail_protect {
            Some(0) => return Err(MemoryError::Protect { access, code: 13 }),
            Some(left) => *left -= 1,
            None => {}
        }
        let mut seen = self.seen.lock().expect("one thread");
        seen.access[range.start / PAGE..range.end / PAGE].fill(Some(access));
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.seen.lock().expect("one thread").gone = true;
    }
}

/// Where images are said to be.
pub const BASE: usize = 0x7000_0000_0000;
