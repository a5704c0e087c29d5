//! Frames of UDP flows, made by a library that is not ours.

use etherparse::PacketBuilder;

/// How many flows; each is a port number.
const FLOWS: u16 = 251;

/// Whom frames are for: everybody. They may come before testpmd asks for those for others.
pub const TO: [u8; 6] = [0xff; 6];

/// `count` frames of UDP over IPv4 in many flows, with payloads of many lengths.
pub fn udp(count: u16) -> Vec<Vec<u8>> {
    (0..count).map(frame).collect()
}

fn frame(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let payload: Vec<u8> = (0..18 + number % 1400).map(|at| at as u8 ^ low).collect();
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, high, low], TO)
        .ipv4([10, 0, 0, 1], [10, 0, 1, 2], 64)
        .udp(1000 + number % FLOWS, 9);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder
        .write(&mut frame, &payload)
        .expect("a vector takes all");
    frame
}
