//! Frames of UDP flows, made by a library that is not ours.

use etherparse::PacketBuilder;

/// How many flows; each is a port number.
const FLOWS: u16 = 251;

/// `count` frames of UDP over IPv4 in many flows, with payloads of many lengths.
pub fn udp(count: u16) -> Vec<Vec<u8>> {
    (0..count).map(frame).collect()
}

fn frame(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let payload: Vec<u8> = (0..18 + number % 1400).map(|at| at as u8 ^ low).collect();
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, high, low])
        .ipv4([10, 0, 0, 1], [10, 0, 1, 2], 64)
        .udp(1000 + number % FLOWS, 9);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder
        .write(&mut frame, &payload)
        .expect("a vector takes all");
    frame
}

/// The frame with wrong checksums of IPv4 and UDP.
pub fn damaged(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[24] ^= 0x55;
    frame[40] ^= 0x55;
    frame
}

/// The frame with its two addresses exchanged.
pub fn swapped(frame: &[u8]) -> Vec<u8> {
    [&frame[6..12], &frame[..6], &frame[12..]].concat()
}
