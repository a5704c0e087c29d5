//! What a port's silicon understands of a frame: pure functions over bytes.
//!
//! [`layout`] finds the headers, [`checksum`] is the ones' complement and CRC32c arithmetic,
//! [`offload`] verifies on receive and inserts on transmit, [`vlan`] takes tags out and puts them
//! in, [`rss`] hashes. Nothing here keeps state or knows of descriptors.
//!
//! Invariant: any bytes are a frame. No function panics, whatever the length or contents; what
//! cannot be understood is "other", as silicon passes it on.

pub mod checksum;
pub mod layout;
pub mod offload;
pub mod rss;
pub mod segment;
pub mod vlan;

pub use layout::{L3, L4, Layout};
pub use offload::{InsertError, ReceiveChecksums, TransmitChecksums, Verdict};
pub use rss::{RssFields, RssHash, RssType, Toeplitz};
pub use segment::Segmentation;

/// The 16-bit big-endian field at `at`, if the frame is long enough.
#[inline]
fn be16(frame: &[u8], at: usize) -> Option<u16> {
    let bytes = frame.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests;
