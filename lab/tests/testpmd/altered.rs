//! What frames become on the way, or before it.

use crate::traffic::TO;

/// The frames, sent to everybody.
pub fn to_all(frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let to_all = |mut frame: Vec<u8>| {
        frame[..6].copy_from_slice(&TO);
        frame
    };
    frames.into_iter().map(to_all).collect()
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
