//! ARP for IPv4 over Ethernet (RFC 826); other address kinds are refused.

use core::net::Ipv4Addr;

use crate::bytes::{array, be16, put, require, split};
use crate::{BufferTooSmall, EtherType, MacAddress, ParseError};

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const PACKET_LEN: usize = 28;

/// Hardware type Ethernet, protocol IPv4, address lengths 6 and 4.
const FIXED: [u8; 6] = {
    let [high, low] = EtherType::IPV4.0.to_be_bytes();
    [0, 1, high, low, 6, 4]
};
const OPERATION: usize = 6;
const SENDER_MAC: usize = 8;
const SENDER_IP: usize = 14;
const TARGET_MAC: usize = 18;
const TARGET_IP: usize = 24;

/// What an ARP packet wants; unknown values are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct ArpOperation(pub u16);

impl ArpOperation {
    /// Who has the target address?
    pub const REQUEST: Self = Self(1);
    /// The sender has its address.
    pub const REPLY: Self = Self(2);
}

/// A view of an ARP packet.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct ArpPacket<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> ArpPacket<T> {
    /// Wraps an ARP packet for IPv4 over Ethernet; padding may follow it.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below [`PACKET_LEN`] bytes, [`ParseError::Malformed`] for other
    /// hardware or protocol addresses.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let bytes = buffer.as_ref();
        require(bytes, PACKET_LEN)?;
        if array(bytes, 0) != FIXED {
            return Err(ParseError::Malformed);
        }
        Ok(Self { buffer })
    }

    /// What it wants.
    #[inline]
    pub fn operation(&self) -> ArpOperation {
        ArpOperation(be16(self.buffer.as_ref(), OPERATION))
    }

    /// The sender's MAC address.
    #[inline]
    pub fn sender_mac(&self) -> MacAddress {
        MacAddress(array(self.buffer.as_ref(), SENDER_MAC))
    }

    /// The sender's IPv4 address.
    #[inline]
    pub fn sender_ip(&self) -> Ipv4Addr {
        array::<4>(self.buffer.as_ref(), SENDER_IP).into()
    }

    /// The target's MAC address; without meaning in a request.
    #[inline]
    pub fn target_mac(&self) -> MacAddress {
        MacAddress(array(self.buffer.as_ref(), TARGET_MAC))
    }

    /// The target's IPv4 address.
    #[inline]
    pub fn target_ip(&self) -> Ipv4Addr {
        array::<4>(self.buffer.as_ref(), TARGET_IP).into()
    }
}

/// An ARP packet, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpRepr {
    /// What it wants.
    pub operation: ArpOperation,
    /// The sender's addresses.
    pub sender: (MacAddress, Ipv4Addr),
    /// The target's addresses.
    pub target: (MacAddress, Ipv4Addr),
}

impl ArpRepr {
    /// Reads a packet.
    pub fn parse<T: AsRef<[u8]>>(packet: &ArpPacket<T>) -> Self {
        Self {
            operation: packet.operation(),
            sender: (packet.sender_mac(), packet.sender_ip()),
            target: (packet.target_mac(), packet.target_ip()),
        }
    }

    /// The answer of the station `mac` to this request.
    pub fn reply(&self, mac: MacAddress) -> Self {
        Self {
            operation: ArpOperation::REPLY,
            sender: (mac, self.target.1),
            target: self.sender,
        }
    }

    /// Writes the packet.
    ///
    /// # Errors
    /// [`BufferTooSmall`] below [`PACKET_LEN`] bytes.
    pub fn emit(&self, buffer: &mut [u8]) -> Result<(), BufferTooSmall> {
        let (packet, _) = split(buffer, PACKET_LEN, PACKET_LEN)?;
        put(packet, 0, FIXED);
        put(packet, OPERATION, self.operation.0.to_be_bytes());
        put(packet, SENDER_MAC, self.sender.0.0);
        put(packet, SENDER_IP, self.sender.1.octets());
        put(packet, TARGET_MAC, self.target.0.0);
        put(packet, TARGET_IP, self.target.1.octets());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; 28] = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
    ];

    #[test]
    fn deconstruct() {
        let packet = ArpPacket::new_checked(&REQUEST).unwrap();
        assert_eq!(packet.operation(), ArpOperation::REQUEST);
        assert_eq!(packet.sender_mac(), MacAddress([2, 0, 0, 0, 0, 1]));
        assert_eq!(packet.sender_ip(), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(packet.target_mac(), MacAddress::UNSPECIFIED);
        assert_eq!(packet.target_ip(), Ipv4Addr::new(10, 0, 0, 2));
    }

    #[test]
    fn construct() {
        let request = ArpRepr::parse(&ArpPacket::new_checked(&REQUEST).unwrap());
        let mut buffer = [0; 28];
        request.emit(&mut buffer).unwrap();
        assert_eq!(buffer, REQUEST);
        let own = MacAddress([2, 0, 0, 0, 0, 9]);
        request.reply(own).emit(&mut buffer).unwrap();
        let reply = ArpPacket::new_checked(&buffer).unwrap();
        assert_eq!(reply.operation(), ArpOperation::REPLY);
        assert_eq!(reply.sender_ip(), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(
            (reply.sender_mac(), reply.target_mac()),
            (own, request.sender.0)
        );
    }

    #[test]
    fn truncated_or_foreign() {
        assert_eq!(
            ArpPacket::new_checked(&REQUEST[..27]).err(),
            Some(ParseError::Truncated)
        );
        for at in 0..6 {
            let mut foreign = REQUEST;
            foreign[at] ^= 0x40;
            assert_eq!(
                ArpPacket::new_checked(foreign).err(),
                Some(ParseError::Malformed)
            );
        }
        let repr = ArpRepr::parse(&ArpPacket::new_checked(&REQUEST).unwrap());
        assert!(repr.emit(&mut [0; 27]).is_err());
    }
}
