//! UDP (RFC 768).

use core::net::IpAddr;

use crate::bytes::{be16, put, require, split};
use crate::checksum::Sum;
use crate::{BufferTooSmall, IpProtocol, ParseError};

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

const SOURCE: usize = 0;
const DESTINATION: usize = 2;
const LEN: usize = 4;
const CHECKSUM: usize = 6;

/// A view of a UDP datagram.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct UdpPacket<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> UdpPacket<T> {
    /// Wraps a datagram; padding may follow it. The checksum is not looked at.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] if header or length exceed the buffer, [`ParseError::Malformed`]
    /// for a length below the header's.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let bytes = buffer.as_ref();
        require(bytes, HEADER_LEN)?;
        let len = usize::from(be16(bytes, LEN));
        if len < HEADER_LEN {
            return Err(ParseError::Malformed);
        }
        require(bytes, len)?;
        Ok(Self { buffer })
    }

    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        be16(self.buffer.as_ref(), SOURCE)
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        be16(self.buffer.as_ref(), DESTINATION)
    }

    /// Length of header and payload in bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "never below the header's")]
    pub fn len(&self) -> usize {
        usize::from(be16(self.buffer.as_ref(), LEN))
    }

    /// The checksum field; 0 says that the sender computed none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.buffer.as_ref(), CHECKSUM)
    }

    /// Whether the checksum is right for a datagram between these addresses. A missing one is right
    /// over IPv4 and wrong over IPv6 (RFC 8200, section 8.1).
    pub fn verify_checksum(&self, source: IpAddr, destination: IpAddr) -> bool {
        if self.checksum() == 0 {
            return source.is_ipv4() && destination.is_ipv4();
        }
        Sum::pseudo(source, destination, IpProtocol::UDP, self.len())
            .is_some_and(|sum| sum.plus(self.datagram()).is_valid())
    }

    /// The payload, without padding behind the datagram.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.datagram()[HEADER_LEN..]
    }

    #[inline]
    fn datagram(&self) -> &[u8] {
        &self.buffer.as_ref()[..self.len()]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> UdpPacket<T> {
    /// Sets the source port; the checksum is the caller's.
    #[inline]
    pub fn set_source_port(&mut self, port: u16) {
        put(self.buffer.as_mut(), SOURCE, port.to_be_bytes());
    }

    /// Sets the destination port; the checksum is the caller's.
    #[inline]
    pub fn set_destination_port(&mut self, port: u16) {
        put(self.buffer.as_mut(), DESTINATION, port.to_be_bytes());
    }

    /// Sets the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put(self.buffer.as_mut(), CHECKSUM, checksum.to_be_bytes());
    }

    /// Computes the checksum for a datagram between these addresses; addresses of two versions
    /// leave it at "none".
    pub fn fill_checksum(&mut self, source: IpAddr, destination: IpAddr) {
        self.set_checksum(0);
        if let Some(sum) = Sum::pseudo(source, destination, IpProtocol::UDP, self.len()) {
            // Zero means "none", so a sum of zero is sent as its other form (RFC 768).
            let sum = match sum.plus(self.datagram()).checksum() {
                0 => 0xffff,
                sum => sum,
            };
            self.set_checksum(sum);
        }
    }

    /// The payload, without padding behind the datagram.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        &mut self.buffer.as_mut()[HEADER_LEN..len]
    }
}

/// A UDP header, parsed. Its checksum needs the payload: [`UdpPacket::fill_checksum`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpRepr {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Payload length in bytes, at most 65,527.
    pub payload_len: u16,
}

impl UdpRepr {
    /// Reads a header.
    pub fn parse<T: AsRef<[u8]>>(packet: &UdpPacket<T>) -> Self {
        Self {
            source_port: packet.source_port(),
            destination_port: packet.destination_port(),
            payload_len: packet.payload().len() as u16,
        }
    }

    /// Writes the header with no checksum; the payload's place comes back.
    ///
    /// # Errors
    /// [`BufferTooSmall`] if header and payload do not fit; a payload above 65,527 bytes fits
    /// nowhere.
    pub fn emit<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a mut [u8], BufferTooSmall> {
        let payload_len = usize::from(self.payload_len);
        let need = HEADER_LEN + payload_len;
        let have = buffer.len();
        let len = u16::try_from(need).map_err(|_| BufferTooSmall { need, have })?;
        let (header, rest) = split(buffer, HEADER_LEN, need)?;
        put(header, SOURCE, self.source_port.to_be_bytes());
        put(header, DESTINATION, self.destination_port.to_be_bytes());
        put(header, LEN, len.to_be_bytes());
        put(header, CHECKSUM, [0, 0]);
        Ok(&mut rest[..payload_len])
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2));
    const SIX: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    const DATAGRAM: [u8; 12] = [0xbf, 0x00, 0x00, 0x35, 0, 10, 0, 0, 0xaa, 0x55, 9, 9];

    #[test]
    fn deconstruct() {
        let packet = UdpPacket::new_checked(&DATAGRAM).unwrap();
        assert_eq!(
            (packet.source_port(), packet.destination_port()),
            (48896, 53)
        );
        assert_eq!((packet.len(), packet.payload()), (10, &[0xaa, 0x55][..]));
        assert!(packet.verify_checksum(A, B));
        assert!(!packet.verify_checksum(SIX, SIX));
    }

    #[test]
    fn construct() {
        let repr = UdpRepr::parse(&UdpPacket::new_checked(&DATAGRAM).unwrap());
        let mut buffer = [9; 12];
        repr.emit(&mut buffer)
            .unwrap()
            .copy_from_slice(&[0xaa, 0x55]);
        assert_eq!(buffer, DATAGRAM);
        let mut packet = UdpPacket::new_checked(&mut buffer[..]).unwrap();
        packet.set_source_port(1);
        packet.set_destination_port(2);
        for (source, destination) in [(A, B), (SIX, SIX)] {
            packet.fill_checksum(source, destination);
            assert!(packet.verify_checksum(source, destination));
            packet.payload_mut()[1] ^= 1;
            assert!(!packet.verify_checksum(source, destination));
        }
        packet.fill_checksum(A, SIX);
        assert_eq!(packet.checksum(), 0);
    }

    #[test]
    fn checksum_zero_is_sent_as_all_ones() {
        let mut packet = UdpPacket::new_checked(DATAGRAM).unwrap();
        packet.payload_mut().fill(0);
        packet.fill_checksum(A, B);
        let checksum = packet.checksum();
        packet
            .payload_mut()
            .copy_from_slice(&checksum.to_be_bytes());
        packet.fill_checksum(A, B);
        assert_eq!(packet.checksum(), 0xffff);
        assert!(packet.verify_checksum(A, B));
    }

    #[test]
    fn truncated_or_malformed() {
        for len in 0..10 {
            assert!(UdpPacket::new_checked(&DATAGRAM[..len]).is_err());
        }
        let mut short = DATAGRAM;
        short[5] = 7;
        assert_eq!(
            UdpPacket::new_checked(short).err(),
            Some(ParseError::Malformed)
        );
        let repr = UdpRepr {
            source_port: 1,
            destination_port: 2,
            payload_len: u16::MAX,
        };
        assert!(repr.emit(&mut [0; 70_000]).is_err());
    }
}
