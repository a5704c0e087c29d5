//! Reads every view over arbitrary bytes, as deep as they allow.
//!
//! Invariants: no accessor panics; a payload lies within the bytes and behind its header.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use sumac_packet::{
    ArpPacket, ArpRepr, EtherType, EthernetFrame, EthernetRepr, IcmpEcho, IpProtocol, Ipv4Packet,
    Ipv4Repr, Ipv6Packet, TcpPacket, UdpPacket, UdpRepr, arp, ethernet,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(frame) = EthernetFrame::new_checked(bytes) else {
        assert!(bytes.len() < ethernet::HEADER_LEN);
        return;
    };
    let repr = EthernetRepr::parse(&frame);
    let mut header = [0; ethernet::HEADER_LEN];
    assert!(
        repr.emit(&mut header)
            .is_ok_and(|payload| payload.is_empty())
    );
    assert_eq!(header, bytes[..ethernet::HEADER_LEN]);
    let (ethertype, payload) = frame.untagged();
    assert!(payload.len() <= frame.payload().len());
    match ethertype {
        EtherType::ARP => read_arp(payload),
        EtherType::IPV4 => read_ipv4(payload),
        EtherType::IPV6 => read_ipv6(payload),
        _ => {}
    }
});

/// An ARP packet is fixed in layout: parse and emit are inverse.
fn read_arp(bytes: &[u8]) {
    let Ok(packet) = ArpPacket::new_checked(bytes) else {
        return;
    };
    let mut copy = [0; arp::PACKET_LEN];
    assert!(ArpRepr::parse(&packet).emit(&mut copy).is_ok());
    assert_eq!(copy, bytes[..arp::PACKET_LEN]);
}

fn read_ipv4(bytes: &[u8]) {
    let Ok(packet) = Ipv4Packet::new_checked(bytes) else {
        return;
    };
    assert!(packet.header_len() <= packet.total_len() && packet.total_len() <= bytes.len());
    assert_eq!(
        packet.payload().len(),
        packet.total_len() - packet.header_len()
    );
    // At least two bytes an option, or an error that ends the list.
    assert!(packet.options().count() <= 20);
    assert_eq!(Ipv4Repr::parse(&packet).is_ok(), packet.verify_checksum());
    let ends = (packet.source().into(), packet.destination().into());
    if packet.fragment_offset() == 0 {
        read_transport(packet.protocol(), packet.payload(), ends);
    }
}

fn read_ipv6(bytes: &[u8]) {
    let Ok(packet) = Ipv6Packet::new_checked(bytes) else {
        return;
    };
    assert!(packet.payload().len() < bytes.len());
    let Ok(upper) = packet.upper_layer() else {
        return;
    };
    assert!(upper.payload.len() <= packet.payload().len());
    let ends = (packet.source().into(), packet.destination().into());
    if upper.fragment_offset == 0 {
        read_transport(upper.protocol, upper.payload, ends);
    }
}

fn read_transport(protocol: IpProtocol, bytes: &[u8], (source, destination): (IpAddr, IpAddr)) {
    match protocol {
        IpProtocol::UDP => {
            let Ok(packet) = UdpPacket::new_checked(bytes) else {
                return;
            };
            assert!(packet.len() <= bytes.len() && packet.payload().len() < packet.len());
            let repr = UdpRepr::parse(&packet);
            assert_eq!(usize::from(repr.payload_len), packet.payload().len());
            packet.verify_checksum(source, destination);
            // Addresses of two versions are no reason to panic either.
            packet.verify_checksum(Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        }
        IpProtocol::TCP => {
            let Ok(packet) = TcpPacket::new_checked(bytes) else {
                return;
            };
            assert_eq!(packet.header_len() + packet.payload().len(), bytes.len());
            assert!(packet.options().count() <= 20);
            packet.verify_checksum(source, destination);
        }
        IpProtocol::ICMP | IpProtocol::ICMPV6 => {
            let Ok(echo) = IcmpEcho::new_checked(bytes) else {
                return;
            };
            assert!(echo.payload().len() < bytes.len());
            echo.verify_checksum_v4();
            if let (IpAddr::V6(source), IpAddr::V6(destination)) = (source, destination) {
                echo.verify_checksum_v6(source, destination);
            }
        }
        _ => {}
    }
}
