//! Makes frames of many kinds, and reads and writes pcap files, byte by byte.
//!
//! Deliberately without the project's own packet and capture code: it is under test here. Lengths
//! are without the frame check sequence, as in capture files: 60 bytes here are 64 on the wire.

use std::fs;
use std::path::Path;

/// The shortest frame without its check sequence.
const MIN: usize = 60;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const IPV6: u16 = 0x86dd;

/// Frames of 60 to 9,000 bytes: plain and tagged IPv4, IPv6, ARP, fragments, an unknown type.
///
/// Contents depend on the position alone, so two calls give the same frames.
pub fn mixed() -> Vec<Vec<u8>> {
    let lengths = [
        60, 61, 64, 65, 127, 128, 256, 511, 1024, 1514, 1515, 2047, 2048, 2049, 4096,
    ];
    let lengths = lengths.into_iter().chain([4097, 6144, 8191, 8999, 9000]);
    let mut frames = Vec::new();
    for (i, length) in lengths.enumerate() {
        let seed = u8::try_from(i).expect("a few dozen lengths");
        frames.push(ethernet(IPV4, &ipv4(0, 17, length - 14), length, seed));
        frames.push(ethernet(IPV6, &ipv6(length - 14), length, seed));
        frames.push(ethernet(
            VLAN,
            &tagged(IPV4, &ipv4(0, 6, length - 18)),
            length,
            seed,
        ));
        frames.push(ethernet(0x88b5, &[], length, seed));
    }
    frames.push(ethernet(ARP, &arp(), MIN, 0x5a));
    frames.push(ethernet(VLAN, &tagged(ARP, &arp()), 64, 0x5b));
    frames.push(ethernet(VLAN, &tagged(IPV6, &ipv6(200)), 218, 0x5c));
    for (offset, more) in [(0, true), (185, true), (370, false)] {
        let flags = offset | if more { 0x2000 } else { 0 };
        frames.push(ethernet(IPV4, &ipv4(flags, 17, 1500), 1514, 0x5d));
    }
    frames
}

/// A frame of `length` bytes: addresses by `seed`, some of them group addresses, then the type, the
/// payload's headers and a pattern.
fn ethernet(ethertype: u16, headers: &[u8], length: usize, seed: u8) -> Vec<u8> {
    let mut frame = match seed % 3 {
        0 => vec![0xff; 6],
        1 => vec![0x33, 0x33, 0, 0, 0, seed],
        _ => vec![0x52, 0x54, 0, 0x12, 0x34, seed],
    };
    frame.extend([0x52, 0x54, 0, 0xab, 0xcd, seed]);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(headers);
    let start = frame.len();
    frame.extend((start..length).map(|at| (at % 251) as u8 ^ seed));
    assert_eq!(frame.len(), length, "headers longer than the frame");
    frame
}

/// A VLAN tag's second half: priority 3, VLAN 100, then what it wraps.
fn tagged(ethertype: u16, headers: &[u8]) -> Vec<u8> {
    [
        &0x6064_u16.to_be_bytes()[..],
        &ethertype.to_be_bytes(),
        headers,
    ]
    .concat()
}

/// An IPv4 header of a packet of `length` bytes in all, its checksum in place.
fn ipv4(fragment: u16, protocol: u8, length: usize) -> Vec<u8> {
    let length = u16::try_from(length)
        .expect("shorter than 64 KiB")
        .to_be_bytes();
    let fragment = fragment.to_be_bytes();
    let mut header = vec![
        0x45,
        0,
        length[0],
        length[1],
        0x12,
        0x34,
        fragment[0],
        fragment[1],
    ];
    header.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let words = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [high, low] = (!(sum as u16)).to_be_bytes();
    header[10] = high;
    header[11] = low;
    header
}

/// An IPv6 header of a packet of `length` bytes in all.
fn ipv6(length: usize) -> Vec<u8> {
    let payload = u16::try_from(length - 40)
        .expect("shorter than 64 KiB")
        .to_be_bytes();
    let mut header = vec![0x60, 0, 0, 0, payload[0], payload[1], 17, 64];
    header.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    header.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    header
}

/// An ARP request: who has 10.0.0.2, tell 10.0.0.1.
fn arp() -> Vec<u8> {
    let mut request = vec![
        0, 1, 0x08, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0xab, 0xcd, 0x5a, 10, 0, 0, 1,
    ];
    request.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    request
}

/// Writes frames as a pcap file with microsecond stamps.
pub fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    fs::write(path, pcap(frames)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The bytes of a pcap file: little endian, microseconds, Ethernet, snap length 65,535.
pub fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for (i, frame) in (0_u32..).zip(frames) {
        let length = u32::try_from(frame.len()).expect("a frame is short");
        for word in [1_700_000_000, i, length, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    bytes
}

/// The frames of a pcap file, whichever of the two byte orders and stamp units it has.
pub fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (header, mut rest) = bytes
        .split_at_checked(24)
        .expect("a pcap file has a header");
    let word: fn([u8; 4]) -> u32 = match header[..4] {
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => u32::from_le_bytes,
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => u32::from_be_bytes,
        _ => panic!(
            "{} is not a pcap file: {:02x?}",
            path.display(),
            &header[..4]
        ),
    };
    let mut frames = Vec::new();
    while let Some((record, after)) = rest.split_first_chunk::<16>() {
        let [.., a, b, c, d, e, f, g, h] = *record;
        let captured = word([a, b, c, d]);
        assert_eq!(
            captured,
            word([e, f, g, h]),
            "frame {} was cut",
            frames.len()
        );
        let (frame, next) = after
            .split_at_checked(captured as usize)
            .expect("a whole frame");
        frames.push(frame.to_vec());
        rest = next;
    }
    assert!(rest.is_empty(), "{} bytes after the last frame", rest.len());
    frames
}
