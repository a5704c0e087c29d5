//! Tests of the frame functions: against frames built by another library, against the published
//! RSS vectors, and on arbitrary bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4Header, PacketBuilder, ip_number};
use proptest::prelude::*;

use super::checksum::{Sum, crc32c};
use super::offload::pseudo_header;
use super::*;

const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DESTINATION: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The key of Microsoft's "Verifying the RSS Hash Calculation".
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// The shape of a frame for the other library to build.
#[derive(Debug, Clone)]
struct Shape {
    tags: usize,
    ipv6: bool,
    tcp: bool,
    payload: Vec<u8>,
}

impl Shape {
    fn build(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(SOURCE, DESTINATION);
        let (v4, v6) = (([10, 0, 0, 1], [10, 0, 0, 2]), ([0x20; 16], [0x30; 16]));
        macro_rules! ip {
            ($builder:expr) => {
                if self.ipv6 {
                    $builder.ipv6(v6.0, v6.1, 64)
                } else {
                    $builder.ipv4(v4.0, v4.1, 64)
                }
            };
        }
        let vlan = |id| etherparse::VlanId::try_new(id).unwrap();
        let ip = match self.tags {
            0 => ip!(ethernet),
            1 => ip!(ethernet.single_vlan(vlan(7))),
            _ => ip!(ethernet.double_vlan(vlan(8), vlan(7))),
        };
        let mut frame = Vec::new();
        if self.tcp {
            ip.tcp(1000, 2000, 3, 4)
                .write(&mut frame, &self.payload)
                .unwrap();
        } else {
            ip.udp(1000, 2000).write(&mut frame, &self.payload).unwrap();
        }
        frame
    }

    fn l3_offset(&self) -> usize {
        14 + 4 * self.tags
    }

    fn l4_offset(&self) -> usize {
        self.l3_offset() + if self.ipv6 { 40 } else { 20 }
    }

    /// Where the transport checksum is.
    fn l4_field(&self) -> usize {
        self.l4_offset() + if self.tcp { 16 } else { 6 }
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (0usize..3, any::<bool>(), any::<bool>(), payload).prop_map(|(tags, ipv6, tcp, payload)| {
        Shape {
            tags,
            ipv6,
            tcp,
            payload,
        }
    })
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..200), mac in 0usize..300, ip in 0usize..300) {
        exercise(bytes, mac, ip);
    }

    #[test]
    fn any_damaged_frame_is_a_frame(shape in shapes(), at in any::<prop::sample::Index>(), byte in any::<u8>(), keep in 0usize..400) {
        let mut frame = shape.build();
        let at = at.index(frame.len());
        frame[at] = byte;
        frame.truncate(keep);
        exercise(frame, shape.l3_offset(), 20);
    }

    #[test]
    fn headers_are_found_and_checksums_hold(shape in shapes(), padding in 0usize..20) {
        let mut frame = shape.build();
        let length = frame.len();
        frame.extend(std::iter::repeat_n(0xEE, padding));
        let layout = Layout::of(&frame);
        prop_assert_eq!(layout, Layout::any(&frame));
        prop_assert_eq!(usize::from(layout.vlan_tags), shape.tags);
        prop_assert_eq!(layout.l3, if shape.ipv6 { L3::Ipv6 } else { L3::Ipv4 });
        prop_assert_eq!(layout.l4, if shape.tcp { L4::Tcp } else { L4::Udp });
        prop_assert_eq!(usize::from(layout.l3_offset), shape.l3_offset());
        prop_assert_eq!(usize::from(layout.l4_offset), shape.l4_offset());
        prop_assert_eq!(usize::from(layout.l3_end), length);
        prop_assert!(!layout.fragment && !layout.extended && !layout.truncated && !layout.opaque);
        let checksums = ReceiveChecksums::verify(&frame, &layout);
        prop_assert_eq!(checksums.ip, if shape.ipv6 { Verdict::Unchecked } else { Verdict::Good });
        prop_assert_eq!(checksums.l4, Verdict::Good);
    }

    #[test]
    fn a_flipped_bit_is_a_bad_checksum(shape in shapes(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut frame = shape.build();
        // Anywhere in the transport header's ports or the payload: no length changes.
        let header = shape.l4_offset();
        let payload = frame.len() - shape.payload.len();
        let places: Vec<usize> = (header..header + 4).chain(payload..frame.len()).collect();
        frame[places[at.index(places.len())]] ^= 1 << bit;
        let layout = Layout::of(&frame);
        prop_assert_eq!(ReceiveChecksums::verify(&frame, &layout).l4, Verdict::Bad);
    }

    #[test]
    fn inserted_checksums_are_those_of_the_other_library(shape in shapes()) {
        let built = shape.build();
        let layout = Layout::of(&built);
        let mut frame = built.clone();
        let l4 = shape.l4_offset();
        let protocol = if shape.tcp { 6 } else { 17 };
        let seed = pseudo_header(&frame, &layout, frame.len() - l4, protocol).unwrap().folded();
        frame[shape.l4_field()..][..2].copy_from_slice(&seed.to_be_bytes());
        if !shape.ipv6 {
            frame[shape.l3_offset() + 10..][..2].fill(0);
        }
        let request = TransmitChecksums {
            mac_len: shape.l3_offset(),
            ip_len: l4 - shape.l3_offset(),
            ip: !shape.ipv6,
            l4: Some(layout.l4),
        };
        request.insert(&mut frame).unwrap();
        prop_assert_eq!(frame, built);
    }

    #[test]
    fn the_sum_is_that_of_the_words(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low))).sum();
        while sum > 0xFFFF {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        prop_assert_eq!(Sum::default().bytes(&bytes).folded(), sum as u16);
    }

    #[test]
    fn a_tag_put_in_comes_out(bytes in prop::collection::vec(any::<u8>(), 0..100), control in any::<u16>()) {
        let mut frame = bytes.clone();
        prop_assert_eq!(vlan::insert(&mut frame, 0x8100, control), bytes.len() >= 12);
        if bytes.len() >= 12 {
            let (found, pieces) = vlan::stripped(&frame, 0x8100).unwrap();
            prop_assert_eq!(found, control);
            prop_assert_eq!(pieces.concat(), bytes);
            prop_assert!(vlan::stripped(&frame, 0x88A8).is_none());
        }
    }

    #[test]
    fn tables_agree_with_the_bitwise_definition(key in prop::array::uniform32(any::<u8>()), input in prop::collection::vec(any::<u8>(), 0..37)) {
        let mut long = [0x5A; 40];
        long[..32].copy_from_slice(&key);
        prop_assert_eq!(Toeplitz::new(&long).hash(&input), bitwise_toeplitz(&long, &input));
    }
}

