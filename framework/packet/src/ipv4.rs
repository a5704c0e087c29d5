//! IPv4 (RFC 791), options included.

use core::net::Ipv4Addr;

use crate::bytes::{be16, be32, put, require, split};
use crate::checksum::{self, checksum};
use crate::{BufferTooSmall, IpProtocol, ParseError};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

const TOS: usize = 1;
const TOTAL_LEN: usize = 2;
const IDENTIFICATION: usize = 4;
const FRAGMENT: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const CHECKSUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

/// A view of an IPv4 packet.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Ipv4Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Ipv4Packet<T> {
    /// Wraps an IPv4 packet; padding may follow it. The header checksum is not looked at.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] if header or total length exceed the buffer,
    /// [`ParseError::Malformed`] for another version or lengths that contradict each other.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let bytes = buffer.as_ref();
        require(bytes, HEADER_LEN)?;
        let header_len = usize::from(bytes[0] & 0x0f) * 4;
        let total_len = usize::from(be16(bytes, TOTAL_LEN));
        if bytes[0] >> 4 != 4 || header_len < HEADER_LEN || total_len < header_len {
            return Err(ParseError::Malformed);
        }
        require(bytes, total_len)?;
        Ok(Self { buffer })
    }

    /// Gives the buffer back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.buffer
    }

    /// Header length in bytes, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.buffer.as_ref()[0] & 0x0f) * 4
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(be16(self.buffer.as_ref(), TOTAL_LEN))
    }

    /// Differentiated services code point (RFC 2474), 0 to 63.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.buffer.as_ref()[TOS] >> 2
    }

    /// Explicit congestion notification (RFC 3168), 0 to 3.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.buffer.as_ref()[TOS] & 3
    }

    /// Identification, the same in all fragments of a packet.
    #[inline]
    pub fn identification(&self) -> u16 {
        be16(self.buffer.as_ref(), IDENTIFICATION)
    }

    /// Whether it must not be fragmented.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        be16(self.buffer.as_ref(), FRAGMENT) & 0x4000 != 0
    }

    /// Whether more fragments follow.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        be16(self.buffer.as_ref(), FRAGMENT) & 0x2000 != 0
    }

    /// Where this fragment belongs in the whole, in bytes.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        be16(self.buffer.as_ref(), FRAGMENT) << 3
    }

    /// Whether it is a part of a packet only.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments() || self.fragment_offset() != 0
    }

    /// Time to live, in hops.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.buffer.as_ref()[TTL]
    }

    /// What the payload is.
    #[inline]
    pub fn protocol(&self) -> IpProtocol {
        IpProtocol(self.buffer.as_ref()[PROTOCOL])
    }

    /// The header checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.buffer.as_ref(), CHECKSUM)
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        checksum(self.header()) == 0
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        be32(self.buffer.as_ref(), SOURCE).into()
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        be32(self.buffer.as_ref(), DESTINATION).into()
    }

    /// The options, one after the other.
    #[inline]
    pub fn options(&self) -> Options<'_> {
        Options {
            rest: &self.header()[HEADER_LEN..],
        }
    }

    /// The payload, without padding behind the packet.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[self.header_len()..self.total_len()]
    }

    fn header(&self) -> &[u8] {
        &self.buffer.as_ref()[..self.header_len()]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4Packet<T> {
    /// Takes one hop off the time to live and keeps the checksum right (RFC 1624); `false`, and
    /// nothing changes, where there is none left to take.
    #[inline]
    pub fn decrement_ttl(&mut self) -> bool {
        let Some(ttl) = self.ttl().checked_sub(1) else {
            return false;
        };
        let old = be16(self.buffer.as_ref(), TTL);
        self.buffer.as_mut()[TTL] = ttl;
        let new = be16(self.buffer.as_ref(), TTL);
        let sum = checksum::update(self.checksum(), old, new);
        self.set_checksum(sum);
        true
    }

    /// Sets the source address and keeps the header checksum right (RFC 1624). Checksums of the
    /// payload that cover it are the caller's.
    #[inline]
    pub fn set_source(&mut self, address: Ipv4Addr) {
        self.replace_address(SOURCE, address);
    }

    /// Sets the destination address, as [`set_source`](Self::set_source).
    #[inline]
    pub fn set_destination(&mut self, address: Ipv4Addr) {
        self.replace_address(DESTINATION, address);
    }

    /// Sets the header checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put(self.buffer.as_mut(), CHECKSUM, checksum.to_be_bytes());
    }

    /// Computes the header checksum anew.
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let sum = checksum(self.header());
        self.set_checksum(sum);
    }

    /// The payload, without padding behind the packet.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let range = self.header_len()..self.total_len();
        &mut self.buffer.as_mut()[range]
    }

    #[inline]
    fn replace_address(&mut self, at: usize, address: Ipv4Addr) {
        let old = be32(self.buffer.as_ref(), at);
        let sum = checksum::update32(self.checksum(), old, address.to_bits());
        put(self.buffer.as_mut(), at, address.octets());
        self.set_checksum(sum);
    }
}

/// One IPv4 option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Option<'a> {
    /// Copied flag, class and number.
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
    type Item = Result<Ipv4Option<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        match crate::tcp::next_option(&mut self.rest)? {
            Ok((kind, data)) => Some(Ok(Ipv4Option { kind, data })),
            Err(error) => Some(Err(error)),
        }
    }
}

/// An IPv4 header without options, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// What the payload is.
    pub protocol: IpProtocol,
    /// Time to live, in hops.
    pub ttl: u8,
    /// Identification.
    pub identification: u16,
    /// Payload length in bytes, at most 65,515.
    pub payload_len: u16,
}

