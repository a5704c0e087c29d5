//! The driver against a device that lies or dies. Whatever it does: a typed error or a counted drop,
//! every buffer accounted for, and a port that works again after a reset.

use super::cable::Cable;
use sumac_device::Clock;
use sumac_devices::ixgbe::{Fault as Misbehaviour, FaultKind};
use sumac_interface::net::{Net, NetError, NetQueue};
use sumac_ixgbe::{Error, Fault, PortConfig, Wait};

fn cable() -> Cable {
    Cable::new(&PortConfig::default(), &PortConfig::default())
}

fn fault<T>(result: Result<T, Error>) -> Option<Fault> {
    result.err().map(|error| error.fault)
}

/// Bytes of the frames that come of ten numbered ones of 100 bytes, the third of them under `kind`,
/// and how many were dropped.
fn third_of_ten(kind: FaultKind) -> (Vec<usize>, u64) {
    let mut cable = cable();
    cable.far.device.inject(Misbehaviour::once(kind, 2));
    assert_eq!(cable.send(cable.numbered(10)), 10);
    let lengths = cable.receive().iter().map(|(_, p)| p.frame_len()).collect();
    let stats = cable.far.pairs[0].stats();
    assert_eq!(cable.pool.account().held, 0);
    cable.works();
    cable.far.recover();
    cable.works();
    cable.end();
    (lengths, stats.rx_errors)
}

#[test]
fn impossible_lengths_are_counted_drops() {
    for length in [0, 2049, 9999, u16::MAX] {
        let kind = FaultKind::ReceiveLength(length);
        assert_eq!(third_of_ten(kind), (vec![100; 9], 1), "{length}");
    }
    assert_eq!(third_of_ten(FaultKind::ReceiveGarbage), (vec![100; 9], 1));
}

#[test]
fn possible_lengths_are_believed() {
    for length in [1, 99, 2048] {
        let (lengths, errors) = third_of_ten(FaultKind::ReceiveLength(length));
        assert_eq!((lengths[2], errors), (usize::from(length), 0));
    }
}

#[test]
fn a_frame_without_an_end_runs_into_the_next() {
    let (lengths, errors) = third_of_ten(FaultKind::MissingEndOfPacket);
    assert_eq!(lengths, [100, 100, 200, 100, 100, 100, 100, 100, 100]);
    assert_eq!(errors, 0);
}

#[test]
fn frames_that_never_end_are_dropped() {
    let mut cable = cable();
    let always = Misbehaviour::always(FaultKind::MissingEndOfPacket);
    cable.far.device.inject(always);
    assert_eq!(cable.send(cable.numbered(60)), 60);
    assert!(cable.receive().is_empty());
    // One drop, and all that follows up to an end, which never comes.
    assert_eq!(cable.far.pairs[0].stats().rx_errors, 1);
    assert_eq!(cable.pool.account().held, 0);
    cable.far.recover();
    cable.works();
    cable.end();
}

#[test]
fn receive_completions_that_never_come_stop_nothing_else() {
    let mut cable = cable();
    let always = Misbehaviour::always(FaultKind::ReceiveNeverDone);
    cable.far.device.inject(always);
    for _ in 0..20 {
        cable.send(cable.numbered(60));
        assert!(cable.receive().is_empty());
    }
    assert_eq!(cable.pool.account().held, 0);
    // What waited on the cable goes by a port that is being reset; what comes after that, first of all.
    cable.far.recover();
    cable.near.recover();
    cable.settle();
    while !cable.receive().is_empty() {
        cable.settle();
    }
    cable.works();
    cable.end();
}

#[test]
fn transmit_completions_that_never_come_are_back_pressure() {
    let mut cable = cable();
    let always = Misbehaviour::always(FaultKind::TransmitNeverDone);
    cable.near.device.inject(always);
    let mut sent = 0;
    for _ in 0..20 {
        sent += cable.send(cable.numbered(60));
        cable.receive();
    }
    // The ring holds 512 descriptors, one of them always empty.
    let stats = cable.near.pairs[0].stats();
    assert_eq!((sent, stats.tx_outstanding), (511, 511));
    assert!(stats.tx_full > 0);
    assert_eq!(cable.pool.account().device, 512 + 512 + 511);
    cable.near.recover();
    assert_eq!(cable.pool.account().device, 512 + 512);
    cable.works();
    cable.end();
}

