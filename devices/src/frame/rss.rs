//! Receive side scaling: the Toeplitz hash and which fields it covers (datasheet section 7.1.2.8).
//!
//! The hash of an input is the exclusive or of 32-bit windows of the key, one for each bit that is
//! set. [`Toeplitz`] has these worked out for every value of every byte, so that a hash over n
//! bytes is n table reads.

use super::{L3, L4, Layout};

/// Bytes of key the 82599 has (RSSRK, section 8.2.3.7.14).
pub const KEY_LEN: usize = 40;
/// The longest input: two IPv6 addresses and two ports.
const MAX_INPUT: usize = 36;

/// The hash function under one key.
#[derive(Clone)]
pub struct Toeplitz {
    table: Box<[[u32; 256]; MAX_INPUT]>,
}

impl Toeplitz {
    /// Works out the tables for `key`, byte 0 of which is RSSRK(0) bits 7:0.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        let mut table = Box::new([[0; 256]; MAX_INPUT]);
        for (position, row) in table.iter_mut().enumerate() {
            // The 40 key bits that slide over this byte's 8 bits, in the upper part of a word.
            let mut window = [0; 8];
            window[..5].copy_from_slice(&key[position..][..5]);
            let window = u64::from_be_bytes(window);
            for (value, hash) in row.iter_mut().enumerate() {
                *hash = (0..8)
                    .filter(|bit| value & (0x80 >> bit) != 0)
                    .fold(0, |hash, bit| hash ^ ((window << bit) >> 32) as u32);
            }
        }
        Self { table }
    }

    /// The hash of `input`. Only the first 36 bytes count: there is no key for more.
    #[inline]
    pub fn hash(&self, input: &[u8]) -> u32 {
        let rows = self.table.iter().zip(input);
        rows.fold(0, |hash, (row, &byte)| hash ^ row[usize::from(byte)])
    }

    /// The hash of `frame` over the fields that `fields` selects, or `None` if they are not there.
    ///
    /// A TCP or UDP selection comes before the plain address selection. A fragment has no ports
    /// (even the first one), so only the latter applies. Addresses in IPv6 extension headers are
    /// not hashed, as the 82599 does not (section 7.1.2.8.1).
    #[inline]
    pub fn hash_frame(&self, frame: &[u8], layout: &Layout, fields: RssFields) -> Option<RssHash> {
        let l3 = usize::from(layout.l3_offset);
        match layout.l3 {
            L3::Ipv4 => self.hash_fields::<8>(frame, l3 + 12, layout, fields, &IPV4_KINDS),
            L3::Ipv6 => self.hash_fields::<32>(frame, l3 + 8, layout, fields, &IPV6_KINDS),
            _ => None,
        }
    }

    /// `ADDRESSES`: bytes of the two addresses, which begin at `at`.
    #[inline]
    fn hash_fields<const ADDRESSES: usize>(
        &self,
        frame: &[u8],
        at: usize,
        layout: &Layout,
        fields: RssFields,
        kinds: &[(RssType, RssFields); 3],
    ) -> Option<RssHash> {
        let [(tcp, tcp_field), (udp, udp_field), (plain, plain_field)] = *kinds;
        let addresses = frame.get(at..)?.first_chunk::<ADDRESSES>()?;
        let with_ports = match layout.l4 {
            L4::Tcp if fields.has(tcp_field) => Some(tcp),
            L4::Udp if fields.has(udp_field) => Some(udp),
            _ => None,
        };
        if let Some(kind) = with_ports {
            let ports = frame
                .get(usize::from(layout.l4_offset)..)?
                .first_chunk::<4>()?;
            let value = self.hash_at::<0, ADDRESSES>(addresses);
            let ports = match ADDRESSES {
                8 => self.hash_at::<8, 4>(ports),
                _ => self.hash_at::<32, 4>(ports),
            };
            return Some(RssHash {
                kind,
                value: value ^ ports,
            });
        }
        fields.has(plain_field).then(|| RssHash {
            kind: plain,
            value: self.hash_at::<0, _>(addresses),
        })
    }

    /// The part of a hash that `LENGTH` bytes from byte `AT` of the input contribute: fixed, so that
    /// it is a straight line of table reads.
    #[inline(always)]
    fn hash_at<const AT: usize, const LENGTH: usize>(&self, input: &[u8; LENGTH]) -> u32 {
        let bytes = input.iter().enumerate();
        bytes.fold(0, |hash, (n, &byte)| {
            hash ^ self.table[AT + n][usize::from(byte)]
        })
    }
}

const IPV4_KINDS: [(RssType, RssFields); 3] = [
    (RssType::TcpIpv4, RssFields::TCP_IPV4),
    (RssType::UdpIpv4, RssFields::UDP_IPV4),
    (RssType::Ipv4, RssFields::IPV4),
];
const IPV6_KINDS: [(RssType, RssFields); 3] = [
    (RssType::TcpIpv6, RssFields::TCP_IPV6),
    (RssType::UdpIpv6, RssFields::UDP_IPV6),
    (RssType::Ipv6, RssFields::IPV6),
];

/// Which kinds of packet are hashed, in the bits of MRQC (section 8.2.3.7.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RssFields(u32);

impl RssFields {
    /// TCP over IPv4: addresses and ports.
    pub const TCP_IPV4: Self = Self(1 << 16);
    /// IPv4: addresses.
    pub const IPV4: Self = Self(1 << 17);
    /// IPv6: addresses.
    pub const IPV6: Self = Self(1 << 20);
    /// TCP over IPv6: addresses and ports.
    pub const TCP_IPV6: Self = Self(1 << 21);
    /// UDP over IPv4: addresses and ports.
    pub const UDP_IPV4: Self = Self(1 << 22);
    /// UDP over IPv6: addresses and ports.
    pub const UDP_IPV6: Self = Self(1 << 23);

    /// The selection in an MRQC value; other bits are left out.
    pub fn from_mrqc(mrqc: u32) -> Self {
        Self(mrqc & 0x00F3_0000)
    }

    /// Whether `field` is selected.
    #[inline]
    pub fn has(self, field: Self) -> bool {
        self.0 & field.0 == field.0
    }
}

impl std::ops::BitOr for RssFields {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A receive descriptor's RSS type (section 7.1.6.2, table of RSS types). A frame without a hash
/// has type 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RssType {
    /// TCP over IPv4.
    TcpIpv4 = 1,
    /// IPv4 addresses.
    Ipv4 = 2,
    /// TCP over IPv6.
    TcpIpv6 = 3,
    /// IPv6 addresses.
    Ipv6 = 5,
    /// UDP over IPv4.
    UdpIpv4 = 7,
    /// UDP over IPv6.
    UdpIpv6 = 8,
}

/// A hash and what it covers, as a receive descriptor reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RssHash {
    /// What was hashed.
    pub kind: RssType,
    /// The hash; its low 7 bits choose the entry of the redirection table.
    pub value: u32,
}
