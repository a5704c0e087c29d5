//! What a receive descriptor says of a frame (section 7.1.6.2): packet type, checksum status, hash.
//!
//! Invariant: the short cut for plain frames says what the long way says, or nothing.

use std::num::NonZeroU64;

use super::descriptor::{self as d, Received, packet_type};
use super::device::Plan;
use super::receive::MIN_FRAME;
use crate::frame::{L3, L4, Layout, ReceiveChecksums, Verdict};

/// What a descriptor says of `frame`, and the queue it goes to.
pub(super) fn describe(frame: &[u8], layout: &Layout, plan: &Plan) -> (Received, usize) {
    let (hash, queue) = match &plan.steering {
        Some(steering) => steering.queue(frame, layout),
        None => (None, 0),
    };
    let checksums = ReceiveChecksums::verify(frame, layout);
    let mut report = Received {
        packet_type: packet_kind(layout),
        ..Received::default()
    };
    if let Some(hash) = hash.filter(|_| plan.report_hash) {
        report.rss_type = hash.kind as u32;
        report.hash = hash.value;
    }
    if checksums.ip != Verdict::Unchecked {
        report.status |= d::RX_IP;
    }
    if checksums.l4 != Verdict::Unchecked {
        report.status |= d::RX_L4;
        if layout.l4 == L4::Udp {
            report.status |= d::RX_UDP;
        }
    }
    if checksums.ip == Verdict::Bad {
        report.errors |= d::RX_ERROR_IP;
    }
    if checksums.l4 == Verdict::Bad {
        report.errors |= d::RX_ERROR_L4;
    }
    (report, queue)
}

fn packet_kind(layout: &Layout) -> u32 {
    let l3 = match (layout.l3, layout.extended) {
        (L3::Ipv4, false) => packet_type::IPV4,
        (L3::Ipv4, true) => packet_type::IPV4 | packet_type::IPV4_OPTIONS,
        (L3::Ipv6, false) => packet_type::IPV6,
        (L3::Ipv6, true) => packet_type::IPV6 | packet_type::IPV6_EXTENSIONS,
        _ => return 0,
    };
    l3 | match layout.l4 {
        L4::Tcp => packet_type::TCP,
        L4::Udp => packet_type::UDP,
        L4::Sctp => packet_type::SCTP,
        L4::Other => 0,
    }
}

/// What a descriptor says of a frame without tag, hash and errors: status in the low half, packet
/// type in the high half. One word, since a larger value would pass through memory, in pieces that
/// are slow to put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(NonZeroU64);

impl Kind {
    #[inline(always)]
    fn new(packet_type: u32, status: u32) -> Option<Self> {
        let status = status | d::RX_DONE | d::RX_END;
        NonZeroU64::new(u64::from(packet_type) << 32 | u64::from(status)).map(Self)
    }

    /// The write-back of a frame of `len` bytes.
    #[inline(always)]
    pub fn words(self, len: usize) -> [u64; 2] {
        Received {
            packet_type: (self.0.get() >> 32) as u32,
            status: self.0.get() as u32,
            length: len as u16,
            ..Received::default()
        }
        .advanced()
    }
}

/// The kind of the frame that generators like best: UDP without a checksum, in IPv4 without
/// options, whole and correct. What [`describe`] says of it, in a few steps.
#[inline(always)]
pub(super) fn plain_udp(head: &[u8; MIN_FRAME], len: usize) -> Option<Kind> {
    // EtherType IPv4, version 4, five words of header; neither fragment nor offset; UDP; no
    // checksum.
    let kind = (word(head, 12) ^ 0x0045_0008) & 0x00FF_FFFF
        | (word(head, 20) ^ 0x1100_0000) & 0xFF00_FF3F
        | word(head, 40) & 0xFFFF;
    let total = usize::from(u16::from_be_bytes([head[16], head[17]]));
    // The ones' complement sum does not care for byte order; halves are added crosswise.
    let c = u64::from(u32::from_le_bytes([head[30], head[31], head[32], head[33]]));
    let sum = carried(carried(word(head, 14), word(head, 22)), c);
    let sum = (carried(sum, sum.rotate_left(32)) >> 32) as u32;
    let (sum, carry) = sum.overflowing_add(sum.rotate_left(16));
    let bad = (sum.wrapping_add(u32::from(carry))) >> 16 != 0xFFFF;
    if kind != 0 || total < 28 || total + 14 > len || bad {
        return None;
    }
    Kind::new(packet_type::IPV4 | packet_type::UDP, d::RX_IP)
}

/// The ones' complement sum of two words.
#[inline(always)]
fn carried(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

/// Eight bytes at `at`, in the processor's favourite order.
#[inline(always)]
pub(super) fn word(head: &[u8; MIN_FRAME], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The short cut says what the long way says, or nothing.
        #[test]
        fn the_short_cut_agrees_with_the_long_way(
            mut frame in proptest::collection::vec(any::<u8>(), 60..200),
            lengths in any::<bool>(),
            flip in proptest::option::of((12_usize..42, any::<u8>())),
        ) {
            frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
            if lengths {
                let total = frame.len() as u16 - 14;
                frame[16..18].copy_from_slice(&total.to_be_bytes());
            }
            frame[20..22].copy_from_slice(&[0x40, 0x00]);
            frame[23] = 17;
            frame[24..26].fill(0);
            let udp = (frame.len() - 34) as u16;
            frame[38..40].copy_from_slice(&udp.to_be_bytes());
            frame[40..42].fill(0);
            let sum = (frame[14..34].chunks(2))
                .fold(0_u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
            let sum = (sum & 0xFFFF) + (sum >> 16);
            let sum = (sum & 0xFFFF) + (sum >> 16);
            frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
            if let Some((at, mask)) = flip {
                frame[at] ^= mask;
            }
            let plan = Plan::of_zeros();
            let head = frame.first_chunk().unwrap();
            let short = plain_udp(head, frame.len());
            let (report, _) = describe(&frame, &Layout::of(&frame), &plan);
            let long = Received {
                status: report.status | d::RX_DONE | d::RX_END,
                length: frame.len() as u16,
                ..report
            };
            if let Some(short) = short {
                prop_assert_eq!(short.words(frame.len()), long.advanced());
            } else if lengths && flip.is_none() {
                prop_assert!(false, "the short cut missed the plain frame");
            }
        }
    }
}
