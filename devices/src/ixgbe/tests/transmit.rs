//! Transmitting: rings, completion, frames of several descriptors.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::ixgbe::Counter;
use crate::ixgbe::descriptor as d;

#[test]
fn a_frame_leaves_and_only_report_status_gets_done() {
    let mut bench = Bench::new();
    let mut ring = bench.transmit_queue(0);
    bench.post(&mut ring, &frame(60, 1), 60, d::TX_END);
    bench.post(&mut ring, &frame(1514, 2), 1514, d::TX_END | d::TX_REPORT);
    bench.ring_doorbell(0, &ring);
    assert_eq!(bench.poll(), 2);
    assert_eq!(bench.wire.left, [frame(60, 1), frame(1514, 2)]);
    assert_eq!(ring.words(0)[1] & d::TX_DONE, 0);
    assert_ne!(ring.words(1)[1] & d::TX_DONE, 0);
    assert_eq!(bench.read(transmit_offset(0, QueueRegister::Head)), 2);
    assert_eq!(bench.read(0x4080), 2);
    assert_eq!(
        bench.core.totals().get(Counter::GoodBytesTransmitted),
        64 + 1518
    );
    bench.assert_clean();
}

#[test]
fn a_frame_of_three_buffers_leaves_whole_once_its_end_is_posted() {
    let mut bench = Bench::new();
    let mut ring = bench.transmit_queue(0);
    let whole = frame(300, 5);
    bench.post(&mut ring, &whole[..100], 300, 0);
    bench.post(&mut ring, &whole[100..101], 0, 0);
    bench.ring_doorbell(0, &ring);
    assert_eq!(bench.poll(), 0);
    bench.post(&mut ring, &whole[101..], 0, d::TX_END | d::TX_REPORT);
    bench.ring_doorbell(0, &ring);
    assert_eq!(bench.poll(), 1);
    assert_eq!(bench.wire.left, [whole]);
    assert_ne!(ring.words(2)[1] & d::TX_DONE, 0);
    bench.assert_clean();
}

#[test]
fn a_short_frame_is_padded() {
    let mut bench = Bench::new();
    let mut ring = bench.transmit_queue(0);
    bench.post(&mut ring, &frame(20, 1), 20, d::TX_END);
    bench.ring_doorbell(0, &ring);
    bench.poll();
    let mut padded = frame(20, 1);
    padded.resize(60, 0);
    assert_eq!(bench.wire.left, [padded]);
}

#[test]
fn what_the_wire_has_no_room_for_stays_in_the_ring() {
    let mut bench = Bench::new();
    bench.wire.room = 2;
    let mut ring = bench.transmit_queue(0);
    for seed in 0..4 {
        bench.post(&mut ring, &frame(60, seed), 60, d::TX_END | d::TX_REPORT);
    }
    bench.ring_doorbell(0, &ring);
    assert_eq!(bench.poll(), 2);
    assert_eq!(ring.words(2)[1] & d::TX_DONE, 0);
    bench.wire.room = 10;
    assert_eq!(bench.poll(), 2);
    assert_eq!(
        bench.wire.left,
        (0..4).map(|seed| frame(60, seed)).collect::<Vec<_>>()
    );
}

/// What a frame's descriptors said when it was gathered is what it is judged by.
#[test]
fn a_driver_that_changes_descriptors_meanwhile_sends_nothing_too_long() {
    let mut bench = Bench::new();
    let ring = bench.transmit_queue(0);
    // Eight buffers of 2 KiB are more than any frame has, and less than a packet to be segmented may have.
    const BUFFERS: usize = 8;
    for index in 0..RING {
        let end = if index % BUFFERS == BUFFERS - 1 {
            d::TX_END
        } else {
            0
        };
        let word = BUFFER as u64 | d::TX_TYPE_DATA | d::TX_ADVANCED | d::TX_FCS | end;
        let payload = (BUFFERS * BUFFER) as u64;
        ring.set(index, [ring.buffer(index), word | payload << 46]);
    }
    let mut turn = 0;
    let mut send_next = |bench: &mut Bench| {
        turn += 1;
        let tail = turn * BUFFERS % RING;
        bench.write(transmit_offset(0, QueueRegister::Tail), tail as u32);
        assert_eq!(bench.poll(), 1);
    };
    send_next(&mut bench);
    assert_eq!(bench.count(Violation::FrameTooLong), 1, "left as it was");
    let (done, changes) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for index in (0..RING).step_by(BUFFERS) {
                    let word = ring.memory.cell(2 * index + 1).unwrap();
                    word.fetch_xor(d::TX_SEGMENT, Ordering::Relaxed);
                }
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        // However late the other thread begins, and how often it stands still.
        let mut polls = 0;
        while polls < 20_000 || changes.load(Ordering::Relaxed) < 1_000 {
            send_next(&mut bench);
            polls += 1;
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(bench.wire.left.is_empty());
}

#[test]
fn legacy_descriptors_work() {
    let mut bench = Bench::new();
    let mut ring = bench.transmit_queue(3);
    ring.fill(0, &frame(64, 1));
    ring.set(
        0,
        [ring.buffer(0), 64 | d::TX_END | d::TX_FCS | d::TX_REPORT],
    );
    ring.next = 1;
    bench.ring_doorbell(3, &ring);
    assert_eq!(bench.poll(), 1);
    assert_eq!(bench.wire.left, [frame(64, 1)]);
    assert_ne!(ring.words(0)[1] & d::TX_DONE, 0);
    bench.assert_clean();
}

#[test]
fn head_write_back_replaces_done() {
    let mut bench = Bench::new();
    let word = bench.dma.allocate(64, 64).unwrap();
    let address = word.iova().to_bits();
    let low = transmit_offset(0, QueueRegister::WriteBackLow);
    bench.write(low, address as u32 | 1);
    bench.write(low + 4, (address >> 32) as u32);
    let mut ring = bench.transmit_queue(0);
    bench.post(&mut ring, &frame(60, 1), 60, d::TX_END);
    bench.post(&mut ring, &frame(60, 2), 60, d::TX_END | d::TX_REPORT);
    bench.ring_doorbell(0, &ring);
    bench.poll();
    assert_eq!(word.cell(0).unwrap().load(Ordering::Acquire), 2);
    assert_eq!(ring.words(1)[1] & d::TX_DONE, 0);
    bench.assert_clean();
}

#[test]
fn the_last_queue_works_like_the_first() {
    let mut bench = Bench::new();
    let mut ring = bench.transmit_queue(127);
    for round in 0..100_u8 {
        bench.post(&mut ring, &frame(80, round), 80, d::TX_END | d::TX_REPORT);
        bench.ring_doorbell(127, &ring);
        assert_eq!(bench.poll(), 1);
    }
    assert_eq!(bench.wire.left.len(), 100);
    bench.assert_clean();
}
