//! Capture file in, capture file out: what was forwarded, byte for byte.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::frames::{mixed, read_pcap, write_pcap};
use crate::program::{Report, run};

/// A folder with `in.pcap` in it.
struct Files {
    _folder: TempDir,
    input: PathBuf,
    output: PathBuf,
}

impl Files {
    fn with(frames: &[Vec<u8>]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let input = folder.path().join("in.pcap");
        let output = folder.path().join("out.pcap");
        write_pcap(&input, frames);
        Self {
            _folder: folder,
            input,
            output,
        }
    }

    /// Forwards the input to the output.
    fn forward(&self, options: &[&str]) -> Report {
        self.forward_to(spec("out", &self.output), options)
    }

    /// Forwards the input to this device.
    fn forward_to(&self, device: String, options: &[&str]) -> Report {
        let devices = [spec("pcap", &self.input), device];
        let options = options.iter().map(|&option| option.to_owned());
        let report = run(options.chain(["--json".to_owned()]).chain(devices)).report();
        report.assert_books_balance();
        report
    }
}

fn spec(key: &str, path: &Path) -> String {
    format!("sim:{key}={}", path.display())
}

/// What DPDK's l2fwd makes of a frame it sends on port 1: the destination names that port, the
/// source is that port's own address.
fn rewritten(frame: &[u8], own: &[u8]) -> Vec<u8> {
    [&[0x02, 0, 0, 0, 0, 1], own, &frame[12..]].concat()
}

#[test]
fn test_mixed_frames_keep_order_and_bytes_but_for_two_addresses() {
    let frames = mixed();
    let files = Files::with(&frames);
    let report = files.forward(&[]);
    let forwarded = read_pcap(&files.output);
    assert_eq!(forwarded.len(), frames.len(), "{:#}", report.0);

    let own = forwarded[0][6..12].to_vec();
    assert_eq!(
        own[0] & 1,
        0,
        "a port's own address is not a group address: {own:02x?}"
    );
    assert_ne!(own, [0; 6]);
    assert!(
        frames.iter().all(|frame| frame[6..12] != own),
        "the source was left alone"
    );
    for (i, (got, sent)) in forwarded.iter().zip(&frames).enumerate() {
        assert!(
            *got == rewritten(sent, &own),
            "frame {i} of {} bytes differs",
            sent.len()
        );
    }
}

#[test]
fn test_the_source_is_the_sending_ports_own_address() {
    let frames = mixed();
    let files = Files::with(&frames);
    files.forward_to(spec("out", &files.output) + ",mac=02:5a:00:00:00:17", &[]);
    let forwarded = read_pcap(&files.output);
    assert_eq!(forwarded.len(), frames.len());
    for (got, sent) in forwarded.iter().zip(&frames) {
        assert!(
            *got == rewritten(sent, &[0x02, 0x5a, 0, 0, 0, 0x17]),
            "{} bytes",
            sent.len()
        );
    }
}

#[test]
fn test_mixed_frames_are_left_alone_when_told_so() {
    let frames = mixed();
    let files = Files::with(&frames);
    files.forward(&["--no-mac-updating"]);
    let forwarded = read_pcap(&files.output);
    assert_eq!(forwarded.len(), frames.len());
    for (i, (got, sent)) in forwarded.iter().zip(&frames).enumerate() {
        assert!(got == sent, "frame {i} of {} bytes differs", sent.len());
    }
}

#[test]
fn test_every_batch_size_forwards_the_same_bytes() {
    let frames = mixed();
    for batch in ["1", "4", "8", "16", "32", "64"] {
        let files = Files::with(&frames);
        files.forward(&["--no-mac-updating", "--batch", batch]);
        assert!(read_pcap(&files.output) == frames, "batch {batch}");
    }
}

#[test]
fn test_counts_are_those_of_the_file() {
    let frames = mixed();
    let files = Files::with(&frames);
    let report = files.forward(&[]);
    let expected = frames.len() as u64;
    assert_eq!(report.count("/packets"), expected);
    assert_eq!(report.count("/ports/0/rx_packets"), expected);
    assert_eq!(report.count("/ports/1/tx_packets"), expected);
    for none in [
        "/ports/0/rx_dropped",
        "/ports/0/rx_errors",
        "/ports/1/tx_dropped",
    ] {
        assert_eq!(report.count(none), 0, "{none}");
    }
}

#[test]
fn test_frames_for_somebody_else_are_counted() {
    let frames = mixed();
    let files = Files::with(&frames);
    let report = files.forward(&["--no-promiscuous"]);
    let for_all = |frame: &&Vec<u8>| frame[..6] == [0xff; 6];
    let taken = frames.iter().filter(for_all).count() as u64;
    assert_eq!(report.count("/ports/0/wire/sent"), frames.len() as u64);
    assert_eq!(report.count("/ports/0/rx_packets"), taken);
    let others = frames.len() as u64 - taken;
    assert_eq!(report.count("/ports/0/rx_filtered"), others);
    for none in [
        "/ports/0/rx_errors",
        "/ports/0/rx_dropped",
        "/ports/1/rx_filtered",
    ] {
        assert_eq!(report.count(none), 0, "{none}");
    }
}

#[test]
fn test_more_frames_than_any_ring_holds() {
    // Far more than the rings and the pool, so that every buffer is used many times over.
    let frames: Vec<_> = std::iter::repeat_with(mixed).take(300).flatten().collect();
    let files = Files::with(&frames);
    files.forward(&["--no-mac-updating"]);
    assert!(read_pcap(&files.output) == frames);
}

#[test]
fn test_an_empty_capture_ends_at_once() {
    let files = Files::with(&[]);
    let report = files.forward(&[]);
    assert_eq!(report.count("/packets"), 0);
    assert!(read_pcap(&files.output).is_empty());
}
