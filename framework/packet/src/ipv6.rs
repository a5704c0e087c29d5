//! IPv6 (RFC 8200) and the walk through its extension headers.

use core::net::Ipv6Addr;

use crate::bytes::{array, be16, be32, put, require};
use crate::{IpProtocol, ParseError};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

const PAYLOAD_LEN: usize = 4;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const SOURCE: usize = 8;
const DESTINATION: usize = 24;

/// A view of an IPv6 packet.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Ipv6Packet<T: AsRef<[u8]>> {
    buffer: T,
}

/// What lies behind all extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer<'a> {
    /// The first header that is no extension, or one that hides what follows
    /// ([`IpProtocol::ESP`]).
    pub protocol: IpProtocol,
    /// Its bytes, from its own header on.
    pub payload: &'a [u8],
    /// Where in the whole packet this fragment's bytes belong; 0 for the first and for unfragmented
    /// packets. Above 0, `payload` does not begin with a header.
    pub fragment_offset: u16,
    /// Whether more fragments follow.
    pub more_fragments: bool,
}

impl<T: AsRef<[u8]>> Ipv6Packet<T> {
    /// Wraps an IPv6 packet; padding may follow it. Jumbograms (RFC 2675) have no payload here.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] if header or payload length exceed the buffer,
    /// [`ParseError::Malformed`] for another version.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let bytes = buffer.as_ref();
        require(bytes, HEADER_LEN)?;
        if bytes[0] >> 4 != 6 {
            return Err(ParseError::Malformed);
        }
        require(bytes, HEADER_LEN + usize::from(be16(bytes, PAYLOAD_LEN)))?;
        Ok(Self { buffer })
    }

    /// Gives the buffer back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.buffer
    }

    /// Traffic class: service code point and congestion notification.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (be16(self.buffer.as_ref(), 0) >> 4) as u8
    }

    /// Flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        be32(self.buffer.as_ref(), 0) & 0x000f_ffff
    }

    /// Length of everything behind the fixed header, in bytes.
    #[inline]
    pub fn payload_len(&self) -> usize {
        usize::from(be16(self.buffer.as_ref(), PAYLOAD_LEN))
    }

    /// What follows the fixed header: perhaps an extension header.
    #[inline]
    pub fn next_header(&self) -> IpProtocol {
        IpProtocol(self.buffer.as_ref()[NEXT_HEADER])
    }

    /// Hops left.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.buffer.as_ref()[HOP_LIMIT]
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        array::<16>(self.buffer.as_ref(), SOURCE).into()
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        array::<16>(self.buffer.as_ref(), DESTINATION).into()
    }

    /// Everything behind the fixed header, extension headers included, padding not.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[HEADER_LEN..HEADER_LEN + self.payload_len()]
    }

    /// Walks the extension headers to what they precede. Each is at least eight bytes long, so the
    /// walk ends.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] if an extension header runs beyond the packet.
    pub fn upper_layer(&self) -> Result<UpperLayer<'_>, ParseError> {
        let mut upper = UpperLayer {
            protocol: self.next_header(),
            payload: self.payload(),
            fragment_offset: 0,
            more_fragments: false,
        };
        loop {
            let units = |at: usize| upper.payload.get(at).copied().map(usize::from);
            let len = match upper.protocol {
                IpProtocol::HOP_BY_HOP
                | IpProtocol::IPV6_ROUTING
                | IpProtocol::IPV6_OPTIONS
                | IpProtocol::MOBILITY => units(1).map(|units| (units + 1) * 8),
                IpProtocol::AUTHENTICATION => units(1).map(|units| (units + 2) * 4),
                IpProtocol::IPV6_FRAGMENT => Some(8),
                _ => return Ok(upper),
            };
            let len = len.ok_or(ParseError::Truncated)?;
            let (header, rest) = upper
                .payload
                .split_at_checked(len)
                .ok_or(ParseError::Truncated)?;
            if upper.protocol == IpProtocol::IPV6_FRAGMENT {
                let fragment = be16(header, 2);
                upper.fragment_offset = fragment & 0xfff8;
                upper.more_fragments = fragment & 1 != 0;
            }
            upper.protocol = IpProtocol(header[0]);
            upper.payload = rest;
            if upper.fragment_offset != 0 {
                return Ok(upper);
            }
        }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv6Packet<T> {
    /// Takes one hop off the hop limit; `false`, and nothing changes, where there is none left.
    #[inline]
    pub fn decrement_hop_limit(&mut self) -> bool {
        match self.hop_limit().checked_sub(1) {
            Some(hops) => {
                self.buffer.as_mut()[HOP_LIMIT] = hops;
                true
            }
            None => false,
        }
    }

    /// Sets the source address. Checksums of the payload that cover it are the caller's.
    #[inline]
    pub fn set_source(&mut self, address: Ipv6Addr) {
        put(self.buffer.as_mut(), SOURCE, address.octets());
    }

    /// Sets the destination address, as [`set_source`](Self::set_source).
    #[inline]
    pub fn set_destination(&mut self, address: Ipv6Addr) {
        put(self.buffer.as_mut(), DESTINATION, address.octets());
    }

    /// Everything behind the fixed header, padding not.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = HEADER_LEN + self.payload_len();
        &mut self.buffer.as_mut()[HEADER_LEN..end]
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from([0x6a, 0xbc, 0xde, 0xf0, 0, payload.len() as u8, next, 64]);
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        bytes.extend(Ipv6Addr::UNSPECIFIED.octets());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn deconstruct() {
        let mut bytes = packet(17, &[1, 2, 3]);
        bytes.push(0xff);
        let packet = Ipv6Packet::new_checked(&bytes).unwrap();
        assert_eq!(packet.traffic_class(), 0xab);
        assert_eq!(packet.flow_label(), 0xcdef0);
        assert_eq!(packet.payload_len(), 3);
        assert_eq!(packet.hop_limit(), 64);
        assert_eq!(packet.source(), Ipv6Addr::LOCALHOST);
        assert_eq!(packet.destination(), Ipv6Addr::UNSPECIFIED);
        assert_eq!(packet.payload(), &[1, 2, 3]);
        let upper = packet.upper_layer().unwrap();
        assert_eq!(
            (upper.protocol, upper.payload),
            (IpProtocol::UDP, &[1, 2, 3][..])
        );
    }

    #[test]
    fn extension_headers() {
        let mut chain = Vec::new();
        chain.extend([60, 0, 0, 0, 0, 0, 0, 0]); // hop-by-hop
        chain.extend([51, 1].iter().chain(&[0; 14])); // destination options, 16 bytes
        chain.extend([44, 1].iter().chain(&[0; 10])); // authentication, 12 bytes
        chain.extend([6, 0, 0x00, 0x01, 0, 0, 0, 9]); // first fragment
        chain.extend([0xaa; 5]);
        let bytes = packet(0, &chain);
        let first = Ipv6Packet::new_checked(&bytes).unwrap();
        let expected = UpperLayer {
            protocol: IpProtocol::TCP,
            payload: &[0xaa; 5],
            fragment_offset: 0,
            more_fragments: true,
        };
        assert_eq!(first.upper_layer(), Ok(expected));

        let later = packet(44, &[0, 0, 0x05, 0xa8, 0, 0, 0, 9, 0, 0]);
        let later = Ipv6Packet::new_checked(&later).unwrap();
        let expected = UpperLayer {
            protocol: IpProtocol::HOP_BY_HOP,
            payload: &[0, 0],
            fragment_offset: 1448,
            more_fragments: false,
        };
        assert_eq!(later.upper_layer(), Ok(expected));
    }

    #[test]
    fn construct() {
        let mut bytes = packet(58, &[0; 4]);
        let mut view = Ipv6Packet::new_checked(&mut bytes[..]).unwrap();
        assert!(view.decrement_hop_limit());
        view.set_destination(Ipv6Addr::LOCALHOST);
        view.set_source(Ipv6Addr::UNSPECIFIED);
        view.payload_mut().fill(7);
        assert_eq!((view.hop_limit(), view.payload()), (63, &[7; 4][..]));
        assert_eq!(view.destination(), Ipv6Addr::LOCALHOST);
        bytes[7] = 0;
        assert!(
            !Ipv6Packet::new_checked(&mut bytes[..])
                .unwrap()
                .decrement_hop_limit()
        );
    }

    #[test]
    fn truncated_or_malformed() {
        let bytes = packet(0, &[17, 1, 0, 0, 0, 0, 0, 0]);
        for len in 0..bytes.len() {
            assert!(Ipv6Packet::new_checked(&bytes[..len]).is_err());
        }
        let cut = Ipv6Packet::new_checked(&bytes).unwrap();
        assert_eq!(cut.upper_layer(), Err(ParseError::Truncated));
        let empty = packet(43, &[]);
        let empty = Ipv6Packet::new_checked(&empty).unwrap();
        assert_eq!(empty.upper_layer(), Err(ParseError::Truncated));
        let mut other = bytes.clone();
        other[0] = 0x45;
        assert_eq!(
            Ipv6Packet::new_checked(other).err(),
            Some(ParseError::Malformed)
        );
    }
}
