//! Descriptor bits for tests: simple, and no real device's.

use sumac_device::ring::{Entry, Part, ReceiveFormat, TransmitFormat};

/// Receive: done in bit 0, end in bit 1, length in bits 47:32, all flags as the device set them.
pub struct PlainReceive;

impl ReceiveFormat for PlainReceive {
    const DONE: u64 = 1;
    const END: u64 = 2;

    #[inline(always)]
    fn annotate(detail: u64, status: u64) -> [u64; 2] {
        [detail, status]
    }
}

/// Transmit: length in bits 15:0, context 20, end 24, report 27, done 32, offload asked for 33, bytes
/// of the frame from 46 on. A context's first word is the frame's tag.
#[derive(Default)]
pub struct PlainTransmit {
    context: Option<u16>,
}

impl PlainTransmit {
    /// The frame ends in this buffer.
    pub const END: u64 = 1 << 24;
    /// The frame asks for the offload that the context describes.
    pub const OFFLOAD: u64 = 1 << 33;
    /// Where the length of the frame begins.
    pub const FRAME_SHIFT: u32 = 46;
}

impl TransmitFormat for PlainTransmit {
    const DONE: u64 = 1 << 32;
    const REPORT: u64 = 1 << 27;
    const OFFLOADS: u32 = 1 << 16;
    const CONTEXT: (u64, u64) = (1 << 20, 1 << 20);

    #[inline(always)]
    fn whole(&self, len: u16) -> u64 {
        let len = u64::from(len);
        Self::END | len | len << Self::FRAME_SHIFT
    }

    fn part(&self, part: Part) -> u64 {
        let mut word = u64::from(part.len) | u64::from(part.frame_bytes) << Self::FRAME_SHIFT;
        if part.last {
            word |= Self::END;
        }
        if part.frame.flags() & Self::OFFLOADS != 0 {
            word |= Self::OFFLOAD;
        }
        word
    }

    fn context(&mut self, frame: Entry) -> Option<[u64; 2]> {
        let tag = Some(frame.tag());
        if self.context == tag {
            return None;
        }
        self.context = tag;
        Some([u64::from(frame.tag()), Self::CONTEXT.1])
    }

    fn forget_context(&mut self) {
        self.context = None;
    }
}
