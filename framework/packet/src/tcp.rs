//! TCP (RFC 9293), options included; for looking at segments, not for speaking it.

use core::net::IpAddr;

use crate::bytes::{be16, be32, put, require};
use crate::checksum::Sum;
use crate::{IpProtocol, ParseError};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

const SOURCE: usize = 0;
const DESTINATION: usize = 2;
const SEQUENCE: usize = 4;
const ACKNOWLEDGEMENT: usize = 8;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;
const URGENT: usize = 18;

bitflags::bitflags! {
    /// Control bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TcpFlags: u8 {
        /// No more data from the sender.
        const FIN = 1 << 0;
        /// Synchronize sequence numbers.
        const SYN = 1 << 1;
        /// Reset the connection.
        const RST = 1 << 2;
        /// Push.
        const PSH = 1 << 3;
        /// The acknowledgement field counts.
        const ACK = 1 << 4;
        /// The urgent field counts.
        const URG = 1 << 5;
        /// Congestion was experienced (RFC 3168).
        const ECE = 1 << 6;
        /// The congestion window was reduced (RFC 3168).
        const CWR = 1 << 7;
    }
}

/// A view of a TCP segment.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct TcpPacket<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> TcpPacket<T> {
    /// Wraps a segment: exactly the payload of its IP packet, since TCP has no length of its own.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] if the header exceeds the buffer, [`ParseError::Malformed`] for a
    /// data offset below five words.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let bytes = buffer.as_ref();
        require(bytes, HEADER_LEN)?;
        let header_len = usize::from(bytes[DATA_OFFSET] >> 4) * 4;
        if header_len < HEADER_LEN {
            return Err(ParseError::Malformed);
        }
        require(bytes, header_len)?;
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

    /// Sequence number of the first payload byte (or of SYN).
    #[inline]
    pub fn sequence(&self) -> u32 {
        be32(self.buffer.as_ref(), SEQUENCE)
    }

    /// The next sequence number its sender expects.
    #[inline]
    pub fn acknowledgement(&self) -> u32 {
        be32(self.buffer.as_ref(), ACKNOWLEDGEMENT)
    }

    /// Header length in bytes, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.buffer.as_ref()[DATA_OFFSET] >> 4) * 4
    }

    /// Control bits.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags::from_bits_retain(self.buffer.as_ref()[FLAGS])
    }

    /// Receive window, unscaled.
    #[inline]
    pub fn window(&self) -> u16 {
        be16(self.buffer.as_ref(), WINDOW)
    }

    /// The checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.buffer.as_ref(), CHECKSUM)
    }

    /// Offset of the last urgent byte.
    #[inline]
    pub fn urgent(&self) -> u16 {
        be16(self.buffer.as_ref(), URGENT)
    }

    /// Whether the checksum is right for a segment between these addresses.
    pub fn verify_checksum(&self, source: IpAddr, destination: IpAddr) -> bool {
        let bytes = self.buffer.as_ref();
        Sum::pseudo(source, destination, IpProtocol::TCP, bytes.len())
            .is_some_and(|sum| sum.plus(bytes).is_valid())
    }

    /// The options, one after the other.
    #[inline]
    pub fn options(&self) -> Options<'_> {
        Options {
            rest: &self.buffer.as_ref()[HEADER_LEN..self.header_len()],
        }
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[self.header_len()..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> TcpPacket<T> {
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

    /// Computes the checksum for a segment between these addresses; addresses of two versions leave
    /// it at zero.
    pub fn fill_checksum(&mut self, source: IpAddr, destination: IpAddr) {
        self.set_checksum(0);
        let bytes = self.buffer.as_ref();
        if let Some(sum) = Sum::pseudo(source, destination, IpProtocol::TCP, bytes.len()) {
            let sum = sum.plus(bytes).checksum();
            self.set_checksum(sum);
        }
    }
}

/// One TCP option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// Option kind (IANA "TCP Option Kind Numbers").
    pub kind: u8,
    /// The bytes behind kind and length.
    pub data: &'a [u8],
}

/// The options of a header, up to the end-of-list option; no-operation options are left out.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<TcpOption<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        match next_option(&mut self.rest)? {
            Ok((kind, data)) => Some(Ok(TcpOption { kind, data })),
            Err(error) => Some(Err(error)),
        }
    }
}

/// Takes one option off `rest`. IPv4 and TCP write theirs alike: 0 ends the list, 1 does nothing,
/// any other kind has a length that counts itself and the kind. A wrong length ends the list.
pub(crate) fn next_option<'a>(rest: &mut &'a [u8]) -> Option<Result<(u8, &'a [u8]), ParseError>> {
    loop {
        let (&kind, behind) = rest.split_first()?;
        if kind == 0 {
            *rest = &[];
            return None;
        }
        if kind == 1 {
            *rest = behind;
            continue;
        }
        let len = behind.first().map_or(0, |&len| usize::from(len));
        let Some(data) = rest.get(2..len) else {
            *rest = &[];
            return Some(Err(ParseError::Malformed));
        };
        *rest = &rest[len..];
        return Some(Ok((kind, data)));
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// SYN with maximum segment size 1460, one byte of data.
    const SEGMENT: [u8; 29] = [
        0xc0, 0x01, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0x70, 0x02, 0xfa, 0xf0, 0, 0, 0, 9, 1, 2, 4, 5,
        0xb4, 0, 0, 0, 0x5a,
    ];

    #[test]
    fn deconstruct() {
        let packet = TcpPacket::new_checked(&SEGMENT).unwrap();
        assert_eq!(
            (packet.source_port(), packet.destination_port()),
            (49153, 80)
        );
        assert_eq!(packet.sequence(), 0x0102_0304);
        assert_eq!(packet.acknowledgement(), 0x0506_0708);
        assert_eq!(packet.header_len(), 28);
        assert_eq!(packet.flags(), TcpFlags::SYN);
        assert_eq!((packet.window(), packet.urgent()), (64240, 9));
        assert_eq!(packet.payload(), &[0x5a]);
        let mut options = packet.options();
        let mss = TcpOption {
            kind: 2,
            data: &[5, 0xb4],
        };
        assert_eq!(options.next(), Some(Ok(mss)));
        assert_eq!(options.next(), None);
        assert_eq!(options.next(), None);
    }

    #[test]
    fn construct() {
        let mut packet = TcpPacket::new_checked(SEGMENT).unwrap();
        packet.set_source_port(1);
        packet.set_destination_port(2);
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        for address in [v4, v6] {
            packet.fill_checksum(address, address);
            assert!(packet.verify_checksum(address, address));
        }
        assert!(!packet.verify_checksum(v4, v6));
        packet.set_source_port(3);
        assert!(!packet.verify_checksum(v6, v6));
    }

    #[test]
    fn truncated_or_malformed() {
        for len in 0..28 {
            assert!(TcpPacket::new_checked(&SEGMENT[..len]).is_err());
        }
        let mut short = SEGMENT;
        short[12] = 0x40;
        assert_eq!(
            TcpPacket::new_checked(short).err(),
            Some(ParseError::Malformed)
        );
        for len in [0, 1, 8, 255] {
            let mut bad = SEGMENT;
            bad[22] = len;
            let bad = TcpPacket::new_checked(bad).unwrap();
            assert_eq!(bad.options().next(), Some(Err(ParseError::Malformed)));
            assert_eq!(bad.options().count(), 1);
        }
    }
}
