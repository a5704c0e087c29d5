//! Capture files: reading pcap and pcapng, writing pcap.
//!
//! Only Ethernet captures: what goes in and out are whole frames without frame check sequence.
//! A file is untrusted: whatever its bytes, reading it ends in frames or in a [`CaptureError`]
//! that names the file, the place and the remedy, and memory stays bounded by what was read.
#![forbid(unsafe_code)]

mod error;
mod pcapng;
mod read;
mod write;

pub use error::{CaptureError, Fault};
pub use read::{Frame, Reader};
pub use write::{Precision, RotatingWriter, Writer};

/// The longest frame in a capture, in bytes: what libpcap's tools take, far above any Ethernet
/// frame. A longer one is a damaged length field.
pub const MAX_FRAME: usize = 262_144;

/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;
const NANOSECONDS: u64 = 1_000_000_000;
