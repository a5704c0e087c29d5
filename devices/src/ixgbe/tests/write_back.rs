//! Write-back of transmit descriptors by threshold (TXDCTL.WTHRESH) and on request (SWFLSH).

use super::*;
use crate::ixgbe::FaultKind;
use crate::ixgbe::descriptor as d;

const CONTROL: u32 = transmit_offset(0, QueueRegister::Control);

/// Which of the ring's descriptors have DD.
fn done(ring: &Ring) -> Vec<usize> {
    let done = |&index: &usize| ring.words(index)[1] & d::TX_DONE != 0;
    (0..RING).filter(done).collect()
}

/// A device whose transmit queue 0 writes back `threshold` descriptors at a time.
fn bench(threshold: u32) -> (Bench, Ring) {
    let mut bench = Bench::new();
    let ring = bench.transmit_queue(0);
    bench.write(CONTROL, r::QUEUE_ENABLE | threshold << 16);
    (bench, ring)
}

/// Sends `count` frames, asking for a report of every second.
fn send(bench: &mut Bench, ring: &mut Ring, count: usize) {
    for seed in 0..count {
        let report = if seed % 2 == 0 { d::TX_REPORT } else { 0 };
        bench.post(ring, &frame(60, seed as u8), 60, d::TX_END | report);
    }
    bench.ring_doorbell(0, ring);
    assert_eq!(bench.poll(), count);
}

#[test]
fn descriptors_are_written_back_in_groups() {
    let (mut bench, mut ring) = bench(4);
    send(&mut bench, &mut ring, 3);
    assert_eq!(done(&ring), [0_usize; 0]);
    assert_eq!(bench.wire.left.len(), 3);
    send(&mut bench, &mut ring, 1);
    assert_eq!(done(&ring), [0, 1, 2, 3]);
    send(&mut bench, &mut ring, 9);
    assert_eq!(done(&ring), Vec::from_iter(0..12));
    bench.assert_clean();
}

#[test]
fn a_group_may_go_round_the_end_of_the_ring() {
    let (mut bench, mut ring) = bench(8);
    for _ in 0..5 {
        send(&mut bench, &mut ring, 6);
    }
    assert_eq!(done(&ring), Vec::from_iter(0..24));
    (0..24).for_each(|index| ring.set(index, [ring.buffer(index), 0]));
    send(&mut bench, &mut ring, 7);
    assert_eq!(done(&ring), Vec::from_iter(24..32));
    send(&mut bench, &mut ring, 3);
    assert_eq!(
        done(&ring),
        [Vec::from_iter(0..8), Vec::from_iter(24..32)].concat()
    );
    bench.assert_clean();
}

#[test]
fn long_frames_and_contexts_count_by_descriptor() {
    let (mut bench, mut ring) = bench(4);
    ring.set(0, [0, d::TX_TYPE_CONTEXT | d::TX_ADVANCED]);
    ring.next = 1;
    let whole = frame(300, 5);
    bench.post(&mut ring, &whole[..100], 300, 0);
    bench.post(&mut ring, &whole[100..], 0, d::TX_END);
    bench.ring_doorbell(0, &ring);
    bench.poll();
    assert_eq!(bench.wire.left, [whole]);
    assert_eq!(done(&ring), [0_usize; 0]);
    bench.post(&mut ring, &frame(2500, 1), 2500, d::TX_END);
    bench.ring_doorbell(0, &ring);
    bench.poll();
    assert_eq!(done(&ring), [0, 1, 2, 3]);
    bench.assert_clean();
}

#[test]
fn a_flush_writes_back_the_rest_and_clears_itself() {
    let (mut bench, mut ring) = bench(8);
    send(&mut bench, &mut ring, 11);
    assert_eq!(done(&ring), Vec::from_iter(0..8));
    for round in 0..2 {
        let control = bench.read(CONTROL);
        bench.write(CONTROL, control | r::TXDCTL_FLUSH);
        bench.poll();
        assert_eq!(bench.read(CONTROL), r::QUEUE_ENABLE | 8 << 16);
        assert_eq!(done(&ring), Vec::from_iter(0..11 + round));
        send(&mut bench, &mut ring, 1);
        assert_eq!(done(&ring), Vec::from_iter(0..11 + round));
    }
    bench.assert_clean();
}

