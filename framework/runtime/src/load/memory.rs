//! What the loader asks of a host: pages for an image.

use alloc::boxed::Box;
use core::ops::Range;

/// Bytes of a page, to which segments are aligned.
pub const PAGE: usize = 4096;

/// What may be done with pages. Never both writing and executing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading: constants, and what relocation wrote.
    Read,
    /// Reading and writing: variables.
    Write,
    /// Reading and executing: code.
    Execute,
}

/// Why pages were not to be had, or not to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The host has none left.
    #[error("no memory for {bytes} bytes of the image (system error {code})")]
    None {
        /// How many bytes were asked for.
        bytes: usize,
        /// The host's number for it.
        code: i32,
    },
    /// The host did not change what may be done with pages.
    #[error("the system does not allow {access:?} on the image's pages (system error {code})")]
    Protect {
        /// What was asked for.
        access: Access,
        /// The host's number for it.
        code: i32,
    },
    /// A range outside what was reserved, or not of whole pages.
    #[error("bytes {start:#x}..{end:#x} are not of the image's memory")]
    Range {
        /// Where the range begins in the image.
        start: usize,
        /// Where it ends.
        end: usize,
    },
}

/// Where images live.
pub trait ImageMemory {
    /// Reserves zeroed pages that can be written, for `bytes` rounded up to whole pages.
    ///
    /// # Errors
    /// [`MemoryError::None`].
    fn reserve(&self, bytes: usize) -> Result<Box<dyn ImagePages>, MemoryError>;
}

/// The pages of one image; given back when dropped.
///
/// # Safety
/// `base` is the address of `bytes` bytes, page aligned, which are nobody else's and stay where they are
/// until this is dropped, and keep what is written to them.
pub unsafe trait ImagePages: Send + Sync {
    /// Where they are.
    fn base(&self) -> usize;

    /// How many bytes they have.
    fn bytes(&self) -> usize;

    /// Writes at `at` bytes from the base. Only before the page is protected.
    ///
    /// # Errors
    /// [`MemoryError::Range`].
    fn write(&mut self, at: usize, contents: &[u8]) -> Result<(), MemoryError>;

    /// Says what may be done from now on with the pages of a range, counted from the base.
    ///
    /// # Errors
    /// [`MemoryError::Range`] or [`MemoryError::Protect`].
    fn protect(&mut self, range: Range<usize>, access: Access) -> Result<(), MemoryError>;
}
