//! Offloads through descriptors: checksums, VLAN tags, RSS.

use super::*;
use crate::frame::{Layout, ReceiveChecksums, Verdict};
use crate::ixgbe::descriptor as d;
use crate::ixgbe::descriptor::packet_type;

/// A UDP frame of `len` bytes; its header checksum is right if asked for.
pub fn udp(len: usize, good: bool) -> Vec<u8> {
    let mut bytes = frame(len, 0);
    let total = (len - 14) as u16;
    bytes[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    bytes[18..26].copy_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    bytes[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    bytes[34..38].copy_from_slice(&[0x30, 0x39, 0x00, 0x35]);
    bytes[38..40].copy_from_slice(&(total - 20).to_be_bytes());
    bytes[40..42].fill(0);
    let sum = (bytes[14..34].chunks(2)).fold(0_u32, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair[0], pair[1]]))
    });
    let sum = !(((sum & 0xFFFF) + (sum >> 16)) as u16) ^ u16::from(!good);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// `bytes` with an 802.1Q tag.
pub fn tagged(mut bytes: Vec<u8>, control: u16) -> Vec<u8> {
    let [high, low] = control.to_be_bytes();
    bytes.splice(12..12, [0x81, 0x00, high, low]);
    bytes
}

#[test]
fn checksum_status_is_reported() {
    for good in [true, false] {
        let mut bench = Bench::new();
        let ring = bench.receive_queue(0, 0);
        bench.start_receiver();
        bench.wire.arriving.push_back(udp(64, good));
        bench.poll();
        let words = ring.words(0);
        let kind = packet_type::IPV4 | packet_type::UDP;
        assert_eq!(words[0], u64::from(kind << 4));
        assert_ne!(words[1] as u32 & d::RX_IP, 0);
        assert_eq!(words[1] as u32 >> 20, if good { 0 } else { d::RX_ERROR_IP });
    }
}

#[test]
fn a_tag_is_stripped_into_the_descriptor() {
    let mut bench = Bench::new();
    let ring = bench.receive_queue(0, r::RXDCTL_VLAN_STRIP);
    bench.start_receiver();
    bench.wire.arriving.push_back(tagged(udp(64, true), 0x6123));
    bench.poll();
    let words = ring.words(0);
    assert_eq!(words[1] >> 48, 0x6123);
    assert_ne!(words[1] as u32 & d::RX_VLAN, 0);
    assert_eq!(ring.bytes(0, 64), udp(64, true));
    bench.assert_clean();
}

#[test]
fn without_stripping_the_tag_stays_and_the_filter_applies() {
    let mut bench = Bench::new();
    let vlnctrl = bench.read(r::VLNCTRL);
    bench.write(r::VLNCTRL, vlnctrl | r::VLNCTRL_FILTER);
    bench.write(r::VFTA + 4 * 3, 1 << 4);
    let ring = bench.receive_queue(0, 0);
    bench.start_receiver();
    bench.wire.arriving.push_back(tagged(udp(64, true), 101));
    bench.wire.arriving.push_back(tagged(udp(64, true), 100));
    bench.poll();
    assert_eq!(ring.bytes(0, 68), tagged(udp(64, true), 100));
    assert_eq!(ring.words(1)[1], 0);
}

#[test]
fn rss_spreads_over_the_queues_of_the_table() {
    let mut bench = Bench::new();
    let rings: Vec<Ring> = (0..4).map(|queue| bench.receive_queue(queue, 0)).collect();
    // The key and a case of the published verification suite (IPv4, UDP ports hashed as TCP's).
    let key: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    for (at, bytes) in key.chunks(4).enumerate() {
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        bench.write(r::RSSRK + 4 * at as u32, word);
    }
    (0..32).for_each(|at| bench.write(r::RETA + 4 * at, 0x0302_0100));
    bench.write(r::MRQC, 1 | 1 << 17 | 1 << 22);
    bench.write(r::RXCSUM, r::RXCSUM_HASH);
    bench.start_receiver();
    let mut known = udp(60, false);
    known[26..38].copy_from_slice(&[66, 9, 149, 187, 161, 142, 100, 80, 0x0A, 0xEA, 0x06, 0xE6]);
    bench.wire.arriving.push_back(known);
    bench.poll();
    let hash = 0x51cc_c178_u32;
    let words = rings[(hash & 3) as usize].words(0);
    assert_eq!((words[0] >> 32) as u32, hash);
    assert_eq!(words[0] & 0xF, 7);
    bench.assert_clean();
}

/// A context for IPv4 and UDP with a tag, in slot 1.
fn context(ring: &mut Ring) {
    let words = [
        14 << 9 | 20 | 100 << 16,
        1 << 10 | 2 << 20 | 1 << 29 | 1 << 36,
    ];
    ring.set(ring.next, words);
    ring.next += 1;
}

#[test]
fn checksums_and_tag_are_inserted() {
    let mut bench = Bench::new();
    let mut ring = bench.transmit_queue(0);
    context(&mut ring);
    let mut bytes = udp(80, true);
    bytes[24..26].fill(0);
    // The driver leaves the pseudo header's sum where the checksum goes.
    let pseudo = [0x0A00_u32, 1, 0x0A00, 2, 17, 46].iter().sum::<u32>() as u16;
    bytes[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let wants = d::TX_IP_CHECKSUM | d::TX_L4_CHECKSUM | d::TX_VLAN | 1 << 36 | 1 << 39;
    bench.post(&mut ring, &bytes, 80, d::TX_END | d::TX_REPORT | wants);
    bench.ring_doorbell(0, &ring);
    bench.poll();
    let left = bench.wire.left.pop().unwrap();
    assert_eq!(left[12..16], [0x81, 0x00, 0, 100]);
    let checks = ReceiveChecksums::verify(&left, &Layout::of(&left));
    assert_eq!((checks.ip, checks.l4), (Verdict::Good, Verdict::Good));
    bench.assert_clean();
}

#[test]
fn a_legacy_descriptor_inserts_one_checksum_and_a_tag() {
    let mut bench = Bench::new();
    let mut ring = bench.transmit_queue(0);
    let mut bytes = udp(64, true);
    bytes[24..26].fill(0);
    bytes.truncate(34);
    ring.fill(0, &bytes);
    let word = 34 | d::TX_END | d::TX_FCS | d::TX_LEGACY_CHECKSUM | d::TX_VLAN;
    ring.set(0, [ring.buffer(0), word | 24 << 16 | 14 << 40 | 7 << 48]);
    ring.next = 1;
    bench.ring_doorbell(0, &ring);
    bench.poll();
    let left = &bench.wire.left[0];
    assert_eq!(left[12..16], [0x81, 0x00, 0, 7]);
    assert_eq!(left[28..30], udp(64, true)[24..26]);
    bench.assert_clean();
}