fn bitwise_toeplitz(key: &[u8; 40], input: &[u8]) -> u32 {
    let key_bit = |n: usize| u32::from(key[n / 8] >> (7 - n % 8)) & 1;
    let set = (0..input.len() * 8).filter(|n| input[n / 8] >> (7 - n % 8) & 1 == 1);
    set.fold(0, |hash, n| {
        hash ^ (0..32).fold(0, |window, bit| window << 1 | key_bit(n + bit))
    })
}

/// Calls everything on a frame; the result of each must lie within it.
fn exercise(mut frame: Vec<u8>, mac_len: usize, ip_len: usize) {
    let layout = Layout::of(&frame);
    assert_eq!(
        layout,
        Layout::any(&frame),
        "the short way finds what the long one does"
    );
    assert!(usize::from(layout.l3_offset) <= frame.len());
    assert!(usize::from(layout.l3_end) <= frame.len());
    assert!(usize::from(layout.l4_offset) <= usize::from(layout.l3_end));
    ReceiveChecksums::verify(&frame, &layout);
    let all = RssFields::from_mrqc(!0);
    Toeplitz::new(&KEY).hash_frame(&frame, &layout, all);
    vlan::stripped(&frame, 0x8100);
    for l4 in [
        None,
        Some(L4::Tcp),
        Some(L4::Udp),
        Some(L4::Sctp),
        Some(L4::Other),
    ] {
        let before = frame.clone();
        let request = TransmitChecksums {
            mac_len,
            ip_len,
            ip: true,
            l4,
        };
        if request.insert(&mut frame).is_err() {
            assert_eq!(frame, before);
        }
    }
}

/// A bare frame with `ether_type` and `rest`.
fn ethernet(ether_type: u16, rest: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &ether_type.to_be_bytes(), rest].concat()
}

/// An IPv6 frame whose first header after the fixed one is `next`.
fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = [0x11; 40];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
    header[6] = next;
    ethernet(0x86DD, &[&header[..], rest].concat())
}

/// A UDP datagram without payload, whose checksum is wrong.
const UDP: [u8; 8] = [1, 2, 3, 4, 0, 8, 9, 9];

