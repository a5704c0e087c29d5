//! Properties of all views at once: no bytes make one panic, parse and emit are inverse, and an
//! independent library (`pnet_packet`) reads the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use pnet_packet::Packet;
use pnet_packet::{ethernet as pnet_ethernet, ipv4 as pnet_ipv4, udp as pnet_udp};
use proptest::prelude::*;

use crate::*;

/// Calls everything a view offers, going as deep as the bytes allow.
fn look_at_everything(bytes: &mut [u8]) {
    let _ = vlan::remove(&mut bytes.to_vec());
    if let Ok(frame) = EthernetFrame::new_checked(&*bytes) {
        let _ = (frame.destination(), frame.source(), frame.vlan());
        let (_, payload) = frame.untagged();
        look_at_network(&mut payload.to_vec());
    }
    look_at_network(bytes);
}

fn look_at_network(bytes: &mut [u8]) {
    if let Ok(packet) = ArpPacket::new_checked(&*bytes) {
        let _ = ArpRepr::parse(&packet).reply(packet.target_mac());
    }
    if let Ok(mut packet) = Ipv4Packet::new_checked(&mut *bytes) {
        let _ = (packet.dscp(), packet.ecn(), packet.identification());
        let _ = (packet.dont_fragment(), packet.is_fragment(), packet.ttl());
        let _ = (packet.verify_checksum(), packet.options().count());
        let _ = Ipv4Repr::parse(&packet);
        packet.decrement_ttl();
        packet.set_source(Ipv4Addr::LOCALHOST);
        packet.fill_checksum();
        assert!(packet.verify_checksum());
        look_at_transport(packet.payload_mut());
    }
    if let Ok(mut packet) = Ipv6Packet::new_checked(&mut *bytes) {
        let _ = (packet.traffic_class(), packet.flow_label());
        packet.decrement_hop_limit();
        if let Ok(upper) = packet.upper_layer() {
            look_at_transport(&mut upper.payload.to_vec());
        }
        packet.payload_mut().fill(0);
    }
    look_at_transport(bytes);
}

fn look_at_transport(bytes: &mut [u8]) {
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    if let Ok(mut packet) = UdpPacket::new_checked(&mut *bytes) {
        let _ = UdpRepr::parse(&packet);
        packet.fill_checksum(v6, v6);
        assert!(packet.verify_checksum(v6, v6));
        packet.payload_mut().fill(0xff);
    }
    if let Ok(mut packet) = TcpPacket::new_checked(&mut *bytes) {
        let _ = (packet.sequence(), packet.flags(), packet.window());
        let _ = (packet.options().count(), packet.payload());
        packet.fill_checksum(v4, v4);
        assert!(packet.verify_checksum(v4, v4));
    }
    if let Ok(mut echo) = IcmpEcho::new_checked(&mut *bytes) {
        let _ = (echo.verify_checksum_v4(), echo.payload());
        let _ = echo.verify_checksum_v6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        echo.make_reply();
    }
}

/// Bytes that often look like a header of interest, else are rarely taken for one.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        Just(0x45u8),
        Just(0x46),
        Just(0x4f),
        Just(0x60),
        any::<u8>()
    ];
    let mut kinds: Vec<u8> = Vec::from([0, 1, 6, 17, 43, 44, 51, 58, 60]);
    kinds.push(135);
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    (first, prop::sample::select(kinds), bytes).prop_map(|(first, kind, mut bytes)| {
        let len = bytes.len() as u8;
        for (at, value) in [(0, first), (2, 0), (3, len), (4, 0), (6, kind), (9, kind)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if first == 0x60
            && let Some(byte) = bytes.get_mut(5)
        {
            *byte = len.saturating_sub(40);
        }
        bytes
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    any::<([u8; 6], u32, u16)>().prop_map(|(mac, ip, port)| Endpoint {
        mac: MacAddress(mac),
        ip: ip.into(),
        port,
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        look_at_everything(&mut { bytes });
    }

    #[test]
    fn no_plausible_bytes_panic(bytes in plausible()) {
        look_at_network(&mut { bytes });
    }

    #[test]
    fn mac_text_round_trip(octets: [u8; 6]) {
        let mac = MacAddress(octets);
        prop_assert_eq!(std::string::ToString::to_string(&mac).parse(), Ok(mac));
        prop_assert_eq!(MacAddress::from_bits(mac.to_bits()), mac);
    }

    #[test]
    fn swapped_addresses(bytes: [u8; 20]) {
        let mut frame = EthernetFrame::new_checked(bytes).unwrap();
        frame.swap_addresses();
        let swapped = frame.into_inner();
        prop_assert_eq!(&swapped[..6], &bytes[6..12]);
        prop_assert_eq!(&swapped[6..12], &bytes[..6]);
        prop_assert_eq!(&swapped[12..], &bytes[12..]);
    }

    #[test]
    fn tags_go_in_and_out(frame in prop::collection::vec(any::<u8>(), 14..100), tag: u16) {
        let mut buffer = frame.clone();
        buffer.extend([0; 4]);
        let len = vlan::insert(&mut buffer, frame.len(), EtherType::VLAN, VlanTag(tag));
        prop_assert_eq!(len, Ok(frame.len() + 4));
        prop_assert_eq!(vlan::remove(&mut buffer), Some(VlanTag(tag)));
        prop_assert_eq!(&buffer[..frame.len()], &frame[..]);
    }

    #[test]
    fn arp_parse_of_emit(operation: u16, a: ([u8; 6], u32), b: ([u8; 6], u32)) {
        let pair = |(mac, ip): ([u8; 6], u32)| (MacAddress(mac), Ipv4Addr::from(ip));
        let repr = ArpRepr { operation: ArpOperation(operation), sender: pair(a), target: pair(b) };
        let mut buffer = [0; arp::PACKET_LEN];
        prop_assert_eq!(repr.emit(&mut buffer), Ok(()));
        let packet = ArpPacket::new_checked(&buffer).map(|packet| ArpRepr::parse(&packet));
        prop_assert_eq!(packet, Ok(repr));
    }

    #[test]
    fn udp_frames_read_the_same_elsewhere(
        source in endpoint(), destination in endpoint(), payload in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let frame = UdpFrame { source, destination, payload_len: payload.len() as u16 };
        let mut buffer = std::vec![0; frame.len()];
        let len = frame.emit(&mut buffer, |place| place.copy_from_slice(&payload));
        prop_assert_eq!(len, Ok(buffer.len()));

        let ethernet = pnet_ethernet::EthernetPacket::new(&buffer).unwrap();
        prop_assert_eq!(ethernet.get_destination().octets(), destination.mac.octets());
        prop_assert_eq!(ethernet.get_source().octets(), source.mac.octets());
        let ip = pnet_ipv4::Ipv4Packet::new(ethernet.payload()).unwrap();
        prop_assert_eq!(ip.get_checksum(), pnet_ipv4::checksum(&ip));
        prop_assert_eq!((ip.get_source(), ip.get_destination()), (source.ip, destination.ip));
        let udp = pnet_udp::UdpPacket::new(ip.payload()).unwrap();
        prop_assert_eq!((udp.get_source(), udp.get_destination()), (source.port, destination.port));
        prop_assert_eq!(udp.payload(), &payload[..]);
        let expected = match pnet_udp::ipv4_checksum(&udp, &source.ip, &destination.ip) {
            0 => 0xffff,
            sum => sum,
        };
        prop_assert_eq!(udp.get_checksum(), expected);
    }
}
