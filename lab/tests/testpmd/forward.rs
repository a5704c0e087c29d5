//! Forwarding in every mode that moves frames, and what the card says of it.

use sumac_lab::Lab;

use crate::altered::{damaged, swapped, to_all};
use crate::frames::mixed;
use crate::session::{Session, count};
use crate::traffic::udp;

/// The longest frame of an IP packet of 1,500 bytes, without check sequence.
const SHORT: usize = 1514;

/// Asserts that two lists of frames are the same, without printing megabytes.
#[track_caller]
fn assert_same(got: &[Vec<u8>], expected: &[Vec<u8>]) {
    assert_eq!(got.len(), expected.len(), "frames");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            got == expected,
            "frame {i} of {} bytes differs",
            expected.len()
        );
    }
}

/// Runs a mode until both ports have sent all that the other received; returns what each has sent.
fn forward(lab: &Lab, input: [&[Vec<u8>]; 2], options: &str) -> [Vec<Vec<u8>>; 2] {
    let mut session = Session::start(lab, input, options);
    session.command("start");
    for port in [0, 1] {
        session.wait_for(port, "TX-packets:", input[1 - port].len() as u64);
    }
    session.command("stop");
    session.finish().sent
}

#[test]
fn testpmd_forwards_byte_for_byte() {
    let Some(lab) = Lab::open("testpmd_forwards_byte_for_byte") else {
        return;
    };
    let short: Vec<_> = to_all(mixed())
        .into_iter()
        .filter(|frame| frame.len() <= SHORT)
        .collect();
    let many = udp(3000);
    let [back, forth] = forward(&lab, [&many, &short], "--forward-mode=io");
    assert_same(&forth, &many);
    assert_same(&back, &short);
}

#[test]
fn testpmd_forwards_jumbo_frames() {
    let Some(lab) = Lab::open("testpmd_forwards_jumbo_frames") else {
        return;
    };
    let frames = to_all(mixed());
    let options = "--forward-mode=io --max-pkt-len=9022 --tx-offloads=0x8000 --rx-offloads=0x2000";
    let [back, forth] = forward(&lab, [&frames, &[]], options);
    assert_same(&forth, &frames);
    assert_same(&back, &[]);
}

#[test]
fn testpmd_swaps_addresses() {
    let Some(lab) = Lab::open("testpmd_swaps_addresses") else {
        return;
    };
    let frames = udp(1000);
    let expected: Vec<_> = frames.iter().map(|frame| swapped(frame)).collect();
    let [back, forth] = forward(&lab, [&frames, &frames], "--forward-mode=macswap");
    assert_same(&forth, &expected);
    assert_same(&back, &expected);
}

/// The card fills in the checksums; testpmd writes its own addresses over the frames'.
#[test]
fn testpmd_has_checksums_filled_in() {
    let Some(lab) = Lab::open("testpmd_has_checksums_filled_in") else {
        return;
    };
    let frames = udp(500);
    let input: Vec<_> = frames.iter().map(|frame| damaged(frame)).collect();
    let options = "--forward-mode=csum --tx-offloads=0xe";
    let [_, forth] = forward(&lab, [&input, &[]], options);
    let past_addresses = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
        frames.iter().map(|frame| frame[12..].to_vec()).collect()
    };
    assert_same(&past_addresses(&forth), &past_addresses(&frames));
}

#[test]
fn testpmd_receives_on_four_queues_by_hash_and_counts() {
    let Some(lab) = Lab::open("testpmd_receives_on_four_queues_by_hash_and_counts") else {
        return;
    };
    let frames = udp(2000);
    let options = "--forward-mode=rxonly --rxq=4 --txq=4 --rss-udp";
    let mut session = Session::start(&lab, [&frames, &[]], options);
    session.command("start");
    session.wait_for(0, "RX-packets:", 2000);
    session.wait_for_handled(2000);
    let said = session.command("show port xstats 0");
    let bytes: usize = frames.iter().map(Vec::len).sum();
    assert_eq!(count(&said, "rx_good_packets:"), 2000, "{said}");
    assert_eq!(count(&said, "rx_total_packets:"), 2000, "{said}");
    assert_eq!(count(&said, "rx_total_bytes:"), bytes as u64, "{said}");
    let said = session.command("stop");
    let queues = [0, 1, 2, 3].map(|queue| {
        let stream = said.split_once(&format!("RX Port= 0/Queue= {queue}"));
        stream.map_or(0, |(_, said)| count(said, "RX-packets:"))
    });
    assert_eq!(queues.iter().sum::<u64>(), 2000, "{said}");
    assert!(queues.iter().all(|&packets| packets > 100), "{queues:?}");
    let outcome = session.finish();
    assert_eq!(outcome.carried[0].to_driver, 2000);
    assert!(outcome.sent.iter().all(Vec::is_empty));
}

#[test]
fn testpmd_transmits() {
    let Some(lab) = Lab::open("testpmd_transmits") else {
        return;
    };
    // With more queues than ports testpmd tells of each what it has handed to it.
    let options = "--forward-mode=txonly --rxq=2 --txq=2";
    let mut session = Session::start(&lab, [&[], &[]], options);
    session.command("start");
    for port in [0, 1] {
        session.wait_for(port, "TX-packets:", 2000);
    }
    let said = session.command("stop");
    let queues = said.split("TX Port= 0/").skip(1);
    let handed: u64 = queues.map(|said| count(said, "TX-packets:")).sum();
    assert!(handed >= 2000, "{said}");
    let said = session.counted("show port xstats 0", "tx_good_packets:", handed);
    let outcome = session.finish();
    assert_eq!(count(&said, "tx_good_packets:"), handed, "{said}");
    assert_eq!(outcome.carried[0].from_driver, handed, "{said}");
    for sent in outcome.sent {
        assert!(sent.len() >= 2000);
        assert!(
            sent.iter()
                .all(|frame| frame.len() == 64 && frame[12..14] == [8, 0])
        );
    }
}
