//! DMA memory that is not given back: what a device still does there after its driver let go of it shows.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use sumac_device::{DmaError, DmaMapping, DmaMemory, DmaSpace};

/// What memory is filled with that nobody may use any more.
const FILL: u8 = 0xa5;

/// Memory of another space, kept when it is dropped.
pub struct Graveyard {
    space: Arc<dyn DmaSpace>,
    graves: Arc<Mutex<Vec<DmaMemory>>>,
}

impl Graveyard {
    /// Keeps what `space` gives.
    pub fn new(space: Arc<dyn DmaSpace>) -> Self {
        let graves = Arc::default();
        Self { space, graves }
    }

    /// How many pieces of memory were dropped; none of them was written since.
    ///
    /// # Panics
    /// A device wrote there.
    pub fn check(&self) -> usize {
        let graves = self.graves.lock().unwrap_or_else(PoisonError::into_inner);
        for memory in graves.iter() {
            for offset in 0..memory.len() {
                // SAFETY: within the memory, which is kept; a device that still writes there races with
                // this, which is what the test is to find out.
                let byte = unsafe { memory.base().add(offset).read_volatile() };
                assert_eq!(
                    byte, FILL,
                    "a device wrote byte {offset} after its driver was gone"
                );
            }
        }
        graves.len()
    }
}

impl DmaSpace for Graveyard {
    fn allocate(&self, len: usize, align: usize) -> Result<DmaMemory, DmaError> {
        let memory = self.space.allocate(len, align)?;
        Ok(DmaMemory::new(Box::new(Mortal {
            memory: Some(memory),
            graves: self.graves.clone(),
        })))
    }
}

/// Memory that goes to its grave when it is dropped.
struct Mortal {
    /// None only while this is dropped.
    memory: Option<DmaMemory>,
    graves: Arc<Mutex<Vec<DmaMemory>>>,
}

impl Mortal {
    fn memory(&self) -> &DmaMemory {
        self.memory.as_ref().expect("it is not dropped yet")
    }
}

// SAFETY: all of it is the memory's own, which is never freed before this is gone.
unsafe impl DmaMapping for Mortal {
    fn base(&self) -> NonNull<u8> {
        self.memory().base()
    }
    fn len(&self) -> usize {
        self.memory().len()
    }
    fn iova(&self) -> u64 {
        self.memory().iova().to_bits()
    }
    fn huge_pages(&self) -> bool {
        self.memory().huge_pages()
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else {
            return;
        };
        // SAFETY: all of the memory, whose user is gone.
        unsafe { memory.base().as_ptr().write_bytes(FILL, memory.len()) };
        let mut graves = self.graves.lock().unwrap_or_else(PoisonError::into_inner);
        graves.push(memory);
    }
}