#[test]
fn extension_headers_are_skipped() {
    let hop = [60, 0, 1, 4, 0, 0, 0, 0];
    let destination = [17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layout = Layout::of(&ipv6(0, &[&hop[..], &destination, &UDP].concat()));
    assert_eq!((layout.l4, layout.l4_offset), (L4::Udp, 14 + 40 + 8 + 16));
    assert!(layout.extended && !layout.opaque && !layout.fragment);
}

#[test]
fn addresses_in_extension_headers_hide_the_checksum() {
    let mut routing = [0; 24];
    routing[..4].copy_from_slice(&[17, 2, 0, 1]);
    let mut home = [0; 24];
    home[..6].copy_from_slice(&[17, 2, 1, 0, 201, 16]);
    for (next, header) in [(43, routing), (60, home)] {
        let frame = ipv6(next, &[&header[..], &UDP].concat());
        let layout = Layout::of(&frame);
        assert_eq!(layout.l4, L4::Udp);
        assert!(layout.opaque);
        assert_eq!(
            ReceiveChecksums::verify(&frame, &layout).l4,
            Verdict::Unchecked
        );
    }
    let frame = ipv6(43, &[&[17, 0, 0, 0, 0, 0, 0, 0][..], &UDP].concat());
    assert_eq!(
        ReceiveChecksums::verify(&frame, &Layout::of(&frame)).l4,
        Verdict::Bad
    );
}

#[test]
fn fragments_have_no_transport_layer() {
    let frame = ipv6(44, &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &UDP].concat());
    let layout = Layout::of(&frame);
    assert!(layout.fragment && layout.extended);
    assert_eq!((layout.l3, layout.l4), (L3::Ipv6, L4::Other));

    let mut frame = Shape {
        tags: 0,
        ipv6: false,
        tcp: true,
        payload: vec![0; 9],
    }
    .build();
    frame[14 + 6] = 0x20;
    let layout = Layout::of(&frame);
    assert!(layout.fragment);
    assert_eq!((layout.l3, layout.l4), (L3::Ipv4, L4::Other));
    assert_eq!(
        ReceiveChecksums::verify(&frame, &layout).l4,
        Verdict::Unchecked
    );
    let all = RssFields::from_mrqc(!0);
    let hash = Toeplitz::new(&KEY)
        .hash_frame(&frame, &layout, all)
        .unwrap();
    assert_eq!(hash.kind, RssType::Ipv4);
}

