//! Segmentation on transmit (datasheet section 7.2.4): one large TCP or UDP packet becomes frames of
//! MSS bytes each.

use super::L4;
use super::checksum::Sum;

/// TCP flags that segments keep, of twelve bits: the first, those in between, the last (the values
/// DTXTCPFLGL and DTXTCPFLGH have after a reset, sections 8.2.3.9.3 and 8.2.3.9.4).
const FLAGS: [u16; 3] = [0xFF6, 0xF76, 0xF7F];

/// What a context says of a packet to be segmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// MACLEN: bytes before the IP header.
    pub mac_len: usize,
    /// IPLEN: bytes of IP header.
    pub ip_len: usize,
    /// L4LEN: bytes of TCP or UDP header.
    pub l4_len: usize,
    /// MSS: bytes of payload in a segment.
    pub mss: usize,
    /// IPv4 (and not IPv6).
    pub ipv4: bool,
    /// TCP or UDP.
    pub l4: L4,
}

impl Segmentation {
    /// Bytes every segment begins with.
    pub fn header(&self) -> usize {
        self.mac_len + self.ip_len + self.l4_len
    }

    /// How many segments a packet of `len` bytes becomes; `None` if the context does not fit it.
    pub fn count(&self, len: usize) -> Option<usize> {
        let ip = if self.ipv4 { 20 } else { 40 };
        let l4 = match self.l4 {
            L4::Tcp => 20,
            L4::Udp => 8,
            _ => return None,
        };
        let fits = self.mss > 0 && self.mac_len >= 14 && self.ip_len >= ip && self.l4_len >= l4;
        let payload = len.checked_sub(self.header()).filter(|_| fits)?;
        Some(payload.div_ceil(self.mss).max(1))
    }

    /// Puts segment `index` of `count` of `packet` into `out`. The driver has put the sum of the pseudo header
    /// without a length into the transport checksum (section 7.2.4.7).
    pub fn segment(&self, packet: &[u8], index: usize, count: usize, out: &mut Vec<u8>) {
        let header = self.header();
        let (head, payload) = packet.split_at(header);
        let start = (index * self.mss).min(payload.len());
        let payload = &payload[start..payload.len().min(start + self.mss)];
        out.clear();
        out.extend_from_slice(head);
        out.extend_from_slice(payload);
        self.ip(out, index);
        let l4 = &mut out[self.mac_len + self.ip_len..];
        let last = index + 1 == count;
        match self.l4 {
            L4::Tcp => {
                add32(l4, 4, start as u32);
                let kept = match (index, last) {
                    (_, true) => FLAGS[2],
                    (0, false) => FLAGS[0],
                    _ => FLAGS[1],
                };
                // A packet that is one segment is its first, too.
                let kept = if count == 1 { u16::MAX } else { kept | 0xF000 };
                let flags = u16::from_be_bytes([l4[12], l4[13]]) & kept;
                l4[12..14].copy_from_slice(&flags.to_be_bytes());
                checksum(l4, 16);
            }
            _ => {
                let len = l4.len() as u16;
                l4[4..6].copy_from_slice(&len.to_be_bytes());
                checksum(l4, 6);
            }
        }
    }

    fn ip(&self, frame: &mut [u8], index: usize) {
        let len = frame.len() - self.mac_len;
        let header = &mut frame[self.mac_len..self.mac_len + self.ip_len];
        if !self.ipv4 {
            let payload = (len - 40) as u16;
            header[4..6].copy_from_slice(&payload.to_be_bytes());
            return;
        }
        header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(index as u16);
        header[4..6].copy_from_slice(&id.to_be_bytes());
        header[10..12].fill(0);
        let sum = Sum::default().bytes(header).checksum();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

fn add32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(field) = bytes[at..].first_chunk_mut::<4>() {
        *field = u32::from_be_bytes(*field).wrapping_add(value).to_be_bytes();
    }
}

fn checksum(segment: &mut [u8], field: usize) {
    let sum = Sum::default().bytes(segment).word(segment.len() as u16);
    let checksum = match sum.checksum() {
        0 if field == 6 => 0xFFFF,
        checksum => checksum,
    };
    segment[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;
    use crate::frame::offload::pseudo_header;
    use crate::frame::{Layout, ReceiveChecksums, Verdict};

    /// A packet as a driver prepares it, and its context.
    fn packet(tcp: bool, payload: &[u8], mss: usize) -> (Vec<u8>, Segmentation) {
        let builder =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let mut bytes = Vec::new();
        let (l4, l4_len, field, protocol) = if tcp {
            builder
                .tcp(1, 2, 1000, 5000)
                .fin()
                .psh()
                .write(&mut bytes, payload)
                .unwrap();
            (L4::Tcp, 20, 16, 6)
        } else {
            builder.udp(1, 2).write(&mut bytes, payload).unwrap();
            (L4::Udp, 8, 6, 17)
        };
        let sum = pseudo_header(&bytes, &Layout::of(&bytes), 0, protocol).unwrap();
        bytes[34 + field..36 + field].copy_from_slice(&sum.folded().to_be_bytes());
        let context = Segmentation {
            mac_len: 14,
            ip_len: 20,
            l4_len,
            mss,
            ipv4: true,
            l4,
        };
        (bytes, context)
    }

    proptest! {
        /// Segments are good packets, and their payloads in order are the packet's.
        #[test]
        fn segments_add_up(
            payload in proptest::collection::vec(any::<u8>(), 0..6000),
            mss in 1_usize..1500,
            tcp in any::<bool>(),
        ) {
            let (bytes, context) = packet(tcp, &payload, mss);
            let count = context.count(bytes.len()).unwrap();
            let mut together = Vec::new();
            let mut frame = Vec::new();
            for index in 0..count {
                context.segment(&bytes, index, count, &mut frame);
                let checksums = ReceiveChecksums::verify(&frame, &Layout::of(&frame));
                prop_assert_eq!((checksums.ip, checksums.l4), (Verdict::Good, Verdict::Good));
                let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
                match sliced.transport {
                    Some(TransportSlice::Tcp(segment)) => {
                        let sent = together.len() as u32;
                        prop_assert_eq!(segment.sequence_number(), 1000 + sent);
                        let last = index + 1 == count;
                        prop_assert_eq!((segment.fin(), segment.psh()), (last, last));
                        together.extend_from_slice(segment.payload());
                    }
                    Some(TransportSlice::Udp(datagram)) => together.extend_from_slice(datagram.payload()),
                    _ => prop_assert!(false, "no transport"),
                }
            }
            prop_assert_eq!(together, payload);
        }

        #[test]
        fn a_context_that_does_not_fit_is_refused(
            mac_len in 0_usize..128, ip_len in 0_usize..512, l4_len in 0_usize..256,
            mss in 0_usize..3, len in 0_usize..1000, ipv4 in any::<bool>(),
        ) {
            let context = Segmentation { mac_len, ip_len, l4_len, mss, ipv4, l4: L4::Tcp };
            let packet = vec![0; len];
            if let Some(count) = context.count(len) {
                prop_assert!(context.header() <= len);
                (0..count).for_each(|index| context.segment(&packet, index, count, &mut Vec::new()));
            }
        }
    }
}
