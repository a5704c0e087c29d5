//! Large packets sent as segments (section 7.2.4).
//!
//! Invariant: a packet's descriptors are done when its last segment has left; one poll sends a bounded
//! number of segments, and none twice.

use super::descriptor::{self as d, Context};
use super::device::{BATCH, Core};
use super::strict::Violation;
use super::transmit::Outcome;
use crate::frame::{L4, Segmentation, vlan};
use crate::wire::{MAX_FRAME, Wire};

impl Core {
    /// Sends `packet`, whose first descriptor's second word is `word`, from the segment on that is
    /// next. A packet that cannot be sent counts as sent.
    pub(super) fn send_segments<W: Wire>(
        &mut self,
        word: u64,
        wire: &mut W,
        now_ns: u64,
        queue: usize,
        packet: &[u8],
    ) -> Outcome {
        let Some(context) = self.transmit[queue].contexts[d::context_index(word)] else {
            self.violations.record(Violation::MissingContext, || {
                format!("transmit queue {queue}: {word:#018x} needs a context, none was written")
            });
            return Outcome::Sent;
        };
        let Some((segmentation, count)) = self.segmentation(word, &context, queue, packet.len())
        else {
            return Outcome::Sent;
        };
        let start = self.transmit[queue].segments_sent;
        let mut frame = Vec::with_capacity(MAX_FRAME);
        for index in start..count {
            if index == start + BATCH {
                return Outcome::Goes;
            }
            segmentation.segment(packet, index, count, &mut frame);
            if word & d::TX_VLAN != 0 {
                vlan::insert(&mut frame, self.plan.transmit_vlan_type, context.vlan);
            }
            if !self.send(wire, now_ns, queue, &mut frame) {
                return Outcome::Waits;
            }
            self.transmit[queue].segments_sent = index + 1;
        }
        self.transmit[queue].segments_sent = 0;
        Outcome::Sent
    }

    /// How a packet of `len` bytes is to be cut, and into how many; complains if it cannot.
    fn segmentation(
        &mut self,
        word: u64,
        context: &Context,
        queue: usize,
        len: usize,
    ) -> Option<(Segmentation, usize)> {
        let segmentation = Segmentation {
            mac_len: context.mac_length,
            ip_len: context.ip_length,
            l4_len: context.l4_length,
            mss: context.segment,
            ipv4: context.ipv4,
            l4: match context.transport {
                0 => L4::Udp,
                1 => L4::Tcp,
                _ => L4::Other,
            },
        };
        let header = segmentation.header();
        let count = segmentation.count(len).filter(|&count| {
            count == 1 && len <= MAX_FRAME || header + segmentation.mss <= MAX_FRAME
        });
        if count.is_none() {
            self.violations.record(Violation::SegmentContext, || {
                format!("transmit queue {queue}: {segmentation:?} for a packet of {len} bytes")
            });
        }
        let declared = d::payload_length(word);
        if len
            .checked_sub(header)
            .is_some_and(|payload| payload != declared)
        {
            self.violations.record(Violation::PayloadLength, || {
                let payload = len - header;
                format!("transmit queue {queue}: PAYLEN {declared}, {payload} bytes to segment")
            });
        }
        Some((segmentation, count?))
    }
}
