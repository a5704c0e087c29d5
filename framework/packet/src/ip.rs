//! What IPv4 and IPv6 share: the protocol number of what they carry.

/// An IP protocol or IPv6 next header number (IANA "Protocol Numbers"); unknown ones are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct IpProtocol(pub u8);

impl IpProtocol {
    /// IPv6 hop-by-hop options (RFC 8200, section 4.3).
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// IPv6 routing header (RFC 8200, section 4.4).
    pub const IPV6_ROUTING: Self = Self(43);
    /// IPv6 fragment header (RFC 8200, section 4.5).
    pub const IPV6_FRAGMENT: Self = Self(44);
    /// Encapsulating security payload (RFC 4303).
    pub const ESP: Self = Self(50);
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: Self = Self(51);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// Nothing follows (RFC 8200, section 4.7).
    pub const NO_NEXT_HEADER: Self = Self(59);
    /// IPv6 destination options (RFC 8200, section 4.6).
    pub const IPV6_OPTIONS: Self = Self(60);
    /// IPv6 mobility header (RFC 6275).
    pub const MOBILITY: Self = Self(135);
    /// SCTP.
    pub const SCTP: Self = Self(132);
}
