//! Descriptor formats: receive (sections 7.1.5 and 7.1.6), transmit (section 7.2.3).
//!
//! Invariant: the fields are packed into two 64-bit words exactly as the datasheet's tables have
//! them; nothing here touches memory.

/// Receive status bit 0: descriptor done.
pub const RX_DONE: u32 = 1 << 0;
/// Receive status bit 1: last descriptor of a frame.
pub const RX_END: u32 = 1 << 1;
/// Receive status bit 3: a VLAN tag was recognised (and stripped, where enabled).
pub const RX_VLAN: u32 = 1 << 3;
/// Advanced receive status bit 4: a UDP checksum was present and checked.
pub const RX_UDP: u32 = 1 << 4;
/// Receive status bit 5: the TCP or UDP checksum was checked.
pub const RX_L4: u32 = 1 << 5;
/// Receive status bit 6: the IP checksum was checked.
pub const RX_IP: u32 = 1 << 6;
/// Receive status bit 7: the frame passed by an inexact filter only.
pub const RX_INEXACT: u32 = 1 << 7;
/// Advanced receive error bit 30 - 20: the TCP or UDP checksum is wrong.
pub const RX_ERROR_L4: u32 = 1 << 10;
/// Advanced receive error bit 31 - 20: the IP checksum is wrong.
pub const RX_ERROR_IP: u32 = 1 << 11;

/// Packet type bits of an advanced receive descriptor (section 7.1.6.2).
pub mod packet_type {
    /// IPv4 header.
    pub const IPV4: u32 = 1 << 0;
    /// IPv4 header with options.
    pub const IPV4_OPTIONS: u32 = 1 << 1;
    /// IPv6 header.
    pub const IPV6: u32 = 1 << 2;
    /// IPv6 header with extensions.
    pub const IPV6_EXTENSIONS: u32 = 1 << 3;
    /// TCP header.
    pub const TCP: u32 = 1 << 4;
    /// UDP header.
    pub const UDP: u32 = 1 << 5;
    /// SCTP header.
    pub const SCTP: u32 = 1 << 6;
}

/// What a receive descriptor says of a frame, in either format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// RSS type, 4 bits.
    pub rss_type: u32,
    /// Packet type, 13 bits.
    pub packet_type: u32,
    /// RSS hash.
    pub hash: u32,
    /// Status, 20 bits.
    pub status: u32,
    /// Errors, 12 bits.
    pub errors: u32,
    /// Bytes in this buffer.
    pub length: u16,
    /// Tag control information of a stripped tag.
    pub vlan: u16,
}

impl Received {
    /// The write-back in the advanced format (section 7.1.6.2).
    #[inline(always)]
    pub fn advanced(&self) -> [u64; 2] {
        [
            u64::from(self.rss_type | self.packet_type << 4) | u64::from(self.hash) << 32,
            u64::from(self.status | self.errors << 20)
                | u64::from(self.length) << 32
                | u64::from(self.vlan) << 48,
        ]
    }

    /// The write-back in the legacy format (section 7.1.5): the address stays.
    pub fn legacy(&self, address: u64) -> [u64; 2] {
        // Errors: IPE bit 7, TCPE bit 6; status is the low byte, without the advanced UDP bit.
        let errors = (self.errors >> 4) & 0xC0;
        let status = self.status & 0xFF;
        [
            address,
            u64::from(self.length)
                | u64::from(status) << 32
                | u64::from(errors) << 40
                | u64::from(self.vlan) << 48,
        ]
    }
}

/// DCMD and legacy CMD, bits 31:24 of the second word.
pub const TX_END: u64 = 1 << 24;
/// Insert the frame check sequence.
pub const TX_FCS: u64 = 1 << 25;
/// Legacy: insert a checksum at CSO.
pub const TX_LEGACY_CHECKSUM: u64 = 1 << 26;
/// Report status.
pub const TX_REPORT: u64 = 1 << 27;
/// Advanced format.
pub const TX_ADVANCED: u64 = 1 << 29;
/// Insert a VLAN tag.
pub const TX_VLAN: u64 = 1 << 30;
/// Segment (TSO).
pub const TX_SEGMENT: u64 = 1 << 31;
/// Descriptor done, in the status field.
pub const TX_DONE: u64 = 1 << 32;
/// Advanced: insert the IP checksum (POPTS.IXSM).
pub const TX_IP_CHECKSUM: u64 = 1 << 40;
/// Advanced: insert the TCP or UDP checksum (POPTS.TXSM).
pub const TX_L4_CHECKSUM: u64 = 1 << 41;
/// Advanced: the type field.
pub const TX_TYPE: u64 = 0xF << 20;
/// Type of a data descriptor.
pub const TX_TYPE_DATA: u64 = 3 << 20;
/// Type of a context descriptor.
pub const TX_TYPE_CONTEXT: u64 = 2 << 20;
/// Advanced data: bits that are reserved or written by the device (STA).
pub const TX_DATA_RESERVED: u64 = 3 << 16 | 1 << 26 | 1 << 28 | 0xF << 32;
/// Legacy: reserved command bit, and the status the device writes.
pub const TX_LEGACY_RESERVED: u64 = 1 << 28 | 0xF << 32;

