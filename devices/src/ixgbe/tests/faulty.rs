//! Faults: each kind of misbehaviour shows where a driver would meet it.

use super::*;
use crate::ixgbe::FaultKind;
use crate::ixgbe::descriptor as d;

/// The second descriptor words of two received frames, the first of them under `kind`.
fn receive(kind: FaultKind) -> [u64; 2] {
    let mut bench = Bench::faulty(&[Fault::once(kind, 0)]);
    let ring = bench.receive_queue(0, 0);
    bench.start_receiver();
    (0..2).for_each(|seed| bench.wire.arriving.push_back(frame(60, seed)));
    bench.poll();
    [ring.words(0)[1], ring.words(1)[1]]
}

#[test]
fn receive_write_backs_lie_once() {
    let good = 60 << 32 | 3;
    assert_eq!(
        receive(FaultKind::ReceiveLength(9999)),
        [9999 << 32 | 3, good]
    );
    assert_eq!(receive(FaultKind::MissingEndOfPacket), [60 << 32 | 1, good]);
    assert_eq!(receive(FaultKind::ReceiveNeverDone), [0, good]);
    assert_eq!(receive(FaultKind::ReceiveGarbage), [u64::MAX, good]);
    assert_eq!(receive(FaultKind::DmaError), [0, 0]);
}

#[test]
fn transmit_completions_never_come() {
    let mut bench = Bench::faulty(&[Fault::always(FaultKind::TransmitNeverDone)]);
    let mut ring = bench.transmit_queue(0);
    bench.post(&mut ring, &frame(60, 1), 60, d::TX_END | d::TX_REPORT);
    bench.ring_doorbell(0, &ring);
    bench.poll();
    assert_eq!(bench.wire.left.len(), 1);
    assert_eq!(ring.words(0)[1] & d::TX_DONE, 0);
}

#[test]
fn a_head_lies_beyond_the_ring() {
    let mut bench = Bench::faulty(&[Fault::once(FaultKind::HeadBeyondRing, 0)]);
    let _ring = bench.receive_queue(0, 0);
    assert!(bench.read(receive_offset(0, QueueRegister::Head)) >= RING as u32);
    assert_eq!(bench.read(receive_offset(0, QueueRegister::Head)), 0);
}

#[test]
fn a_device_that_is_gone_reads_all_ones_and_does_nothing() {
    let mut bench = Bench::new();
    let ring = bench.receive_queue(0, 0);
    bench.start_receiver();
    bench.core.inject(Fault::always(FaultKind::SurpriseRemoval));
    bench.wire.arriving.push_back(frame(60, 1));
    assert_eq!(bench.poll(), 0);
    assert_eq!(bench.read(r::STATUS), u32::MAX);
    assert_eq!(ring.words(0)[1], 0);
    bench.core.heal();
    assert_eq!(
        bench.read(r::RXCTRL) & r::RXCTRL_ENABLE,
        0,
        "as at power-on"
    );
    assert_eq!(bench.poll(), 0);
}

#[test]
fn control_registers_keep_a_driver_waiting() {
    let mut bench = Bench::faulty(&[
        Fault::once(FaultKind::ResetNeverCompletes, 0),
        Fault::once(FaultKind::EepromNeverDone, 0),
        Fault::once(FaultKind::DmaInitNeverDone, 0),
        Fault::once(FaultKind::SemaphoreHeld, 0),
        Fault::once(FaultKind::LinkDown, 0),
        Fault::once(FaultKind::QueueNeverEnables, 0),
    ]);
    bench.write(r::CTRL, r::CTRL_RESET);
    assert_ne!(bench.read(r::CTRL) & r::CTRL_RESET, 0);
    bench.write(r::CTRL, r::CTRL_RESET);
    assert_eq!(bench.read(r::CTRL) & r::CTRL_RESET, 0);
    bench.write(r::EERD, r::EERD_START);
    assert_eq!(bench.read(r::EERD) & r::EERD_DONE, 0);
    let done = |bench: &mut Bench| bench.read(r::RDRXCTL) & r::RDRXCTL_DMA_INIT_DONE;
    assert_eq!(
        [done(&mut bench), done(&mut bench)],
        [0, r::RDRXCTL_DMA_INIT_DONE]
    );
    assert_eq!([bench.read(r::SWSM) & 1, bench.read(r::SWSM) & 1], [1, 0]);
    let up = |bench: &mut Bench| bench.read(r::LINKS) & r::LINKS_UP;
    assert_eq!([up(&mut bench), up(&mut bench)], [0, r::LINKS_UP]);
    let control = receive_offset(9, QueueRegister::Control);
    bench.cells[(control / 4) as usize].store(r::QUEUE_ENABLE, Ordering::Relaxed);
    assert_eq!(bench.read(control), 0);
    assert_eq!(bench.read(control), r::QUEUE_ENABLE);
}
