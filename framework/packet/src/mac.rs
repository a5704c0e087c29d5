//! The 48-bit MAC address.

use core::fmt;
use core::str::FromStr;

/// A MAC address, first byte on the wire first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct MacAddress(pub [u8; 6]);

/// A text is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("not a MAC address: write six bytes in hexadecimal, as in 02:00:00:00:00:01")]
pub struct MacParseError;

impl MacAddress {
    /// All ones: every station.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// All zeros: none.
    pub const UNSPECIFIED: Self = Self([0; 6]);

    /// The bytes, first on the wire first.
    #[inline]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether it names a group (the broadcast address included): lowest bit of the first byte.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether it names one station: neither a group nor all zeros.
    #[inline]
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && !self.is_unspecified()
    }

    /// Whether it is all ones.
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        self.to_bits() == 0xffff_ffff_ffff
    }

    /// Whether it is all zeros.
    #[inline]
    pub const fn is_unspecified(self) -> bool {
        self.to_bits() == 0
    }

    /// Whether it was assigned locally rather than by a vendor: second bit of the first byte.
    #[inline]
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// The address as a number; the first byte on the wire is the most significant of 48 bits.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The inverse of [`to_bits`](Self::to_bits); bits 48 and up are ignored.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl From<[u8; 6]> for MacAddress {
    #[inline]
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = MacParseError;

    /// Six bytes of one or two hexadecimal digits, all separated by `:` or all by `-`.
    fn from_str(text: &str) -> Result<Self, MacParseError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().ok_or(MacParseError)?;
            let digits = part.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !digits || !(1..=2).contains(&part.len()) {
                return Err(MacParseError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| MacParseError)?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(MacParseError),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn display_and_parse() {
        let mac = MacAddress([0x02, 0, 0x5e, 0xff, 0x10, 0x01]);
        assert_eq!(mac.to_string(), "02:00:5e:ff:10:01");
        assert_eq!("02:00:5e:ff:10:01".parse(), Ok(mac));
        assert_eq!("02-00-5E-FF-10-01".parse(), Ok(mac));
        assert_eq!("2:0:5e:ff:10:1".parse(), Ok(mac));
        assert_eq!(MacAddress::from_bits(mac.to_bits()), mac);
    }

    #[test]
    fn parse_refuses_anything_else() {
        for text in [
            "",
            "02:00:5e:ff:10",
            "02:00:5e:ff:10:01:02",
            "02:00:5e:ff:10:1g",
            "02:00:5e:ff:10:+1",
            "02:00:5e:ff:10:001",
            "02:00:5e-ff:10:01",
            "::::::",
            "02005eff1001",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(MacParseError), "{text}");
        }
    }

    #[test]
    fn kinds() {
        assert!(MacAddress::BROADCAST.is_multicast());
        assert!(MacAddress::BROADCAST.is_broadcast());
        assert!(!MacAddress::BROADCAST.is_unicast());
        assert!(!MacAddress::UNSPECIFIED.is_unicast());
        let vendor = MacAddress([0x00, 0x1b, 0x21, 1, 2, 3]);
        assert!(vendor.is_unicast() && !vendor.is_local());
        assert!(MacAddress([0x02, 0, 0, 0, 0, 1]).is_local());
        assert!(MacAddress([0x01, 0, 0x5e, 0, 0, 1]).is_multicast());
    }
}
