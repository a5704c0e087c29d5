//! ICMP echo (RFC 792, RFC 4443 section 4): requests and replies of both IP versions.

use core::net::Ipv6Addr;

use crate::bytes::{be16, put, require};
use crate::checksum::{self, Sum};
use crate::{IpProtocol, ParseError};

/// Bytes of an echo header.
pub const HEADER_LEN: usize = 8;

const KIND: usize = 0;
const CHECKSUM: usize = 2;
const IDENTIFIER: usize = 4;
const SEQUENCE: usize = 6;

/// Message type of an IPv4 echo reply.
pub const V4_REPLY: u8 = 0;
/// Message type of an IPv4 echo request.
pub const V4_REQUEST: u8 = 8;
/// Message type of an IPv6 echo request.
pub const V6_REQUEST: u8 = 128;
/// Message type of an IPv6 echo reply.
pub const V6_REPLY: u8 = 129;

/// A view of an ICMP echo message.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct IcmpEcho<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> IcmpEcho<T> {
    /// Wraps an echo message: exactly the payload of its IP packet.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below [`HEADER_LEN`] bytes, [`ParseError::Malformed`] if it is
    /// another message than echo.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let bytes = buffer.as_ref();
        require(bytes, HEADER_LEN)?;
        match (bytes[KIND], bytes[1]) {
            (V4_REPLY | V4_REQUEST | V6_REQUEST | V6_REPLY, 0) => Ok(Self { buffer }),
            _ => Err(ParseError::Malformed),
        }
    }

    /// Message type: one of this module's four.
    #[inline]
    pub fn kind(&self) -> u8 {
        self.buffer.as_ref()[KIND]
    }

    /// Whether it asks for a reply.
    #[inline]
    pub fn is_request(&self) -> bool {
        matches!(self.kind(), V4_REQUEST | V6_REQUEST)
    }

    /// Identifier, the same in request and reply.
    #[inline]
    pub fn identifier(&self) -> u16 {
        be16(self.buffer.as_ref(), IDENTIFIER)
    }

    /// Sequence number, the same in request and reply.
    #[inline]
    pub fn sequence(&self) -> u16 {
        be16(self.buffer.as_ref(), SEQUENCE)
    }

    /// The checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.buffer.as_ref(), CHECKSUM)
    }

    /// What is to be echoed.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[HEADER_LEN..]
    }

    /// Whether the checksum of an IPv4 message is right.
    pub fn verify_checksum_v4(&self) -> bool {
        Sum::new().plus(self.buffer.as_ref()).is_valid()
    }

    /// Whether the checksum of an IPv6 message between these addresses is right.
    pub fn verify_checksum_v6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> bool {
        let bytes = self.buffer.as_ref();
        Sum::pseudo(
            source.into(),
            destination.into(),
            IpProtocol::ICMPV6,
            bytes.len(),
        )
        .is_some_and(|sum| sum.plus(bytes).is_valid())
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> IcmpEcho<T> {
    /// Makes a request its own reply and keeps the checksum right (RFC 1624); `false`, and nothing
    /// changes, if it is no request. The IP addresses are the caller's to exchange.
    pub fn make_reply(&mut self) -> bool {
        let reply = match self.kind() {
            V4_REQUEST => V4_REPLY,
            V6_REQUEST => V6_REPLY,
            _ => return false,
        };
        let old = be16(self.buffer.as_ref(), KIND);
        let new = u16::from_be_bytes([reply, 0]);
        // Of the two forms of zero only this one is right for a message of nothing but zeros.
        let sum = match checksum::update(self.checksum(), old, new) {
            0 => 0xffff,
            sum => sum,
        };
        put(self.buffer.as_mut(), KIND, new.to_be_bytes());
        put(self.buffer.as_mut(), CHECKSUM, sum.to_be_bytes());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; 11] = [8, 0, 0xb3, 0xbc, 0x12, 0x34, 0, 7, 0x2a, 0x08, 0x08];

    #[test]
    fn deconstruct() {
        let echo = IcmpEcho::new_checked(&REQUEST).unwrap();
        assert!(echo.is_request());
        assert_eq!((echo.identifier(), echo.sequence()), (0x1234, 7));
        assert_eq!(echo.payload(), &[0x2a, 0x08, 0x08]);
        assert!(echo.verify_checksum_v4());
    }

    #[test]
    fn construct() {
        let mut echo = IcmpEcho::new_checked(REQUEST).unwrap();
        assert!(echo.make_reply());
        assert_eq!(echo.kind(), V4_REPLY);
        assert!(echo.verify_checksum_v4());
        assert!(!echo.make_reply());

        let mut zeros = IcmpEcho::new_checked([V4_REQUEST, 0, 0xf7, 0xff, 0, 0, 0, 0]).unwrap();
        assert!(zeros.verify_checksum_v4() && zeros.make_reply());
        assert!(zeros.verify_checksum_v4());

        let (a, b) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        let mut bytes = REQUEST;
        bytes[..4].copy_from_slice(&[V6_REQUEST, 0, 0, 0]);
        let sum = Sum::pseudo(a.into(), b.into(), IpProtocol::ICMPV6, bytes.len()).unwrap();
        let sum = sum.plus(&bytes).checksum();
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut echo = IcmpEcho::new_checked(bytes).unwrap();
        assert!(echo.verify_checksum_v6(a, b));
        assert!(echo.make_reply() && echo.verify_checksum_v6(b, a));
    }

    #[test]
    fn truncated_or_malformed() {
        for len in 0..8 {
            assert_eq!(
                IcmpEcho::new_checked(&REQUEST[..len]).err(),
                Some(ParseError::Truncated)
            );
        }
        for (kind, code) in [(3, 0), (8, 1), (127, 0)] {
            let mut other = REQUEST;
            (other[0], other[1]) = (kind, code);
            assert_eq!(
                IcmpEcho::new_checked(other).err(),
                Some(ParseError::Malformed)
            );
        }
    }
}
