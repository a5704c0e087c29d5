//! What can be wrong with a capture file, and what to do about it.

use std::io;
use std::path::PathBuf;

/// A fault of one capture file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", file.display())]
pub struct CaptureError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    #[source]
    pub fault: Fault,
}

/// What is wrong with a capture file. Frames are counted from 1, as Wireshark does.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file cannot be opened for reading.
    #[error("cannot open the capture: {0}")]
    Open(io::Error),
    /// The file cannot be created.
    #[error("cannot create the capture: {0}")]
    Create(io::Error),
    /// Reading failed.
    #[error("reading failed at byte {offset}: {source}")]
    Read {
        /// Where, in bytes from the file's start.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// Writing failed; what was written before may be incomplete.
    #[error("writing frame {frame} failed: {source}")]
    Write {
        /// The frame being written, or the last one when flushing.
        frame: u64,
        /// Why.
        source: io::Error,
    },
    /// The file does not begin as a capture does.
    #[error("not a capture: neither a pcap nor a pcapng header; give a file that tcpdump reads")]
    NotACapture,
    /// A version of the format that is not known.
    #[error("capture format version {major}.{minor} is not known; convert it with editcap -F pcap")]
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// Frames of another link type than Ethernet.
    #[error("link type {0} is not Ethernet (1); capture on an Ethernet interface")]
    LinkType(u32),
    /// The file ends within a header or a frame.
    #[error("the file ends in the middle of frame {frame} (at byte {offset}); copy it again")]
    Truncated {
        /// The frame that is not whole.
        frame: u64,
        /// Where its record begins, in bytes from the file's start.
        offset: u64,
    },
    /// The capture holds only the beginning of a frame.
    #[error(
        "frame {frame} was cut to {captured} of {original} bytes; capture again with tcpdump -s 0"
    )]
    Cut {
        /// The frame.
        frame: u64,
        /// Bytes in the capture.
        captured: usize,
        /// Bytes on the wire.
        original: u32,
    },
    /// A field that makes no sense.
    #[error("damaged at byte {offset}, frame {frame}: {what}; copy or capture it again")]
    Damaged {
        /// The frame that was being looked for.
        frame: u64,
        /// Where the record begins, in bytes from the file's start.
        offset: u64,
        /// What makes no sense.
        what: &'static str,
    },
}