#[test]
fn completions_of_slots_never_posted_harm_nothing() {
    let mut cable = cable();
    for device in [&cable.near.device, &cable.far.device] {
        device.inject(Misbehaviour::always(FaultKind::CompletesUnposted));
    }
    let mut received = 0;
    for _ in 0..40 {
        assert_eq!(cable.send(cable.numbered(60)), 60);
        received += cable.receive().len();
        let account = cable.pool.account();
        assert!(account.device >= 1024 && account.held == 0, "{account:?}");
    }
    assert_eq!(received, 40 * 60);
    // Of a ring that ran full, the one slot that was held back is taken for a frame.
    for _ in 0..10 {
        cable.send(cable.numbered(60));
    }
    assert!((511..=512).contains(&cable.receive().len()));
    cable.near.recover();
    cable.far.recover();
    cable.settle();
    while !cable.receive().is_empty() {
        cable.settle();
    }
    cable.works();
    cable.end();
}

#[test]
fn a_transmit_queue_that_stops_is_found_hung() {
    let mut cable = cable();
    cable
        .near
        .device
        .inject(Misbehaviour::once(FaultKind::DmaError, 3));
    cable.send(cable.numbered(10));
    assert_eq!(cable.receive().len(), 3);
    let mut look_after = |ns| {
        cable.clock.sleep_ns(ns);
        fault(cable.near.port.check())
    };
    assert_eq!(look_after(0), None);
    // An hour in which nobody looked, and 4.4 seconds in which somebody did: the host stood still, so it may have been it.
    assert_eq!(look_after(3_600_000_000_000), None);
    for _ in 0..44 {
        assert_eq!(look_after(100_000_000), None);
    }
    assert_eq!(
        look_after(100_000_000),
        Some(Fault::TransmitHang { queue: 0 })
    );
    cable.near.recover();
    assert_eq!(cable.near.port.check(), Ok(()));
    cable.works();
    cable.end();
}

#[test]
fn a_receive_queue_that_stops_is_good_after_a_reset() {
    let mut cable = cable();
    cable
        .far
        .device
        .inject(Misbehaviour::once(FaultKind::DmaError, 3));
    cable.send(cable.numbered(10));
    assert_eq!(cable.receive().len(), 3);
    cable.far.recover();
    cable.works();
    cable.end();
}

#[test]
fn a_head_beyond_the_ring_stops_no_stop() {
    let mut cable = cable();
    let always = Misbehaviour::always(FaultKind::HeadBeyondRing);
    cable.near.device.inject(always);
    assert_eq!(cable.send(cable.numbered(10)), 10);
    let head = fault(cable.near.port.check());
    assert_eq!(
        head,
        Some(Fault::HeadBeyondRing {
            queue: 0,
            head: 522
        })
    );
    assert_eq!(cable.near.port.stop(), Ok(()));
    cable.receive();
    cable.near.recover();
    cable.works();
    cable.end();
}

#[test]
fn a_device_pulled_out_in_mid_traffic_is_gone_and_may_come_back() {
    let mut cable = cable();
    cable.send(cable.numbered(60));
    let always = Misbehaviour::always(FaultKind::SurpriseRemoval);
    cable.far.device.inject(always);
    // What had arrived is there; then nothing comes, and nothing leaves.
    assert_eq!(cable.receive().len(), 60);
    let mut batch = cable.batch();
    for packet in cable.numbered(10) {
        batch.push_back(packet).expect("room");
    }
    assert_eq!(cable.far.pairs[0].transmit(&mut batch), Ok(10));
    cable.settle();
    assert!(cable.receive().is_empty());
    let gone = Net::check(&mut cable.far.port);
    assert!(matches!(gone, Err(NetError::Gone { .. })));
    let control = cable.far.port.control_mut();
    assert_eq!(fault(control.stop_receiving()), Some(Fault::DeviceGone));
    assert_eq!(fault(cable.far.port.stop()), Some(Fault::DeviceGone));
    cable.far.port.return_queues(cable.far.pairs.drain(..));
    assert_eq!(cable.near.pairs[0].reclaim(), 0);
    assert_eq!(cable.pool.account().device, 512);
    assert_eq!(fault(cable.far.port.reset()), Some(Fault::DeviceGone));
    cable.far.recover();
    cable.works();
    cable.end();
}

