//! Captures written and read back, captures in every flavour, and captures that are none.

use std::io;

use proptest::prelude::*;
use sumac_capture::{CaptureError, Fault, Precision, Reader, RotatingWriter, Writer};

type Frames = Vec<(u64, Vec<u8>)>;

fn read(bytes: &[u8]) -> Result<Frames, CaptureError> {
    let mut reader = Reader::new(bytes, "capture")?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        frames.push((frame.time_ns, frame.data.to_vec()));
    }
    Ok(frames)
}

fn written(frames: &Frames, precision: Precision) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, "capture", precision).unwrap();
    for (time_ns, frame) in frames {
        writer.write(*time_ns, frame).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn fault(bytes: &[u8]) -> Fault {
    read(bytes).expect_err("damaged").fault
}

/// A pcap file in the given byte order.
fn pcap(big_endian: bool, nanoseconds: bool, link_type: u32, frames: &[&[u8]]) -> Vec<u8> {
    let order = |value: u32| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let half = |value: u16| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let mut bytes = Vec::new();
    bytes.extend(order(if nanoseconds {
        0xA1B2_3C4D
    } else {
        0xA1B2_C3D4
    }));
    bytes.extend([half(2), half(4)].concat());
    bytes.extend([0, 0, 65535, link_type].map(order).concat());
    for frame in frames {
        let length = frame.len() as u32;
        bytes.extend([5, 7, length, length].map(order).concat());
        bytes.extend(*frame);
    }
    bytes
}

/// A pcapng block in the given byte order.
fn block(big_endian: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let order = |value: u32| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = order(body.len() as u32 + 12);
    [&order(kind)[..], &length, &body, &length].concat()
}

/// A pcapng file with one enhanced and one simple packet block between blocks of other kinds.
fn pcapng(big_endian: bool, link_type: u16, frame: &[u8]) -> Vec<u8> {
    let order = |value: u32| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let half = |value: u16| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let section = [&order(0x1A2B_3C4D)[..], &half(1), &half(0), &[0xFF; 8]].concat();
    // Timestamps in nanoseconds (if_tsresol 9), then the end of options.
    let options = [&half(9)[..], &half(1), &[9, 0, 0, 0], &[0; 4]].concat();
    let interface = [&half(link_type)[..], &half(0), &order(0), &options].concat();
    let length = frame.len() as u32;
    let enhanced = [&[0, 1, 2, length, length].map(order).concat(), frame].concat();
    let simple = [&order(length)[..], frame].concat();
    [
        block(big_endian, 0x0A0D_0D0A, &section),
        block(big_endian, 1, &interface),
        block(big_endian, 0x1234, b"unknown kind"),
        block(big_endian, 6, &enhanced),
        block(big_endian, 5, &[0; 12]),
        block(big_endian, 3, &simple),
    ]
    .concat()
}

#[test]
fn both_byte_orders_and_precisions_are_read() {
    for big_endian in [false, true] {
        for (nanoseconds, fraction) in [(false, 7000), (true, 7)] {
            let bytes = pcap(big_endian, nanoseconds, 1, &[b"one", b"", b"three"]);
            let time = 5_000_000_000 + fraction;
            let expected = [&b"one"[..], b"", b"three"].map(|frame| (time, frame.to_vec()));
            assert_eq!(read(&bytes).unwrap(), expected);
        }
    }
}

#[test]
fn pcapng_is_read_in_both_byte_orders() {
    for big_endian in [false, true] {
        let bytes = pcapng(big_endian, 1, b"a frame");
        let expected = [
            ((1 << 32) + 2, b"a frame".to_vec()),
            (0, b"a frame".to_vec()),
        ];
        assert_eq!(read(&bytes).unwrap(), expected);
        // A second section of the other byte order begins anew.
        let both = [bytes, pcapng(!big_endian, 1, b"another")].concat();
        assert_eq!(read(&both).unwrap().len(), 4);
    }
}

#[test]
fn another_link_type_is_refused_at_open() {
    let raw = pcap(false, false, 101, &[]);
    let error = Reader::new(&raw[..], "raw.pcap").unwrap_err();
    assert!(matches!(error.fault, Fault::LinkType(101)));
    let text = error.to_string();
    assert!(
        text.starts_with("raw.pcap: ") && text.contains("Ethernet"),
        "{text}"
    );
    assert!(Reader::new(&pcapng(true, 113, b"x")[..], "cooked").is_err());
}

#[test]
fn what_is_no_capture_is_refused() {
    let png = b"\x89PNG\r\n\x1a\n0123456789012345678901234567890";
    for bytes in [&b""[..], b"abc", png, &[0xFF; 100]] {
        assert!(matches!(fault(bytes), Fault::NotACapture));
    }
    let mut future = pcap(false, false, 1, &[]);
    future[4] = 9;
    assert!(matches!(
        fault(&future),
        Fault::Version { major: 9, minor: 4 }
    ));
}

#[test]
fn every_cut_of_a_file_is_noticed() {
    let whole = pcap(true, true, 1, &[b"0123456789", b"abcdefghij"]);
    for length in 24..whole.len() {
        let result = read(&whole[..length]);
        // Between records a cut cannot be seen.
        match length {
            24 => assert_eq!(result.unwrap().len(), 0),
            50 => assert_eq!(result.unwrap().len(), 1),
            25..50 => assert!(matches!(
                result.unwrap_err().fault,
                Fault::Truncated {
                    frame: 1,
                    offset: 24
                }
            )),
            _ => assert!(matches!(
                result.unwrap_err().fault,
                Fault::Truncated {
                    frame: 2,
                    offset: 50
                }
            )),
        }
    }
}

#[test]
fn a_frame_cut_by_the_snap_length_is_named() {
    let mut bytes = pcap(false, false, 1, &[b"0123", b"4567"]);
    let second_original = 24 + 20 + 12;
    bytes[second_original] = 200;
    let mut reader = Reader::new(&bytes[..], "cut").unwrap();
    assert_eq!(reader.next_frame().unwrap().unwrap().data, b"0123");
    let error = reader.next_frame().unwrap_err();
    assert!(matches!(
        error.fault,
        Fault::Cut {
            frame: 2,
            captured: 4,
            original: 200
        }
    ));
    // An error is the end.
    assert!(reader.next_frame().unwrap().is_none());
}

#[test]
fn absurd_lengths_are_refused_before_reading() {
    let mut bytes = pcap(false, false, 1, &[b"0123"]);
    bytes[24 + 8..24 + 16].fill(0xFF);
    assert!(matches!(
        fault(&bytes),
        Fault::Damaged {
            frame: 1,
            offset: 24,
            ..
        }
    ));
    let mut bytes = pcapng(false, 1, b"x");
    bytes[4..8].copy_from_slice(&0xFFFF_FFF0u32.to_le_bytes());
    assert!(matches!(fault(&bytes), Fault::Damaged { .. }));
}

#[test]
fn a_missing_file_is_named() {
    let error = Reader::open("/nonexistent/in.pcap")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/nonexistent/in.pcap: cannot open"),
        "{error}"
    );
    assert!(Reader::open("/").is_err());
    let error = Writer::create("/nonexistent/out.pcap")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/nonexistent/out.pcap: cannot create"),
        "{error}"
    );
}

