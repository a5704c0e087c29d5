//! A station's address as this crate checks and prints it.

use core::fmt;

/// A 48-bit MAC address, first octet on the wire first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether the group bit is set: multicast and broadcast.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a station may call itself this: neither a group nor all zero.
    pub const fn is_station(self) -> bool {
        let [a, b, c, d, e, f] = self.0;
        !self.is_group() && (a | b | c | d | e | f) != 0
    }

    /// From a RAL/RAH pair (sections 8.2.3.7.8 and 8.2.3.7.9): RAL holds the first four octets.
    pub(crate) const fn from_registers(low: u32, high: u16) -> Self {
        let [a, b, c, d] = low.to_le_bytes();
        let [e, f] = high.to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    /// What RAL holds.
    pub(crate) const fn low(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    /// What RAH.RAH holds.
    pub(crate) const fn high(self) -> u16 {
        let [.., e, f] = self.0;
        u16::from_le_bytes([e, f])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_hold_the_first_octet_lowest() {
        let mac = MacAddress([0x00, 0x1b, 0x21, 0xaa, 0xbb, 0xcc]);
        assert_eq!(mac.low(), 0xaa21_1b00);
        assert_eq!(mac.high(), 0xccbb);
        assert_eq!(MacAddress::from_registers(mac.low(), mac.high()), mac);
    }

    #[test]
    fn groups_and_zero_are_no_stations() {
        assert!(MacAddress([2, 0, 0, 0, 0, 1]).is_station());
        assert!(!MacAddress([0; 6]).is_station());
        assert!(!MacAddress([0xff; 6]).is_station());
        assert!(!MacAddress([1, 0, 0x5e, 0, 0, 1]).is_station());
    }
}