/// Bits of an advanced data descriptor, and their value, that ask for nothing but the plain
/// sending of one whole buffer: `word & MASK == VALUE`.
pub const TX_PLAIN_MASK: u64 = TX_DATA_RESERVED
    | TX_TYPE
    | TX_END
    | TX_FCS
    | TX_ADVANCED
    | TX_VLAN
    | TX_SEGMENT
    | TX_IP_CHECKSUM
    | TX_L4_CHECKSUM
    | 1 << 42;
/// See [`TX_PLAIN_MASK`].
pub const TX_PLAIN: u64 = TX_TYPE_DATA | TX_END | TX_FCS | TX_ADVANCED;

/// Bytes in a data descriptor's buffer: DTALEN, or LENGTH in the legacy format.
#[inline(always)]
pub fn data_length(word: u64) -> usize {
    (word & 0xFFFF) as usize
}

/// PAYLEN of an advanced data descriptor.
#[inline(always)]
pub fn payload_length(word: u64) -> usize {
    (word >> 46) as usize
}

/// Context slot an advanced descriptor names: the low bit of IDX, two slots a queue.
pub fn context_index(word: u64) -> usize {
    (word >> 36 & 1) as usize
}

/// A transmit context (section 7.2.3.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Bytes of IP header.
    pub ip_length: usize,
    /// Bytes before the IP header.
    pub mac_length: usize,
    /// Tag to insert.
    pub vlan: u16,
    /// The IP header is IPv4's.
    pub ipv4: bool,
    /// Transport: 0 UDP, 1 TCP, 2 SCTP.
    pub transport: u8,
    /// Bytes of transport header.
    pub l4_length: usize,
    /// Bytes of payload in a segment.
    pub segment: usize,
}

impl Context {
    /// Reads a context descriptor's fields.
    pub fn parse(words: [u64; 2]) -> Self {
        Self {
            ip_length: (words[0] & 0x1FF) as usize,
            mac_length: (words[0] >> 9 & 0x7F) as usize,
            vlan: (words[0] >> 16) as u16,
            ipv4: words[1] >> 10 & 1 != 0,
            transport: (words[1] >> 11 & 3) as u8,
            l4_length: (words[1] >> 40 & 0xFF) as usize,
            segment: (words[1] >> 48) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advanced_write_back_puts_fields_where_the_table_has_them() {
        let words = Received {
            rss_type: 1,
            packet_type: packet_type::IPV4 | packet_type::TCP,
            hash: 0xDEAD_BEEF,
            status: RX_DONE | RX_END | RX_IP | RX_L4,
            errors: RX_ERROR_L4,
            length: 1514,
            vlan: 0x6123,
        }
        .advanced();
        assert_eq!(words[0], 0xDEAD_BEEF_0000_0111);
        assert_eq!(words[1], 0x6123_05EA_4000_0063);
    }

    #[test]
    fn legacy_write_back_keeps_the_address() {
        let words = Received {
            status: RX_DONE | RX_END,
            errors: RX_ERROR_IP | RX_ERROR_L4,
            length: 60,
            ..Received::default()
        }
        .legacy(0x1234_5000);
        assert_eq!(words, [0x1234_5000, 0x0000_C003_0000_003C]);
    }

    #[test]
    fn context_fields_are_cut_out() {
        let words = [
            14 << 9 | 20 | 0x0064 << 16,
            1 << 10 | 1 << 11 | 2 << 20 | 1 << 29 | 1 << 36 | 32 << 40 | 1448 << 48,
        ];
        let context = Context::parse(words);
        assert_eq!(
            context,
            Context {
                ip_length: 20,
                mac_length: 14,
                vlan: 100,
                ipv4: true,
                transport: 1,
                l4_length: 32,
                segment: 1448,
            }
        );
        assert_eq!(context_index(words[1]), 1);
    }
}