/// A disk with room for so many bytes.
struct Disk(usize);

impl io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.0);
        self.0 -= count;
        if count == 0 {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(count)
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_reported() {
    assert!(Writer::new(Disk(10), "full", Precision::Nano).is_err());
    let mut writer = Writer::new(Disk(100), "full", Precision::Nano).unwrap();
    writer.write(0, &[0; 20]).unwrap();
    let error = writer.write(0, &[0; 60]).unwrap_err();
    assert!(matches!(error.fault, Fault::Write { frame: 2, .. }));
    let buffered = io::BufWriter::new(Disk(30));
    let mut writer = Writer::new(buffered, "full", Precision::Nano).unwrap();
    writer.write(0, &[0; 60]).unwrap();
    assert!(writer.finish().is_err());
}

#[test]
fn rotation_keeps_every_frame() {
    let folder = std::env::temp_dir().join(format!("sumac-rotate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("dump.pcap");
    let mut writer = RotatingWriter::create(&path, 300).unwrap();
    for number in 0..10u8 {
        writer.write(u64::from(number), &[number; 100]).unwrap();
    }
    assert_eq!(writer.files(), 5);
    writer.finish().unwrap();
    let mut numbers = Vec::new();
    for file in [
        "dump.pcap",
        "dump.pcap.1",
        "dump.pcap.2",
        "dump.pcap.3",
        "dump.pcap.4",
    ] {
        assert!(std::fs::metadata(folder.join(file)).unwrap().len() <= 300);
        let mut reader = Reader::open(folder.join(file)).unwrap();
        while let Some(frame) = reader.next_frame().unwrap() {
            numbers.push(frame.data[0]);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(numbers, (0..10).collect::<Vec<u8>>());
}

proptest! {
    #[test]
    fn what_is_written_is_read(frames in prop::collection::vec((0..1u64 << 62, prop::collection::vec(any::<u8>(), 0..200)), 0..20), micro in any::<bool>()) {
        let frames: Frames = frames.into_iter().map(|(time, frame)| {
            let time = time % (u64::from(u32::MAX) * 1_000_000_000);
            (if micro { time / 1000 * 1000 } else { time }, frame)
        }).collect();
        let precision = if micro { Precision::Micro } else { Precision::Nano };
        prop_assert_eq!(read(&written(&frames, precision)).unwrap(), frames);
    }

    #[test]
    fn any_bytes_end_in_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_damage_ends_in_frames_or_an_error(
        ng in any::<bool>(),
        big_endian in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = if ng { pcapng(big_endian, 1, b"a frame") } else { pcap(big_endian, false, 1, &[b"one", b"two"]) };
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(keep.index(bytes.len()) + 1);
        if let Ok(frames) = read(&bytes) {
            let total: usize = frames.iter().map(|(_, frame)| frame.len()).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
