//! What this driver needs of an Ethernet address: its kind, and how registers hold it.

use sumac_interface::net::MacAddress;

/// Questions to an Ethernet address.
pub trait Station: Copy {
    /// Whether the group bit is set: multicast and broadcast.
    fn is_group(self) -> bool;

    /// Whether a station may call itself this: neither a group nor all zero.
    fn is_station(self) -> bool;

    /// From a RAL/RAH pair (sections 8.2.3.7.8 and 8.2.3.7.9): RAL holds the first four octets.
    fn from_registers(low: u32, high: u16) -> Self;

    /// What RAL holds.
    fn low(self) -> u32;

    /// What RAH.RAH holds.
    fn high(self) -> u16;
}

impl Station for MacAddress {
    fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    fn is_station(self) -> bool {
        !self.is_group() && self.0 != [0; 6]
    }

    fn from_registers(low: u32, high: u16) -> Self {
        let [a, b, c, d] = low.to_le_bytes();
        let [e, f] = high.to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    fn low(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    fn high(self) -> u16 {
        let [.., e, f] = self.0;
        u16::from_le_bytes([e, f])
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
