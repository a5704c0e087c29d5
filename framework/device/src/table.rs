//! [`Table`]: what a driver's rings know of the buffers they posted, in memory of the host's.
//!
//! The device cannot reach it, and when a driver is gone the host reads there which buffers to take
//! back, once the device stands still.

use alloc::boxed::Box;
use core::ptr::NonNull;

use crate::ring::{BufferId, NO_BUFFER};

/// The host's memory behind a [`Table`], given back when dropped.
///
/// # Safety
/// Implementers promise that `len` buffer numbers at `cells` are valid, each [`NO_BUFFER`] when first
/// handed out, and written by nobody else until dropped.
pub unsafe trait TableMemory: Send {
    /// The first number.
    fn cells(&self) -> NonNull<BufferId>;
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Numbers of buffers, slot by slot; [`NO_BUFFER`] where there is none.
pub struct Table {
    cells: NonNull<BufferId>,
    len: usize,
    _memory: Box<dyn TableMemory>,
}

// SAFETY: a table is the only access to its numbers; the memory is Send.
unsafe impl Send for Table {}

impl Table {
    /// Wraps a host's memory.
    pub fn new(memory: Box<dyn TableMemory>) -> Self {
        Self {
            cells: memory.cells(),
            len: memory.len(),
            _memory: memory,
        }
    }

    /// A table in memory of the driver's own: of a driver that is part of its host.
    pub fn of_heap(len: usize) -> Self {
        let cells: Box<[BufferId]> = (0..len).map(|_| NO_BUFFER).collect();
        Self::new(Box::new(OfHeap(NonNull::from(Box::leak(cells)))))
    }

    /// The first number, and how many there are.
    pub(crate) fn parts(&mut self) -> (NonNull<BufferId>, usize) {
        (self.cells, self.len)
    }
}

/// Boxed numbers, by pointer: a table writes there while the box is held.
struct OfHeap(NonNull<[BufferId]>);

// SAFETY: the numbers are this table's until dropped.
unsafe impl Send for OfHeap {}

// SAFETY: the box's numbers are all NO_BUFFER at first, and reached through this only.
unsafe impl TableMemory for OfHeap {
    fn cells(&self) -> NonNull<BufferId> {
        self.0.cast()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

impl Drop for OfHeap {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and the table is gone.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
