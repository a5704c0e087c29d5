//! Strict mode: each rule, broken once, is counted under its name and nothing else is.

use super::*;
use crate::ixgbe::Violations;
use crate::ixgbe::descriptor as d;

fn only(violations: &Violations, expected: Violation) {
    let names: Vec<_> = violations.by_name().collect();
    assert_eq!(names, [(expected.name(), 1)], "{violations}");
}

/// Breaks one rule after `set_up` on a fresh device.
fn breaks(expected: Violation, act: impl FnOnce(&mut Bench)) {
    let mut bench = Bench::new();
    act(&mut bench);
    only(bench.core.violations(), expected);
}

#[test]
fn register_rules() {
    use QueueRegister::{Control, Length, Tail};
    breaks(Violation::ReservedBit, |bench| bench.write(r::RXCTRL, 4));
    breaks(Violation::ReservedBit, |bench| {
        bench.write(r::MCSTCTRL, 1 << 8)
    });
    breaks(Violation::BarAccess, |bench| bench.write(2, 0));
    breaks(Violation::BarAccess, |bench| {
        assert_eq!(bench.read(r::BAR_BYTES), u32::MAX);
    });
    for length in [0, 100, 0xF_FF80] {
        breaks(Violation::RingLength, |bench| {
            bench.write(receive_offset(0, Length), length);
            bench.write(receive_offset(0, Control), r::QUEUE_ENABLE);
            bench.start_receiver();
        });
    }
    breaks(Violation::TailWhileDisabled, |bench| {
        bench.write(receive_offset(5, Tail), 3);
    });
    // One that was stopped is left alone until it is started with that tail.
    breaks(Violation::TailWhileDisabled, |bench| {
        let _ring = bench.receive_queue(0, 0);
        bench.write(receive_offset(0, Control), 0);
        bench.write(receive_offset(0, Tail), 3);
        assert_eq!(bench.core.violations().total(), 0);
        bench.write(receive_offset(0, Control), r::QUEUE_ENABLE);
    });
    breaks(Violation::QueueWriteWhileEnabled, |bench| {
        let _ring = bench.receive_queue(0, 0);
        bench.write(r::SRRCTL_LOW, 1 << 25 | 4);
    });
    breaks(Violation::QueueWriteWhileEnabled, |bench| {
        let _ring = bench.receive_queue(0, 0);
        bench.start_receiver();
        bench.write(receive_offset(0, QueueRegister::Head), 0);
    });
    breaks(Violation::TailBeyondRing, |bench| {
        let _ring = bench.receive_queue(0, 0);
        bench.write(receive_offset(0, Tail), RING as u32);
    });
    breaks(Violation::HeaderSplitUnsupported, |bench| {
        let _ring = bench.receive_queue_as(0, 0, 5 << 25 | 2);
    });
}

#[test]
fn ordering_rules() {
    breaks(Violation::ControlWriteWhileReceiving, |bench| {
        bench.start_receiver();
        let hlreg0 = bench.read(r::HLREG0);
        bench.write(r::HLREG0, hlreg0 ^ r::HLREG0_CRC_STRIP);
    });
    breaks(Violation::CrcStripMismatch, |bench| {
        let _ring = bench.receive_queue(0, 0);
        bench.write(r::FCTRL, r::FCTRL_UNICAST);
        bench.write(r::RXCTRL, 1);
        bench.wire.arriving.push_back(frame(60, 0));
        assert_eq!(bench.poll(), 1);
    });
    breaks(Violation::MtqcWithArbiter, |bench| bench.write(r::MTQC, 8));
    breaks(Violation::TransmitEnableOrder, |bench| {
        let ring = bench.ring();
        let base = ring.memory.iova().to_bits();
        bench.write(transmit_offset(0, QueueRegister::BaseLow), base as u32);
        bench.write(
            transmit_offset(0, QueueRegister::BaseHigh),
            (base >> 32) as u32,
        );
        bench.write(transmit_offset(0, QueueRegister::Length), 512);
        bench.write(transmit_offset(0, QueueRegister::Control), r::QUEUE_ENABLE);
    });
}

