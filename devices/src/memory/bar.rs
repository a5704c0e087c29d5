//! A BAR whose accesses are calls, but for the cells that need none.
//!
//! Invariant: the cells live as long as the BAR and are never replaced, so a pointer to one may be
//! handed to a driver.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use sumac_device::RegisterIo;

/// Register cells inside this process.
pub struct BarCells(Box<[AtomicU32]>);

impl BarCells {
    /// A BAR of `bytes` bytes, all zero.
    pub fn new(bytes: u32) -> Self {
        Self((0..bytes / 4).map(|_| AtomicU32::new(0)).collect())
    }
}

impl AsRef<[AtomicU32]> for BarCells {
    fn as_ref(&self) -> &[AtomicU32] {
        &self.0
    }
}

/// What happens at a register access.
pub trait Trap: Send + Sync {
    /// Reads the register at byte `offset`.
    fn read(&self, offset: u32) -> u32;
    /// Writes it.
    fn write(&self, offset: u32, value: u32);
    /// Whether the register is a plain cell that may be stored to directly.
    fn untrapped(&self, offset: u32) -> bool;
}

/// A BAR of cells and a trap.
pub struct TrappedBar {
    cells: Arc<BarCells>,
    trap: Arc<dyn Trap>,
}

impl TrappedBar {
    /// A BAR over `cells`, whose accesses go to `trap`.
    pub fn new(cells: Arc<BarCells>, trap: Arc<dyn Trap>) -> Self {
        Self { cells, trap }
    }
}

// SAFETY: a mapped cell is an atomic inside a box that `self` keeps alive and that is never
// replaced; everybody reaches it as an atomic.
unsafe impl RegisterIo for TrappedBar {
    fn len(&self) -> u32 {
        (self.cells.0.len() * 4) as u32
    }

    fn read32(&self, offset: u32) -> u32 {
        self.trap.read(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.trap.write(offset, value);
    }

    fn mapped(&self, offset: u32) -> Option<NonNull<AtomicU32>> {
        if !self.trap.untrapped(offset) {
            return None;
        }
        (self.cells.0.get((offset / 4) as usize)).map(NonNull::from)
    }
}
