//! Transmitting: rings, completion, frames of several descriptors.

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