#[test]
fn a_flush_of_a_queue_that_is_off_clears_itself() {
    let mut bench = Bench::new();
    bench.write(CONTROL, r::TXDCTL_FLUSH);
    bench.poll();
    assert_eq!(bench.read(CONTROL), 0);
    bench.assert_clean();
}

#[test]
fn a_disabled_queue_is_written_back_first() {
    let (mut bench, mut ring) = bench(8);
    send(&mut bench, &mut ring, 3);
    bench.post(&mut ring, &frame(60, 9), 60, d::TX_END);
    bench.ring_doorbell(0, &ring);
    bench.write(CONTROL, 8 << 16);
    assert_ne!(bench.read(CONTROL) & r::QUEUE_ENABLE, 0);
    assert_eq!(bench.poll(), 0);
    assert_eq!(bench.read(CONTROL), 8 << 16);
    assert_eq!(done(&ring), [0, 1, 2]);
    assert_eq!(bench.read(transmit_offset(0, QueueRegister::Head)), 3);
    bench.assert_clean();
}

#[test]
fn another_threshold_writes_back_what_waits() {
    let (mut bench, mut ring) = bench(8);
    send(&mut bench, &mut ring, 3);
    bench.write(CONTROL, r::QUEUE_ENABLE);
    bench.poll();
    assert_eq!(done(&ring), [0, 1, 2]);
    send(&mut bench, &mut ring, 2);
    assert_eq!(done(&ring), [0, 1, 2, 3]);
    bench.assert_clean();
}

#[test]
fn a_polled_bar_sees_every_flush() {
    let mut bench = Bench::with(Identity::default(), &[], Access32::Shared);
    let mut ring = bench.ring();
    let cells = Arc::clone(&bench.cells);
    let set = |offset: u32, value| cells[(offset / 4) as usize].store(value, Ordering::Release);
    let get = |offset: u32| cells[(offset / 4) as usize].load(Ordering::Acquire);
    let base = ring.memory.iova().to_bits();
    set(r::DMATXCTL, get(r::DMATXCTL) | r::DMATXCTL_ENABLE);
    set(0x6000, base as u32);
    set(0x6004, (base >> 32) as u32);
    set(0x6008, (RING * 16) as u32);
    set(CONTROL, r::QUEUE_ENABLE | 8 << 16);
    bench.core.poll_control(|| {});
    for round in 1..4 {
        bench.post(&mut ring, &frame(60, 1), 60, d::TX_END);
        set(0x6018, ring.next as u32);
        assert_eq!(bench.poll(), 1);
        assert_eq!(done(&ring).len(), round - 1);
        set(CONTROL, get(CONTROL) | r::TXDCTL_FLUSH);
        bench.core.poll_control(|| {});
        bench.core.poll_control(|| {});
        bench.poll();
        assert_eq!(done(&ring).len(), round);
        assert_eq!(get(CONTROL), r::QUEUE_ENABLE | 8 << 16);
    }
    set(CONTROL, 8 << 16);
    bench.core.poll_control(|| {});
    bench.poll();
    assert_eq!(get(CONTROL), 8 << 16);
    bench.assert_clean();
}

#[test]
fn a_done_that_never_comes_leaves_the_others_theirs() {
    let mut bench = Bench::faulty(&[Fault::once(FaultKind::TransmitNeverDone, 2)]);
    let mut ring = bench.transmit_queue(0);
    bench.write(CONTROL, r::QUEUE_ENABLE | 4 << 16);
    send(&mut bench, &mut ring, 3);
    assert_eq!(done(&ring), [0, 1]);
    send(&mut bench, &mut ring, 4);
    assert_eq!(done(&ring), [0, 1, 3, 4, 5, 6]);
}
