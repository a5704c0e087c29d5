//! Receiving: rings, scatter, filters, what a frame without a descriptor becomes.

use super::*;
use crate::ixgbe::Counter;
use crate::ixgbe::descriptor as d;

fn status(words: [u64; 2]) -> u32 {
    words[1] as u32 & 0xF_FFFF
}

fn length(words: [u64; 2]) -> usize {
    (words[1] >> 32) as usize & 0xFFFF
}

#[test]
fn a_frame_lands_in_the_posted_buffer() {
    for strict_deep in [true, false] {
        let mut bench = Bench::new();
        bench.core.strict_deep = strict_deep;
        let ring = bench.receive_queue(0, 0);
        bench.start_receiver();
        for seed in 0..3 {
            bench
                .wire
                .arriving
                .push_back(frame(60 + usize::from(seed), seed));
        }
        assert_eq!(bench.poll(), 3);
        for index in 0..3 {
            let words = ring.words(index);
            assert_eq!(status(words), d::RX_DONE | d::RX_END);
            assert_eq!(length(words), 60 + index);
            assert_eq!(
                ring.bytes(index, 60 + index),
                frame(60 + index, index as u8)
            );
        }
        assert_eq!(status(ring.words(3)), 0);
        assert_eq!(bench.read(receive_offset(0, QueueRegister::Head)), 3);
        assert_eq!(bench.read(0x4074), 3);
        bench.assert_clean();
    }
}

#[test]
fn a_ring_goes_round_for_ever() {
    let mut bench = Bench::new();
    bench.core.strict_deep = false;
    let ring = bench.receive_queue(0, 0);
    bench.start_receiver();
    let mut next = 0;
    for round in 0..200_u32 {
        let burst = 1 + round as usize % 7;
        (0..burst).for_each(|_| bench.wire.arriving.push_back(frame(64, round as u8)));
        assert_eq!(bench.poll(), burst);
        for _ in 0..burst {
            assert_eq!(status(ring.words(next)), d::RX_DONE | d::RX_END);
            assert_eq!(ring.bytes(next, 64), frame(64, round as u8));
            ring.set(next, [ring.buffer(next), 0]);
            let tail = (next + RING - 1) % RING;
            next = (next + 1) % RING;
            let tail = (tail + 1) % RING;
            bench.write(receive_offset(0, QueueRegister::Tail), tail as u32);
        }
    }
    bench.assert_clean();
}

#[test]
fn a_long_frame_is_scattered() {
    let mut bench = Bench::new();
    bench.write(r::MAXFRS, 9728 << 16);
    let hlreg0 = bench.read(r::HLREG0);
    bench.write(r::HLREG0, hlreg0 | r::HLREG0_JUMBO);
    let ring = bench.receive_queue(0, 0);
    bench.start_receiver();
    bench.wire.arriving.push_back(frame(5000, 7));
    assert_eq!(bench.poll(), 1);
    let parts: Vec<_> = (0..3).map(|index| ring.words(index)).collect();
    assert_eq!(
        parts.iter().map(|&w| length(w)).collect::<Vec<_>>(),
        [2048, 2048, 904]
    );
    assert_eq!(
        parts.iter().map(|&w| status(w)).collect::<Vec<_>>(),
        [d::RX_DONE, d::RX_DONE, d::RX_DONE | d::RX_END]
    );
    let whole: Vec<u8> = (0..3)
        .flat_map(|i| ring.bytes(i, length(parts[i])))
        .collect();
    assert_eq!(whole, frame(5000, 7));
    bench.assert_clean();
}

#[test]
fn a_frame_beyond_the_maximum_is_counted_and_dropped() {
    let mut bench = Bench::new();
    let ring = bench.receive_queue(0, 0);
    bench.start_receiver();
    bench.wire.arriving.push_back(frame(1515, 0));
    bench.wire.arriving.push_back(frame(1514, 1));
    bench.poll();
    assert_eq!(bench.core.totals().get(Counter::Oversize), 1);
    assert_eq!(ring.bytes(0, 1514), frame(1514, 1));
}

#[test]
fn without_stripping_the_frame_check_sequence_follows_the_frame() {
    let mut bench = Bench::new();
    let hlreg0 = bench.read(r::HLREG0);
    bench.write(r::HLREG0, hlreg0 & !r::HLREG0_CRC_STRIP);
    let ring = bench.receive_queue(0, 0);
    bench.write(r::FCTRL, r::FCTRL_UNICAST);
    bench.write(r::RXCTRL, r::RXCTRL_ENABLE);
    bench.wire.arriving.push_back(frame(60, 3));
    bench.poll();
    assert_eq!(length(ring.words(0)), 64);
    // A frame with its own check sequence leaves the well-known residue.
    assert_eq!(crc32fast::hash(&ring.bytes(0, 64)), 0x2144_DF1C);
    bench.assert_clean();
}

