//! Changes packets in place, as a forwarder does.
//!
//! Invariants: no setter panics; a checksum that was right stays right; a filled one is right; tags
//! put in come out; nothing beyond a packet's own length changes.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use sumac_packet::{
    EtherType, EthernetFrame, IcmpEcho, Ipv4Packet, Ipv6Packet, MacAddress, TcpPacket, UdpPacket,
    VlanTag, ethernet, vlan,
};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

// The first byte chooses, the rest is the packet.
fuzz_target!(|bytes: &[u8]| {
    let Some((choice, packet)) = bytes.split_first() else {
        return;
    };
    let packet = &mut packet.to_vec()[..];
    match choice % 7 {
        0 => tag(packet),
        1 => addresses(packet),
        2 => route_ipv4(packet),
        3 => route_ipv6(packet),
        4 => udp(packet),
        5 => tcp(packet),
        _ => echo(packet),
    }
});

fn tag(before: &[u8]) {
    if vlan::remove(&mut before.to_vec()).is_none() && before.len() >= 18 {
        assert!(EthernetFrame::new_checked(before).is_ok_and(|frame| frame.vlan().is_none()));
    }
    let mut longer = [before, &[0; vlan::TAG_LEN]].concat();
    match vlan::insert(&mut longer, before.len(), EtherType::VLAN, VlanTag(0x6064)) {
        // Without a type of its own the frame has nothing that could stand behind the tag.
        Ok(_) if before.len() < ethernet::HEADER_LEN => {}
        Ok(length) => {
            assert_eq!(length, before.len() + vlan::TAG_LEN);
            assert_eq!(vlan::remove(&mut longer[..length]), Some(VlanTag(0x6064)));
            assert_eq!(longer[..before.len()], *before);
        }
        Err(_) => assert!(before.len() < 12),
    }
}

fn addresses(bytes: &mut [u8]) {
    let before = bytes.to_vec();
    let Ok(mut frame) = EthernetFrame::new_checked(bytes) else {
        return;
    };
    let (destination, source) = (frame.destination(), frame.source());
    frame.swap_addresses();
    assert_eq!((frame.destination(), frame.source()), (source, destination));
    frame.set_source(MacAddress([2; 6]));
    frame.set_destination(MacAddress([4; 6]));
    assert_eq!((frame.destination().0, frame.source().0), ([4; 6], [2; 6]));
    assert_eq!(frame.into_inner()[12..], before[12..]);
}

fn route_ipv4(bytes: &mut [u8]) {
    let before = bytes.to_vec();
    let Ok(mut packet) = Ipv4Packet::new_checked(bytes) else {
        return;
    };
    let (right, ttl, end) = (packet.verify_checksum(), packet.ttl(), packet.header_len());
    assert_eq!(packet.decrement_ttl(), ttl > 0);
    packet.set_source(Ipv4Addr::new(192, 0, 2, 7));
    packet.set_destination(Ipv4Addr::new(198, 51, 100, 7));
    assert_eq!(packet.verify_checksum(), right);
    packet.fill_checksum();
    assert!(packet.verify_checksum());
    assert_eq!(packet.into_inner()[end..], before[end..]);
}

fn route_ipv6(bytes: &mut [u8]) {
    let before = bytes.to_vec();
    let Ok(mut packet) = Ipv6Packet::new_checked(bytes) else {
        return;
    };
    let hops = packet.hop_limit();
    assert_eq!(packet.decrement_hop_limit(), hops > 0);
    packet.set_source(Ipv6Addr::LOCALHOST);
    packet.set_destination(Ipv6Addr::UNSPECIFIED);
    assert_eq!(packet.payload_mut().len(), packet.payload_len());
    assert_eq!(packet.into_inner()[40..], before[40..]);
}

fn udp(bytes: &mut [u8]) {
    let before = bytes.to_vec();
    let Ok(mut packet) = UdpPacket::new_checked(&mut *bytes) else {
        return;
    };
    let length = packet.len();
    for end in [V4, V6] {
        packet.set_source_port(9);
        packet.fill_checksum(end, end);
        assert_ne!(packet.checksum(), 0, "zero says that there is no checksum");
        assert!(packet.verify_checksum(end, end));
    }
    packet.payload_mut().fill(0xa5);
    assert_eq!(bytes[length..], before[length..]);
}

fn tcp(bytes: &mut [u8]) {
    let Ok(mut packet) = TcpPacket::new_checked(bytes) else {
        return;
    };
    for end in [V4, V6] {
        packet.set_destination_port(80);
        packet.fill_checksum(end, end);
        assert!(packet.verify_checksum(end, end));
    }
}

fn echo(bytes: &mut [u8]) {
    let Ok(mut packet) = IcmpEcho::new_checked(bytes) else {
        return;
    };
    let (right, request) = (packet.verify_checksum_v4(), packet.is_request());
    assert_eq!(packet.make_reply(), request);
    assert!(!packet.is_request());
    assert_eq!(packet.verify_checksum_v4(), right);
}
