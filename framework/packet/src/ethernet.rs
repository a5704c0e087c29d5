//! Ethernet II frames, without the frame check sequence (the device adds and strips it).

use crate::bytes::{array, be16, put, require, split};
use crate::vlan::{self, VlanTag};
use crate::{BufferTooSmall, MacAddress, ParseError};

/// Bytes of an Ethernet header.
pub const HEADER_LEN: usize = 14;
/// Bytes of the shortest frame without its check sequence; shorter ones are padded on the wire.
pub const MIN_FRAME_LEN: usize = 60;
/// Bytes of the frame check sequence.
pub const FCS_LEN: usize = 4;

const DESTINATION: usize = 0;
const SOURCE: usize = 6;
const ETHERTYPE: usize = 12;

/// What an Ethernet frame carries; unknown values are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// A customer VLAN tag follows (802.1Q).
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// Ethernet flow control (802.3x).
    pub const FLOW_CONTROL: Self = Self(0x8808);
    /// A service VLAN tag follows (802.1ad, "QinQ").
    pub const QINQ: Self = Self(0x88a8);
    /// Precision time protocol (IEEE 1588).
    pub const PTP: Self = Self(0x88f7);

    /// Whether a VLAN tag follows.
    #[inline]
    pub const fn is_vlan(self) -> bool {
        matches!(self, Self::VLAN | Self::QINQ)
    }
}

/// A view of an Ethernet II frame.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct EthernetFrame<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> EthernetFrame<T> {
    /// Wraps a frame of at least [`HEADER_LEN`] bytes.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] if it is shorter.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        require(buffer.as_ref(), HEADER_LEN)?;
        Ok(Self { buffer })
    }

    /// Gives the buffer back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.buffer
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> MacAddress {
        MacAddress(array(self.buffer.as_ref(), DESTINATION))
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> MacAddress {
        MacAddress(array(self.buffer.as_ref(), SOURCE))
    }

    /// What follows the header: a VLAN tag's protocol id if the frame is tagged.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(be16(self.buffer.as_ref(), ETHERTYPE))
    }

    /// Everything behind the header, VLAN tags and padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[HEADER_LEN..]
    }

    /// The outermost VLAN tag, if the frame has a whole one.
    #[inline]
    pub fn vlan(&self) -> Option<VlanTag> {
        vlan::parse(self.ethertype(), self.payload()).map(|(tag, _, _)| tag)
    }

    /// EtherType and bytes behind all VLAN tags. A tag that is cut short is left where it is, and
    /// the EtherType is then that of a tag.
    #[inline]
    pub fn untagged(&self) -> (EtherType, &[u8]) {
        let mut rest = (self.ethertype(), self.payload());
        while let Some((_, ethertype, payload)) = vlan::parse(rest.0, rest.1) {
            rest = (ethertype, payload);
        }
        rest
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> EthernetFrame<T> {
    /// Sets the destination address.
    #[inline]
    pub fn set_destination(&mut self, address: MacAddress) {
        put(self.buffer.as_mut(), DESTINATION, address.0);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_source(&mut self, address: MacAddress) {
        put(self.buffer.as_mut(), SOURCE, address.0);
    }

    /// Sets both addresses with one write of twelve bytes: what forwarding does to each frame.
    #[inline]
    pub fn set_addresses(&mut self, addresses: AddressPair) {
        put(self.buffer.as_mut(), DESTINATION, addresses.0);
    }

    /// Exchanges source and destination, in two words rather than byte by byte.
    #[inline]
    pub fn swap_addresses(&mut self) {
        let bytes = self.buffer.as_mut();
        let front = u64::from_le_bytes(array(bytes, 0));
        let back = u64::from(u32::from_le_bytes(array(bytes, 8)));
        let new_front = (front >> 48) | (back << 16) | (front << 48);
        let new_back = (front >> 16) as u32;
        put(bytes, 0, new_front.to_le_bytes());
        put(bytes, 8, new_back.to_le_bytes());
    }

    /// Sets the EtherType.
    #[inline]
    pub fn set_ethertype(&mut self, ethertype: EtherType) {
        put(self.buffer.as_mut(), ETHERTYPE, ethertype.0.to_be_bytes());
    }

    /// Everything behind the header.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.buffer.as_mut()[HEADER_LEN..]
    }
}

/// Destination and source as they lie on the wire, made once and written to many frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct AddressPair([u8; 12]);

impl AddressPair {
    /// Joins the two addresses.
    #[inline]
    pub const fn new(destination: MacAddress, source: MacAddress) -> Self {
        let [a, b, c, d, e, f] = destination.0;
        let [g, h, i, j, k, l] = source.0;
        Self([a, b, c, d, e, f, g, h, i, j, k, l])
    }
}

/// An Ethernet header, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetRepr {
    /// Destination address.
    pub destination: MacAddress,
    /// Source address.
    pub source: MacAddress,
    /// What follows.
    pub ethertype: EtherType,
}