#[test]
fn reads_of_all_ones_end_well_or_in_a_typed_error() {
    let mut cable = cable();
    let mut failed = 0;
    for skip in 0..300 {
        let kind = FaultKind::ReadsAllOnes;
        // A single one is read again; several are believed.
        for times in [1, 5] {
            let (far, fault) = (&mut cable.far, Misbehaviour { kind, skip, times });
            far.device.inject(fault);
            let reset = far.port.reset();
            far.port.return_queues(far.pairs.drain(..));
            let started = far.port.start();
            far.pairs = far.port.take_queues();
            failed += u32::from(reset.is_err() || started.is_err());
            far.recover();
        }
    }
    assert!(failed > 0, "nothing failed");
    cable.near.recover();
    cable.works();
    cable.end();
}

/// Stops the far port's device so that neither stop nor reset is obeyed.
fn disobey(cable: &mut Cable) {
    let device = &cable.far.device;
    device.inject(Misbehaviour::always(FaultKind::ResetNeverCompletes));
    device.inject(Misbehaviour::always(FaultKind::QueueNeverDisables));
    let stopped = fault(cable.far.port.stop());
    let wait = match stopped {
        Some(Fault::TimedOut { wait, .. }) => Some(wait),
        _ => None,
    };
    assert_eq!(wait, Some(Wait::Reset), "{stopped:?}");
    assert!(!cable.far.port.control().is_quiet());
}

#[test]
fn a_device_that_cannot_be_stopped_keeps_its_buffers() {
    let mut cable = cable();
    disobey(&mut cable);
    cable.far.port.return_queues(cable.far.pairs.drain(..));
    assert_eq!(cable.pool.account().device, 1024, "it may still write them");
    assert!(cable.far.port.start().is_err());
    assert_eq!(cable.pool.account().device, 1024);
    cable.far.recover();
    cable.works();
    cable.end();
}

#[test]
fn a_device_that_cannot_be_stopped_keeps_buffers_and_rings_for_good() {
    let mut cable = cable();
    disobey(&mut cable);
    let Cable {
        near,
        far,
        pool,
        graves,
        ..
    } = cable;
    drop(far.port);
    drop(far.pairs);
    assert_eq!(graves.check(), 0, "its rings are not freed");
    drop(near.port);
    drop(near.pairs);
    assert_eq!(graves.check(), 2, "those of the other one are");
    let account = pool.account();
    assert_eq!((account.device, account.held), (512, 0));
    assert_eq!(pool.audit(), Ok(account.total - 512));
}

#[test]
fn a_pair_dropped_in_mid_traffic_keeps_its_rings_and_buffers() {
    let mut cable = cable();
    cable.works();
    cable.far.pairs.clear();
    // The device writes to its rings and buffers as ever.
    assert_eq!(cable.send(cable.numbered(60)), 60);
    assert_eq!(cable.graves.check(), 0, "its rings are not freed");
    for end in [&mut cable.near, &mut cable.far] {
        end.port.stop().expect("the device is well");
        end.port.return_queues(end.pairs.drain(..));
    }
    let account = cable.pool.account();
    assert_eq!((account.device, account.held), (512, 0));
    assert_eq!(cable.pool.audit(), Ok(account.total - 512));
    let started = fault(cable.far.port.start());
    assert_eq!(started, Some(Fault::QueueAway(0)));
    assert_eq!(cable.far.device.violations().total(), 0);
}

#[test]
fn a_pair_is_not_another_ports_to_give_back() {
    let mut cable = cable();
    cable.far.port.stop().expect("the device is well");
    let device = cable.pool.account().device;
    cable.far.port.return_queues(cable.near.pairs.drain(..));
    assert_eq!(cable.graves.check(), 0, "its device runs");
    assert_eq!(cable.pool.account().device, device);
}

#[test]
fn a_port_is_stopped_when_it_is_dropped() {
    for pairs_first in [false, true] {
        let mut cable = cable();
        cable.send(cable.numbered(60));
        if pairs_first {
            cable.far.port.return_queues(cable.far.pairs.drain(..));
        }
        cable.end();
    }
}
