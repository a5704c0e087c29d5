//! Reads arbitrary bytes as a capture file, and writes back what was read.
//!
//! Invariants: reading ends, in frames or in one error; no frame is longer than the limit or than
//! the file; frames written to a new capture are read from it unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumac_capture::{MAX_FRAME, Precision, Reader, Writer};

/// (time in nanoseconds, bytes)
type Frames = Vec<(u64, Vec<u8>)>;

fuzz_target!(|bytes: &[u8]| {
    let frames = read(bytes);
    let length: usize = frames.iter().map(|(_, data)| data.len()).sum();
    assert!(
        length <= bytes.len(),
        "more bytes in frames than in the file"
    );

    let mut copy = Vec::new();
    let written: Frames = {
        let writer = Writer::new(&mut copy, "copy", Precision::Nano);
        let mut writer = writer.expect("memory takes a header");
        // What pcap can say: 32 bits of seconds, and no more than the limit.
        let fits = |(time, data): &(u64, Vec<u8>)| {
            *time / 1_000_000_000 <= u64::from(u32::MAX) && data.len() <= MAX_FRAME
        };
        let written: Frames = frames.into_iter().filter(fits).collect();
        for (time, data) in &written {
            writer.write(*time, data).expect("memory takes a frame");
        }
        writer.finish().expect("memory takes the end");
        written
    };
    assert_eq!(read(&copy), written);
});

/// The frames up to the end or the first error, after which there must be no more.
fn read(bytes: &[u8]) -> Frames {
    let mut frames = Vec::new();
    let Ok(mut reader) = Reader::new(bytes, "input") else {
        return frames;
    };
    while let Ok(Some(frame)) = reader.next_frame() {
        assert!(frame.data.len() <= MAX_FRAME);
        frames.push((frame.time_ns, frame.data.to_vec()));
    }
    assert!(
        matches!(reader.next_frame(), Ok(None)),
        "frames after the end"
    );
    frames
}