#[test]
fn receive_descriptor_rules() {
    breaks(Violation::PostedTwice, |bench| {
        let ring = bench.receive_queue(0, 0);
        ring.set(4, [ring.buffer(3), 0]);
        bench.start_receiver();
        bench.wire.arriving.push_back(frame(60, 0));
        bench.poll();
    });
    for address in [u64::MAX, 0, 0x1000, u64::MAX - 4096] {
        let mut bench = Bench::new();
        bench.core.strict_deep = false;
        let ring = bench.receive_queue(0, 0);
        ring.set(0, [address, 0]);
        bench.start_receiver();
        (0..2).for_each(|_| bench.wire.arriving.push_back(frame(60, 0)));
        bench.poll();
        only(bench.core.violations(), Violation::DmaFault);
        assert_eq!(ring.words(1)[1], 0, "the queue has stopped");
    }
}

#[test]
fn a_freed_ring_is_a_fault_and_not_a_crash() {
    for strict_deep in [true, false] {
        let mut bench = Bench::new();
        bench.core.strict_deep = strict_deep;
        drop(bench.receive_queue(0, 0));
        bench.start_receiver();
        bench.wire.arriving.push_back(frame(60, 0));
        bench.poll();
        assert_eq!(bench.count(Violation::DmaFault), 1);
    }
}

/// Sends one frame of 64 bytes whose descriptor's second word is made by `word`.
fn transmit(expected: Violation, word: u64) {
    breaks(expected, |bench| {
        let mut ring = bench.transmit_queue(0);
        ring.set(0, [ring.buffer(0), word]);
        ring.next = 1;
        bench.ring_doorbell(0, &ring);
        bench.poll();
    });
}

#[test]
fn transmit_descriptor_rules() {
    let plain = d::TX_PLAIN | 64 | 64 << 46;
    transmit(Violation::DescriptorReserved, plain | d::TX_DONE);
    transmit(Violation::DescriptorReserved, plain | 1 << 16);
    transmit(Violation::DescriptorType, plain ^ 1 << 20 ^ 1 << 22);
    transmit(Violation::ZeroLength, d::TX_PLAIN);
    transmit(Violation::PayloadLength, d::TX_PLAIN | 64 | 65 << 46);
    transmit(Violation::MissingContext, plain | d::TX_SEGMENT);
    transmit(Violation::MissingContext, plain | d::TX_IP_CHECKSUM);
    transmit(Violation::FrameCheckSequence, plain & !d::TX_FCS);
    transmit(Violation::FrameTooLong, d::TX_PLAIN | 16000 | 16000 << 46);
}

#[test]
fn a_context_that_does_not_fit_is_named() {
    breaks(Violation::ChecksumContext, |bench| {
        let mut ring = bench.transmit_queue(0);
        ring.set(0, [100 << 9 | 20, 1 << 10 | 2 << 20 | 1 << 29]);
        ring.next = 1;
        bench.post(&mut ring, &frame(64, 0), 64, d::TX_END | d::TX_IP_CHECKSUM);
        bench.ring_doorbell(0, &ring);
        bench.poll();
    });
}

#[test]
fn a_shared_tail_beyond_the_ring_is_seen() {
    for offset in [
        receive_offset(0, QueueRegister::Tail),
        transmit_offset(0, QueueRegister::Tail),
    ] {
        let mut bench = Bench::new();
        let _rings = (bench.receive_queue(0, 0), bench.transmit_queue(0));
        bench.start_receiver();
        (0..40).for_each(|_| bench.wire.arriving.push_back(frame(60, 0)));
        bench.poll();
        bench.cells[(offset / 4) as usize].store(u32::MAX, Ordering::Release);
        (0..5).for_each(|_| assert!(bench.poll() <= RING));
        assert_eq!(bench.count(Violation::TailBeyondRing), 1);
    }
}

#[test]
fn write_back_rules() {
    let control = transmit_offset(0, QueueRegister::Control);
    breaks(Violation::ThresholdsTooHigh, |bench| {
        let _ring = bench.transmit_queue(0);
        bench.write(control, r::QUEUE_ENABLE | 32 | 1 << 8 | 8 << 16);
        bench.write(control, r::QUEUE_ENABLE | 36 | 1 << 8 | 8 << 16);
        bench.write(control, r::QUEUE_ENABLE | 36 | 1 << 8 | 8 << 16);
    });
    breaks(Violation::HeadWriteBackThreshold, |bench| {
        bench.write(transmit_offset(0, QueueRegister::WriteBackLow), 0x1001);
        let _ring = bench.transmit_queue(0);
        bench.write(control, r::QUEUE_ENABLE | 8 << 16);
    });
}
