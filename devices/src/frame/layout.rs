//! Where a frame's headers are, as far as the 82599 parses them (datasheet sections 7.1.6.2 and
//! 7.1.11).
//!
//! Invariant: offsets in a [`Layout`] lie within the frame it was made from, and a header named
//! there fits in the frame whole.

use super::be16;

/// Network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum L3 {
    /// Neither of the others, or a header that does not hold together.
    #[default]
    Other,
    /// ARP.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Transport layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum L4 {
    /// None of the others, a fragment, or a header that does not hold together.
    #[default]
    Other,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Where a frame's headers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layout {
    /// VLAN tags before the EtherType, 0 to 2.
    pub vlan_tags: u8,
    /// EtherType after VLAN tags and LLC/SNAP; 0 for an 802.3 length.
    pub ether_type: u16,
    /// Network layer.
    pub l3: L3,
    /// Offset of the network layer header, in bytes.
    pub l3_offset: u16,
    /// End of the IP packet by its own length field, in bytes from the frame's start: Ethernet
    /// padding comes after it. The frame's end where the packet claims to be longer.
    pub l3_end: u16,
    /// The IP packet claims to be longer than the frame.
    pub truncated: bool,
    /// IPv4 options or IPv6 extension headers are present.
    pub extended: bool,
    /// The packet is an IP fragment (the first one included).
    pub fragment: bool,
    /// An IPv6 header is present under which the 82599 does not check the transport checksum: a
    /// routing header with addresses, a home address option, or one it cannot parse.
    pub opaque: bool,
    /// Transport layer.
    pub l4: L4,
    /// Offset of the transport header, in bytes; 0 with [`L4::Other`].
    pub l4_offset: u16,
}

/// EtherType of IPv4.
pub const ETHER_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHER_ARP: u16 = 0x0806;
/// EtherType of a customer VLAN tag (802.1Q).
pub const ETHER_VLAN: u16 = 0x8100;
/// EtherType of IPv6.
pub const ETHER_IPV6: u16 = 0x86DD;
/// EtherType of a service VLAN tag (802.1ad, "QinQ").
pub const ETHER_SERVICE_VLAN: u16 = 0x88A8;

const PROTOCOL_HOP_BY_HOP: u8 = 0;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ROUTING: u8 = 43;
const PROTOCOL_FRAGMENT: u8 = 44;
const PROTOCOL_DESTINATION: u8 = 60;
const PROTOCOL_SCTP: u8 = 132;
const OPTION_HOME_ADDRESS: u8 = 201;
/// More extension headers than this in a row are no packet worth parsing.
const MAX_EXTENSIONS: usize = 16;

impl Layout {
    /// Finds the headers of `frame`. Only the first 65,535 bytes are looked at.
    #[inline]
    pub fn of(frame: &[u8]) -> Self {
        Self::plain_udp(frame).unwrap_or_else(|| Self::any(frame))
    }

    /// The most frequent of layouts in few steps: untagged, IPv4 without options or fragments, UDP.
    /// It is what [`any`](Self::any) finds too.
    #[inline]
    fn plain_udp(frame: &[u8]) -> Option<Self> {
        let head = frame.first_chunk::<42>()?;
        let end = 14 + usize::from(u16::from_be_bytes([head[16], head[17]]));
        let whole = u16::from_be_bytes([head[20], head[21]]) & 0x3FFF == 0;
        let plain = [head[12], head[13], head[14], head[23]] == [0x08, 0x00, 0x45, PROTOCOL_UDP];
        if !plain || !whole || end < 42 || end > frame.len().min(usize::from(u16::MAX)) {
            return None;
        }
        Some(Self {
            ether_type: ETHER_IPV4,
            l3: L3::Ipv4,
            l3_offset: 14,
            l3_end: end as u16,
            l4: L4::Udp,
            l4_offset: 34,
            ..Self::default()
        })
    }

