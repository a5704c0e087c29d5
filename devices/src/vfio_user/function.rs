//! What a PCI function offers to be served.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::lines::{Change, Lines};
use super::message::Area;
use crate::memory::GuestMemory;

/// A PCI function that [`session`](super::session) serves.
pub trait Function: Send + Sync {
    /// How many regions there are, those of every PCI function included.
    fn regions(&self) -> u32;

    /// Region `index`, if it is one.
    fn region(&self, index: u32) -> Option<Region<'_>>;

    /// Reads a region; `offset` and `data` lie inside.
    ///
    /// # Errors
    /// What the other side is told.
    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// Writes a region; `offset` and `data` lie inside.
    ///
    /// # Errors
    /// What the other side is told, if it asked.
    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// The memory the other side lends.
    fn memory(&self) -> &GuestMemory;

    /// Its interrupts.
    fn lines(&self) -> &Lines;

    /// Changes them ([`Lines::set`]), the level of the pin standing still.
    fn set_lines(&self, change: Change);

    /// As at power-on: it uses no memory when this returns.
    fn reset(&self);
}

/// A region of a function.
#[derive(Clone, Copy)]
pub struct Region<'a> {
    /// Its length.
    pub bytes: u64,
    /// What can be mapped of it, and where; all the rest is reached by messages.
    pub mappable: Option<(BorrowedFd<'a>, Area)>,
    /// Type and number within the type, of one that is no BAR.
    pub kind: Option<(u32, u32)>,
}
