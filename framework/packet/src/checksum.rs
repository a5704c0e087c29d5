//! The Internet checksum (RFC 1071), pseudo headers, and its incremental update (RFC 1624).
//!
//! A sum is kept in the processor's byte order and turned round once at the end (RFC 1071,
//! section 2 (B)); only the last piece added to a [`Sum`] may have an odd length.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::IpProtocol;

/// A one's complement sum under way.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// An empty sum.
    #[inline]
    pub const fn new() -> Self {
        Self(0)
    }

    /// The sum of an IPv4 pseudo header (RFC 768); `len` is header and payload in bytes.
    #[inline]
    pub fn pseudo_v4(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: IpProtocol,
        len: u16,
    ) -> Self {
        Self::new()
            .plus(&source.octets())
            .plus(&destination.octets())
            .plus(&[0, protocol.0])
            .plus(&len.to_be_bytes())
    }

    /// The sum of an IPv6 pseudo header (RFC 8200, section 8.1); `len` is header and payload in
    /// bytes.
    #[inline]
    pub fn pseudo_v6(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        protocol: IpProtocol,
        len: u32,
    ) -> Self {
        Self::new()
            .plus(&source.octets())
            .plus(&destination.octets())
            .plus(&len.to_be_bytes())
            .plus(&[0, 0, 0, protocol.0])
    }

    /// The pseudo header of either version; `None` where the versions differ, or where IPv4 cannot
    /// carry `len`.
    pub fn pseudo(
        source: IpAddr,
        destination: IpAddr,
        protocol: IpProtocol,
        len: usize,
    ) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let len = u16::try_from(len).ok()?;
                Some(Self::pseudo_v4(source, destination, protocol, len))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let len = u32::try_from(len).ok()?;
                Some(Self::pseudo_v6(source, destination, protocol, len))
            }
            _ => None,
        }
    }

    /// Adds bytes; an odd length counts as if a zero byte followed.
    #[inline]
    pub fn plus(mut self, bytes: &[u8]) -> Self {
        // 32-bit words in a 64-bit sum: no carry is lost below 16 GiB.
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            self.0 += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        self.0 += u64::from(u32::from_ne_bytes(last));
        // Keeps room for the next piece.
        self.0 = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        self
    }

    /// The checksum: the complement of the sum, as the field's value.
    #[inline]
    pub const fn checksum(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16).to_be()
    }

    /// Whether what was added, checksum field included, is intact.
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.checksum() == 0
    }
}

/// The checksum of `bytes`. Over bytes that include an intact checksum it is zero.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::new().plus(bytes).checksum()
}

/// The checksum after one 16-bit word that it covers changed from `old` to `new` (RFC 1624,
/// equation 3).
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = !checksum as u32 + !old as u32 + new as u32;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// As [`update`], for a 32-bit field such as an IPv4 address.
#[inline]
pub const fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    let high = update(checksum, (old >> 16) as u16, (new >> 16) as u16);
    update(high, old as u16, new as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes), !0xddf2);
    }

    #[test]
    fn rfc_1624_example() {
        // Section 4: the case that RFC 1141 got wrong.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn agrees_with_pnet(bytes in prop::collection::vec(any::<u8>(), 2..1600)) {
            let mut bytes = bytes;
            bytes[0] = 0;
            bytes[1] = 0;
            prop_assert_eq!(checksum(&bytes), pnet_packet::util::checksum(&bytes, 0));
        }

        #[test]
        fn pseudo_headers_agree_with_pnet(
            bytes in prop::collection::vec(any::<u8>(), 8..1600), v4: [[u8; 4]; 2], v6: [[u8; 16]; 2],
            protocol: u8,
        ) {
            use pnet_packet::ip::IpNextHeaderProtocol;
            let mut bytes = bytes;
            bytes[6] = 0;
            bytes[7] = 0;
            let next = IpNextHeaderProtocol(protocol);
            let [source, destination] = v4.map(Ipv4Addr::from);
            let sum = Sum::pseudo(source.into(), destination.into(), IpProtocol(protocol), bytes.len());
            prop_assert_eq!(
                sum.map(|sum| sum.plus(&bytes).checksum()),
                Some(pnet_packet::util::ipv4_checksum(&bytes, 3, &[], &source, &destination, next))
            );
            let [source, destination] = v6.map(Ipv6Addr::from);
            let sum = Sum::pseudo(source.into(), destination.into(), IpProtocol(protocol), bytes.len());
            prop_assert_eq!(
                sum.map(|sum| sum.plus(&bytes).checksum()),
                Some(pnet_packet::util::ipv6_checksum(&bytes, 3, &[], &source, &destination, next))
            );
        }

        #[test]
        fn update_is_as_good_as_computing_anew(
            bytes in prop::collection::vec(any::<u8>(), 40), at in 1usize..20, new: u16,
        ) {
            let mut bytes = bytes;
            bytes[0] |= 1; // not all zeros, where the two zeros of one's complement would differ
            let before = checksum(&bytes);
            let old = u16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]);
            bytes[2 * at..2 * at + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update(before, old, new), checksum(&bytes));
        }
    }
}