#[test]
fn without_descriptors_a_frame_waits_or_is_missed() {
    for drops in [false, true] {
        let mut bench = Bench::new();
        bench.wire.drops = drops;
        let _ring = bench.receive_queue(0, 0);
        bench.start_receiver();
        (0..RING + 5).for_each(|_| bench.wire.arriving.push_back(frame(60, 0)));
        for _ in 0..4 {
            bench.poll();
        }
        let missed = bench.core.totals().get(Counter::Missed);
        let received = bench.core.totals().get(Counter::DmaReceived);
        assert_eq!(received, RING as u64 - 1);
        assert_eq!(
            (missed, bench.wire.arriving.len()),
            if drops { (6, 0) } else { (0, 6) }
        );
        // What Linux makes of GPRC and MPC; the MAC's other counters agree with GPRC.
        let [gprc, mpc, prc64, octets] =
            [0x4074, 0x3FA0, 0x405C, 0x4088].map(|at| u64::from(bench.read(at)));
        assert_eq!(gprc - mpc, received);
        assert_eq!((prc64, octets), (gprc, 64 * gprc));
        assert_eq!(u64::from(bench.read(0x1030)), received);
    }
}

#[test]
fn what_comes_to_a_port_that_does_not_receive_goes_by() {
    for alive in [true, false] {
        let mut bench = Bench::new();
        bench.wire.alive = alive;
        let left = |bench: &mut Bench| {
            (0..3).for_each(|_| bench.wire.arriving.push_back(frame(60, 0)));
            bench.poll();
            std::mem::take(&mut bench.wire.arriving).len()
        };
        let waits = if alive { 0 } else { 3 };
        assert_eq!(left(&mut bench), waits, "nothing is set up");
        bench.core.set_bus_master(false);
        assert_eq!(left(&mut bench), waits, "nobody is there");
        bench.core.set_bus_master(true);
        let ring = bench.receive_queue(0, 0);
        let _sends = bench.transmit_queue(0);
        assert_eq!(left(&mut bench), waits, "RXEN is clear");
        bench.start_receiver();
        assert_eq!(left(&mut bench), 0);
        assert_ne!(status(ring.words(2)) & 1, 0, "it receives");
        assert_eq!(bench.core.totals().get(Counter::GoodReceived), 3);
        bench.write(r::RXCTRL, 0);
        assert_eq!(left(&mut bench), waits, "RXEN is clear again");
    }
}

#[test]
fn legacy_descriptors_keep_their_address() {
    let mut bench = Bench::new();
    let ring = bench.receive_queue_as(0, 0, 2);
    bench.start_receiver();
    bench.wire.arriving.push_back(frame(100, 9));
    bench.poll();
    assert_eq!(ring.words(0), [ring.buffer(0), 0x0000_0003_0000_0064]);
    assert_eq!(ring.bytes(0, 100), frame(100, 9));
}

#[test]
fn filters_decide_who_gets_in() {
    let mut bench = Bench::new();
    let ring = bench.receive_queue(0, 0);
    bench.start_receiver_with(r::FCTRL_BROADCAST);
    let mut ours = frame(60, 1);
    ours[..6].copy_from_slice(&Identity::default().mac);
    let mut broadcast = frame(60, 2);
    broadcast[..6].fill(0xFF);
    bench
        .wire
        .arriving
        .extend([frame(60, 0), ours.clone(), broadcast.clone()]);
    bench.poll();
    assert_eq!(ring.bytes(0, 60), ours);
    assert_eq!(ring.bytes(1, 60), broadcast);
    assert_eq!(status(ring.words(2)), 0);
    assert_eq!(bench.core.totals().get(Counter::BroadcastReceived), 1);
    assert_eq!(bench.core.totals().get(Counter::TotalReceived), 3);
    assert_eq!(bench.core.totals().filtered(), 1);
}

#[test]
fn a_short_frame_arrives_padded() {
    let mut bench = Bench::new();
    let ring = bench.receive_queue(0, 0);
    bench.start_receiver();
    bench.wire.arriving.push_back(frame(42, 1));
    bench.poll();
    assert_eq!(length(ring.words(0)), 60);
    let mut padded = frame(42, 1);
    padded.resize(60, 0);
    assert_eq!(ring.bytes(0, 60), padded);
}

#[test]
fn nothing_arrives_while_the_link_is_down() {
    let mut bench = Bench::new();
    let _ring = bench.receive_queue(0, 0);
    bench.start_receiver();
    bench.wire.arriving.push_back(frame(60, 1));
    bench.wire.link.set(false);
    assert_eq!(bench.poll(), 0);
    assert_eq!(bench.read(r::LINKS) & r::LINKS_UP, 0);
    assert_ne!(bench.read(r::EICR) & r::EICR_LINK, 0);
    bench.wire.link.set(true);
    assert_eq!(bench.poll(), 1);
    assert_ne!(bench.read(r::LINKS) & r::LINKS_UP, 0);
}