#[test]
fn ipv4_options_are_covered() {
    let mut header = Ipv4Header::new(8, 9, ip_number::UDP, [1, 2, 3, 4], [5, 6, 7, 8]).unwrap();
    header.options = [1u8, 1, 1, 0].into();
    header.set_payload_len(UDP.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut packet = Vec::new();
    header.write(&mut packet).unwrap();
    packet.extend(UDP);
    let mut frame = ethernet(0x0800, &packet);
    let layout = Layout::of(&frame);
    assert!(layout.extended);
    assert_eq!((layout.l4, layout.l4_offset), (L4::Udp, 14 + 24));
    assert_eq!(ReceiveChecksums::verify(&frame, &layout).ip, Verdict::Good);
    frame[14 + 20] ^= 0x40;
    assert_eq!(ReceiveChecksums::verify(&frame, &layout).ip, Verdict::Bad);
}

#[test]
fn snap_and_arp_are_known() {
    let built = Shape {
        tags: 0,
        ipv6: false,
        tcp: false,
        payload: vec![1; 30],
    }
    .build();
    let snap = [&[0xAA, 0xAA, 3, 0, 0, 0, 8, 0][..], &built[14..]].concat();
    let frame = ethernet(snap.len() as u16, &snap);
    let layout = Layout::of(&frame);
    assert_eq!((layout.l3, layout.l3_offset), (L3::Ipv4, 22));
    assert_eq!(ReceiveChecksums::verify(&frame, &layout).l4, Verdict::Good);
    assert_eq!(Layout::of(&ethernet(0x0806, &[0; 46])).l3, L3::Arp);
    assert_eq!(Layout::of(&ethernet(0x0806, &[0; 20])).l3, L3::Other);
    assert_eq!(Layout::of(&ethernet(46, &[0; 46])).ether_type, 0);
}

#[test]
fn a_udp_checksum_may_be_absent() {
    let mut frame = Shape {
        tags: 0,
        ipv6: false,
        tcp: false,
        payload: vec![1; 30],
    }
    .build();
    frame[40..42].fill(0);
    let layout = Layout::of(&frame);
    assert_eq!(
        ReceiveChecksums::verify(&frame, &layout).l4,
        Verdict::Unchecked
    );
}

#[test]
fn a_packet_longer_than_its_frame_is_truncated() {
    let mut frame = Shape {
        tags: 0,
        ipv6: false,
        tcp: false,
        payload: vec![1; 30],
    }
    .build();
    frame.truncate(50);
    let layout = Layout::of(&frame);
    assert!(layout.truncated);
    assert_eq!(
        ReceiveChecksums::verify(&frame, &layout).l4,
        Verdict::Unchecked
    );
}

#[test]
fn crc32c_is_the_published_one() {
    // RFC 3720, appendix B.4.
    assert_eq!(crc32c(&[&[0; 32]]), 0x8A91_36AA);
    assert_eq!(crc32c(&[&[0xFF; 16], &[0xFF; 16]]), 0x62A8_AB43);
}

#[test]
fn sctp_is_inserted_and_verified() {
    let mut header = Ipv4Header::new(16, 9, ip_number::SCTP, [1, 2, 3, 4], [5, 6, 7, 8]).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut packet = Vec::new();
    header.write(&mut packet).unwrap();
    packet.extend([1; 16]);
    let mut frame = ethernet(0x0800, &packet);
    let layout = Layout::of(&frame);
    assert_eq!(layout.l4, L4::Sctp);
    assert_eq!(ReceiveChecksums::verify(&frame, &layout).l4, Verdict::Bad);
    let request = TransmitChecksums {
        mac_len: 14,
        ip_len: 20,
        ip: false,
        l4: Some(L4::Sctp),
    };
    request.insert(&mut frame).unwrap();
    assert_eq!(ReceiveChecksums::verify(&frame, &layout).l4, Verdict::Good);
    frame[48] ^= 1;
    assert_eq!(ReceiveChecksums::verify(&frame, &layout).l4, Verdict::Bad);
}

/// Builds a TCP frame, hashes it and its UDP twin with and without ports.
fn hashes(source: &str, source_port: u16, destination: &str, destination_port: u16) -> [u32; 3] {
    let toeplitz = Toeplitz::new(&KEY);
    let ip = || {
        let ethernet = PacketBuilder::ethernet2(SOURCE, DESTINATION);
        match (source.parse::<Ipv4Addr>(), destination.parse::<Ipv4Addr>()) {
            (Ok(source), Ok(destination)) => {
                ethernet.ipv4(source.octets(), destination.octets(), 9)
            }
            _ => {
                let octets = |address: &str| address.parse::<Ipv6Addr>().unwrap().octets();
                ethernet.ipv6(octets(source), octets(destination), 9)
            }
        }
    };
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    ip().tcp(source_port, destination_port, 0, 0)
        .write(&mut tcp, &[])
        .unwrap();
    ip().udp(source_port, destination_port)
        .write(&mut udp, &[])
        .unwrap();
    let addresses = RssFields::IPV4 | RssFields::IPV6;
    let all = RssFields::from_mrqc(!0);
    let hash = |frame: &[u8], fields| {
        let layout = Layout::of(frame);
        toeplitz.hash_frame(frame, &layout, fields).unwrap().value
    };
    [hash(&tcp, addresses), hash(&tcp, all), hash(&udp, all)]
}

#[test]
fn hashes_are_the_published_ones() {
    let vectors = [
        (
            "66.9.149.187",
            2794,
            "161.142.100.80",
            1766,
            0x323e_8fc2,
            0x51cc_c178,
        ),
        (
            "199.92.111.2",
            14230,
            "65.69.140.83",
            4739,
            0xd718_262a,
            0xc626_b0ea,
        ),
        (
            "24.19.198.95",
            12898,
            "12.22.207.184",
            38024,
            0xd2d0_a5de,
            0x5c2b_394a,
        ),
        (
            "38.27.205.30",
            48228,
            "209.142.163.6",
            2217,
            0x8298_9176,
            0xafc7_327f,
        ),
        (
            "153.39.163.191",
            44251,
            "202.188.127.2",
            1303,
            0x5d18_09c5,
            0x10e8_28a2,
        ),
        (
            "3ffe:2501:200:1fff::7",
            2794,
            "3ffe:2501:200:3::1",
            1766,
            0x2cc1_8cd5,
            0x4020_7d3d,
        ),
        (
            "3ffe:501:8::260:97ff:fe40:efab",
            14230,
            "ff02::1",
            4739,
            0x0f0c_461c,
            0xdde5_1bbf,
        ),
        (
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            "fe80::200:f8ff:fe21:67cf",
            38024,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];
    for (source, source_port, destination, destination_port, addresses, ports) in vectors {
        let [plain, tcp, udp] = hashes(source, source_port, destination, destination_port);
        assert_eq!(
            (plain, tcp, udp),
            (addresses, ports, ports),
            "{source} -> {destination}"
        );
    }
}

#[test]
fn unselected_kinds_have_no_hash() {
    let toeplitz = Toeplitz::new(&KEY);
    let udp = Shape {
        tags: 0,
        ipv6: false,
        tcp: false,
        payload: vec![1; 30],
    }
    .build();
    let layout = Layout::of(&udp);
    let other = RssFields::TCP_IPV4 | RssFields::IPV6 | RssFields::UDP_IPV6;
    assert_eq!(toeplitz.hash_frame(&udp, &layout, other), None);
    assert!(!RssFields::from_mrqc(0xFFFF).has(RssFields::IPV4));
}