impl Ipv4Repr {
    /// Reads a header. Options, service class and fragment fields are not part of it.
    ///
    /// # Errors
    /// [`ParseError::Malformed`] for a wrong header checksum.
    pub fn parse<T: AsRef<[u8]>>(packet: &Ipv4Packet<T>) -> Result<Self, ParseError> {
        if !packet.verify_checksum() {
            return Err(ParseError::Malformed);
        }
        Ok(Self {
            source: packet.source(),
            destination: packet.destination(),
            protocol: packet.protocol(),
            ttl: packet.ttl(),
            identification: packet.identification(),
            payload_len: packet.payload().len() as u16,
        })
    }

    /// Writes the header, checksum included; the payload's place comes back.
    ///
    /// # Errors
    /// [`BufferTooSmall`] if header and payload do not fit; a payload above 65,515 bytes fits
    /// nowhere.
    pub fn emit<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a mut [u8], BufferTooSmall> {
        let payload_len = usize::from(self.payload_len);
        let need = HEADER_LEN + payload_len;
        let have = buffer.len();
        let total = u16::try_from(need).map_err(|_| BufferTooSmall { need, have })?;
        let (header, rest) = split(buffer, HEADER_LEN, need)?;
        put(header, 0, [0x45, 0]);
        put(header, TOTAL_LEN, total.to_be_bytes());
        put(header, IDENTIFICATION, self.identification.to_be_bytes());
        put(header, FRAGMENT, [0x40, 0]);
        put(header, TTL, [self.ttl, self.protocol.0, 0, 0]);
        put(header, SOURCE, self.source.octets());
        put(header, DESTINATION, self.destination.octets());
        let sum = checksum(header);
        put(header, CHECKSUM, sum.to_be_bytes());
        Ok(&mut rest[..payload_len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a router alert option (RFC 2113), a no-operation and two bytes of payload, padded.
    const PACKET: [u8; 32] = [
        0x47, 0xc0, 0, 30, 0x12, 0x34, 0x20, 0x02, 1, 17, 0x4c, 0x06, 10, 0, 0, 1, 224, 0, 0, 1,
        148, 4, 0, 0, 1, 0, 0, 0, 0xab, 0xcd, 0, 0,
    ];

    #[test]
    fn deconstruct() {
        let packet = Ipv4Packet::new_checked(&PACKET).unwrap();
        assert_eq!((packet.header_len(), packet.total_len()), (28, 30));
        assert_eq!((packet.dscp(), packet.ecn()), (48, 0));
        assert_eq!(packet.identification(), 0x1234);
        assert!(packet.more_fragments() && !packet.dont_fragment() && packet.is_fragment());
        assert_eq!(packet.fragment_offset(), 16);
        assert_eq!((packet.ttl(), packet.protocol()), (1, IpProtocol::UDP));
        assert_eq!(packet.source(), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(packet.destination(), Ipv4Addr::new(224, 0, 0, 1));
        assert_eq!(packet.payload(), &[0xab, 0xcd]);
        let mut options = packet.options();
        let alert = Ipv4Option {
            kind: 148,
            data: &[0, 0],
        };
        assert_eq!(options.next(), Some(Ok(alert)));
        assert_eq!(options.next(), None);
    }

    #[test]
    fn construct() {
        let repr = Ipv4Repr {
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
            protocol: IpProtocol::UDP,
            ttl: 64,
            identification: 7,
            payload_len: 4,
        };
        let mut buffer = [0xee; 30];
        assert_eq!(repr.emit(&mut buffer).unwrap().len(), 4);
        let mut packet = Ipv4Packet::new_checked(&mut buffer[..]).unwrap();
        assert_eq!(Ipv4Repr::parse(&packet), Ok(repr));
        assert!(packet.decrement_ttl());
        packet.set_source(Ipv4Addr::new(192, 168, 255, 1));
        packet.set_destination(Ipv4Addr::new(255, 255, 255, 255));
        assert!(packet.verify_checksum());
        let kept = packet.checksum();
        packet.fill_checksum();
        assert_eq!(packet.checksum(), kept);
        packet.payload_mut().fill(1);
        packet.set_checksum(!kept);
        assert_eq!(Ipv4Repr::parse(&packet), Err(ParseError::Malformed));
        assert_eq!(buffer[24..], [0xee; 6]);
    }

    #[test]
    fn truncated() {
        for len in 0..30 {
            assert_eq!(
                Ipv4Packet::new_checked(&PACKET[..len]).err(),
                Some(ParseError::Truncated)
            );
        }
        let repr = Ipv4Repr {
            payload_len: u16::MAX,
            ..Ipv4Repr::parse(&{
                let mut packet = Ipv4Packet::new_checked(PACKET).unwrap();
                packet.fill_checksum();
                packet
            })
            .unwrap()
        };
        assert!(repr.emit(&mut [0; 70_000]).is_err());
        assert!(repr.emit(&mut [0; 10]).is_err());
    }

    #[test]
    fn malformed() {
        for (at, value) in [(0, 0x67), (0, 0x44), (3, 27)] {
            let mut packet = PACKET;
            packet[at] = value;
            assert_eq!(
                Ipv4Packet::new_checked(packet).err(),
                Some(ParseError::Malformed)
            );
        }
        let mut spent = PACKET;
        spent[8] = 0;
        assert!(!Ipv4Packet::new_checked(spent).unwrap().decrement_ttl());
        for length in [0, 1, 9] {
            let mut packet = PACKET;
            packet[21] = length;
            let packet = Ipv4Packet::new_checked(packet).unwrap();
            assert_eq!(packet.options().next(), Some(Err(ParseError::Malformed)));
            assert_eq!(packet.options().count(), 1);
        }
    }
}