    /// Any layout, header by header.
    pub(super) fn any(frame: &[u8]) -> Self {
        let frame = &frame[..frame.len().min(usize::from(u16::MAX))];
        let mut layout = Self::default();
        let Some(mut ether_type) = be16(frame, 12) else {
            return layout;
        };
        let mut at = 14;
        while matches!(ether_type, ETHER_VLAN | ETHER_SERVICE_VLAN) && layout.vlan_tags < 2 {
            let Some(inner) = be16(frame, at + 2) else {
                return layout;
            };
            layout.vlan_tags += 1;
            ether_type = inner;
            at += 4;
        }
        if ether_type < 0x0600 {
            // 802.3 length: only LLC/SNAP with a zero organisation carries an EtherType.
            match (frame.get(at..at + 6), be16(frame, at + 6)) {
                (Some([0xAA, 0xAA, 0x03, 0, 0, 0]), Some(inner)) => {
                    (ether_type, at) = (inner, at + 8)
                }
                _ => return layout,
            }
        }
        layout.ether_type = ether_type;
        layout.l3_offset = at as u16;
        layout.l3_end = frame.len() as u16;
        match ether_type {
            ETHER_IPV4 => layout.ipv4(frame, at),
            ETHER_IPV6 => layout.ipv6(frame, at),
            ETHER_ARP if frame.len() >= at + 28 => layout.l3 = L3::Arp,
            _ => {}
        }
        layout
    }

    #[inline]
    fn ipv4(&mut self, frame: &[u8], at: usize) {
        let Some(header) = frame.get(at..at + 20) else {
            return;
        };
        let length = usize::from(header[0] & 0xF) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] >> 4 != 4 || length < 20 || total < length || frame.len() < at + length {
            return;
        }
        self.l3 = L3::Ipv4;
        self.extended = length > 20;
        // More fragments, or a fragment offset.
        self.fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3FFF != 0;
        self.end_at(frame, at + total);
        if !self.fragment {
            self.transport(frame, header[9], at + length);
        }
    }

    fn ipv6(&mut self, frame: &[u8], at: usize) {
        let Some(header) = frame.get(at..at + 40) else {
            return;
        };
        if header[0] >> 4 != 6 {
            return;
        }
        self.l3 = L3::Ipv6;
        self.end_at(
            frame,
            at + 40 + usize::from(u16::from_be_bytes([header[4], header[5]])),
        );
        let (mut protocol, mut at) = (header[6], at + 40);
        for _ in 0..MAX_EXTENSIONS {
            let extension = match protocol {
                PROTOCOL_HOP_BY_HOP | PROTOCOL_ROUTING | PROTOCOL_DESTINATION => {
                    let Some(&[next, units]) = self.packet(frame).get(at..at + 2) else {
                        return;
                    };
                    let length = 8 + usize::from(units) * 8;
                    let Some(extension) = self.packet(frame).get(at..at + length) else {
                        return;
                    };
                    self.opaque |= match protocol {
                        PROTOCOL_ROUTING => units > 0,
                        PROTOCOL_DESTINATION => has_home_address(&extension[2..]),
                        _ => false,
                    };
                    (next, length)
                }
                PROTOCOL_FRAGMENT => {
                    self.extended = true;
                    self.fragment = true;
                    return;
                }
                _ => return self.transport(frame, protocol, at),
            };
            self.extended = true;
            protocol = extension.0;
            at += extension.1;
        }
        self.opaque = true;
    }

    #[inline]
    fn end_at(&mut self, frame: &[u8], end: usize) {
        self.truncated = end > frame.len();
        self.l3_end = end.min(frame.len()) as u16;
    }

    #[inline]
    fn packet<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        &frame[..usize::from(self.l3_end)]
    }

    #[inline]
    fn transport(&mut self, frame: &[u8], protocol: u8, at: usize) {
        let Some(rest) = self.packet(frame).get(at..) else {
            return;
        };
        let l4 = match protocol {
            PROTOCOL_TCP if rest.len() >= 20 => {
                let length = usize::from(rest[12] >> 4) * 4;
                if length < 20 || length > rest.len() {
                    return;
                }
                L4::Tcp
            }
            PROTOCOL_UDP if rest.len() >= 8 => L4::Udp,
            PROTOCOL_SCTP if rest.len() >= 12 => L4::Sctp,
            _ => return,
        };
        self.l4 = l4;
        self.l4_offset = at as u16;
    }
}

/// Looks for a home address (mobile IPv6) among destination options.
fn has_home_address(mut options: &[u8]) -> bool {
    while let Some((&kind, rest)) = options.split_first() {
        if kind == OPTION_HOME_ADDRESS {
            return true;
        }
        // Option 0 is a single byte of padding, all others carry their length.
        options = match (kind, rest.split_first()) {
            (0, _) => rest,
            (_, Some((&length, rest))) => rest.get(usize::from(length)..).unwrap_or(&[]),
            (_, None) => &[],
        };
    }
    false
}