impl EthernetRepr {
    /// Reads the header of a frame.
    pub fn parse<T: AsRef<[u8]>>(frame: &EthernetFrame<T>) -> Self {
        Self {
            destination: frame.destination(),
            source: frame.source(),
            ethertype: frame.ethertype(),
        }
    }

    /// Writes the header; what is left of the buffer, for the payload, comes back.
    ///
    /// # Errors
    /// [`BufferTooSmall`] below [`HEADER_LEN`] bytes.
    pub fn emit<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a mut [u8], BufferTooSmall> {
        let (header, payload) = split(buffer, HEADER_LEN, HEADER_LEN)?;
        put(header, DESTINATION, self.destination.0);
        put(header, SOURCE, self.source.0);
        put(header, ETHERTYPE, self.ethertype.0.to_be_bytes());
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 22] = [
        0x02, 0, 0, 0, 0, 0x0a, 0x02, 0, 0, 0, 0, 0x0b, 0x88, 0xa8, 0x20, 0x64, 0x81, 0x00, 0x00,
        0xc8, 0x08, 0x00,
    ];
    const A: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x0a]);
    const B: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x0b]);

    #[test]
    fn deconstruct() {
        let frame = EthernetFrame::new_checked(&FRAME).unwrap();
        assert_eq!(frame.destination(), A);
        assert_eq!(frame.source(), B);
        assert_eq!(frame.ethertype(), EtherType::QINQ);
        assert_eq!(frame.payload(), &FRAME[14..]);
        assert_eq!(frame.untagged(), (EtherType::IPV4, &[][..]));
        assert_eq!(frame.vlan().map(|tag| tag.id()), Some(100));
    }

    #[test]
    fn construct() {
        let mut buffer = [0xee; 15];
        let repr = EthernetRepr {
            destination: A,
            source: B,
            ethertype: EtherType::ARP,
        };
        assert_eq!(repr.emit(&mut buffer).unwrap().len(), 1);
        let mut frame = EthernetFrame::new_checked(&mut buffer[..]).unwrap();
        assert_eq!(EthernetRepr::parse(&frame), repr);
        frame.swap_addresses();
        assert_eq!((frame.destination(), frame.source()), (B, A));
        frame.set_destination(MacAddress::BROADCAST);
        frame.set_source(B);
        frame.set_ethertype(EtherType::IPV6);
        frame.payload_mut()[0] = 1;
        assert_eq!(
            buffer,
            [
                255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 11, 0x86, 0xdd, 1
            ]
        );
    }

    #[test]
    fn truncated() {
        assert!(EthernetFrame::new_checked(&FRAME[..14]).is_ok());
        assert_eq!(
            EthernetFrame::new_checked(&FRAME[..13]).err(),
            Some(ParseError::Truncated)
        );
        let cut = EthernetFrame::new_checked(&FRAME[..20]).unwrap();
        assert_eq!(cut.untagged().0, EtherType::VLAN);
        let repr = EthernetRepr::parse(&cut);
        assert_eq!(
            repr.emit(&mut [0; 13]),
            Err(BufferTooSmall { need: 14, have: 13 })
        );
    }
}
