//! Views and builders for Ethernet, VLAN, ARP, IPv4, IPv6, UDP, TCP and ICMP echo.
//!
//! A *view* ([`EthernetFrame`], [`Ipv4Packet`], ...) wraps any bytes and reads fields where they
//! lie; nothing is copied. A *Repr* ([`EthernetRepr`], [`Ipv4Repr`], ...) is the parsed form, for
//! those protocols of which frames are built.
//!
//! # The panic contract
//! - A view exists only if its `new_checked` found every length field consistent with the buffer.
//!   After that **no accessor and no setter panics**, whatever the bytes are.
//! - Setters change only fields on which no other field's place depends. Fields that do place
//!   others (header length, total length) are written by `Repr::emit`, never in place.
//! - `Repr::emit` and the builders answer a buffer that is too short with [`BufferTooSmall`].
//! - The wrapped buffer must show the same bytes each time it is asked, as slices and arrays do.
//!
//! Bytes beyond what a length field covers (Ethernet padding, for one) are not part of a payload.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod frame;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod mac;
pub mod tcp;
pub mod udp;
pub mod vlan;

mod bytes;
#[cfg(test)]
mod properties;

pub use arp::{ArpOperation, ArpPacket, ArpRepr};
pub use ethernet::{EtherType, EthernetFrame, EthernetRepr};
pub use frame::{Endpoint, UdpFrame};
pub use icmp::IcmpEcho;
pub use ip::IpProtocol;
pub use ipv4::{Ipv4Packet, Ipv4Repr};
pub use ipv6::{Ipv6Packet, UpperLayer};
pub use mac::{MacAddress, MacParseError};
pub use tcp::{TcpFlags, TcpPacket};
pub use udp::{UdpPacket, UdpRepr};
pub use vlan::VlanTag;

/// Why bytes are not the packet they were taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// The buffer ends before the packet does: wait for more, or drop it.
    #[error("packet is cut short")]
    Truncated,
    /// A field holds a value that the protocol does not allow: drop it.
    #[error("packet is malformed")]
    Malformed,
}

/// A buffer is shorter than what was to be written into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("buffer of {have} bytes is too small, {need} are needed")]
pub struct BufferTooSmall {
    /// Bytes needed.
    pub need: usize,
    /// Bytes there were.
    pub have: usize,
}
