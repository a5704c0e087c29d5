//! Control registers: reset, semaphores, EEPROM, MDIO, link, what registers keep, and the shared front.

use super::*;
use crate::ixgbe::{DEVICE_KR, DEVICE_KX4, Module};

#[test]
fn reset_clears_itself_and_everything_else() {
    let mut bench = Bench::new();
    let _ring = bench.receive_queue(0, 0);
    bench.start_receiver();
    bench.write(r::MTA + 4, 0xFFFF_FFFF);
    bench.write(r::CTRL, r::CTRL_RESET);
    assert_eq!(bench.read(r::CTRL) & r::CTRL_RESET, 0);
    assert_eq!(bench.read(receive_offset(0, QueueRegister::Control)), 0);
    assert_eq!(bench.read(r::RXCTRL), 0);
    assert_eq!(bench.read(r::MTA + 4), 0);
    let mac = Identity::default().mac;
    assert_eq!(bench.read(r::RAL_LOW).to_le_bytes(), mac[..4]);
    assert_ne!(bench.read(r::RAL_LOW + 4) & r::RAH_VALID, 0);
    bench.wire.arriving.push_back(frame(60, 0));
    assert_eq!(bench.poll(), 0);
}

#[test]
fn the_software_semaphore_is_taken_by_reading() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(r::SWSM) & 1, 0);
    assert_eq!(bench.read(r::SWSM) & 1, 1);
    bench.write(r::SWSM, 0);
    assert_eq!(bench.read(r::SWSM) & 1, 0);
}

#[test]
fn the_eeprom_answers_with_a_good_checksum() {
    let mut bench = Bench::new();
    let mut sum = 0_u16;
    for address in 0..=0x3F {
        bench.write(r::EERD, address << 2 | r::EERD_START);
        let value = bench.read(r::EERD);
        assert_eq!(value & 3, r::EERD_DONE);
        sum = sum.wrapping_add((value >> 16) as u16);
    }
    assert_eq!(sum, 0xBABA);
    bench.write(r::EEC, r::EEC_REQUEST);
    assert_ne!(bench.read(r::EEC) & r::EEC_GRANT, 0);
}

#[test]
fn registers_keep_their_own_bits_only() {
    use QueueRegister::{BaseHigh, BaseLow, Head, Length, Tail};
    let mut bench = Bench::new();
    for (register, kept) in [
        (BaseLow, 0xFFFF_FF80),
        (BaseHigh, 0xFFFF_FFFF),
        (Length, 0x000F_FF80),
        (Head, 0xFFFF),
        (Tail, 0xFFFF),
    ] {
        for pattern in [0x5A5A_5A5A, 0xA5A5_A5A5, 0, 0xFFFF_FFFF] {
            for offset in [receive_offset(2, register), transmit_offset(3, register)] {
                bench.write(offset, pattern);
                let read = bench.read(offset);
                // A head is the device's as soon as there is a ring.
                if register != Head {
                    assert_eq!(read, pattern & kept, "{offset:#x}");
                }
            }
        }
    }
    bench.write(r::receive_address(3) + 4, 0xFFFF_FFFF);
    assert_eq!(bench.read(r::receive_address(3) + 4), r::RAH_VALID | 0xFFFF);
    let status = bench.read(r::STATUS);
    bench.write(r::STATUS, !status);
    assert_eq!(bench.read(r::STATUS), status);
}

#[test]
fn nobody_answers_on_mdio() {
    let mut bench = Bench::new();
    bench.write(r::MSCA, r::MSCA_COMMAND | 3 << 26);
    assert_eq!(bench.read(r::MSCA) & r::MSCA_COMMAND, 0);
    assert_eq!(bench.read(r::MSRWD) >> 16, 0xFFFF);
}

#[test]
fn stopping_the_pcie_master_shows_in_status() {
    let mut bench = Bench::new();
    assert_ne!(bench.read(r::STATUS) & r::STATUS_GIO_MASTER, 0);
    bench.write(r::CTRL, r::CTRL_GIO_DISABLE);
    assert_eq!(bench.read(r::STATUS) & r::STATUS_GIO_MASTER, 0);
}

#[test]
fn every_device_id_comes_up_in_its_link_mode() {
    for (device_id, mode) in [
        (super::super::DEVICE_SFP, 3),
        (DEVICE_KX4, 4),
        (DEVICE_KR, 4),
    ] {
        let identity = Identity {
            device_id,
            module: Module::ShortRange,
            function: 1,
            ..Identity::default()
        };
        let mut bench = Bench::with(identity, &[], Access32::Trapped);
        let autoc = bench.read(r::AUTOC);
        assert_eq!(autoc >> 13 & 7, mode);
        bench.write(r::AUTOC, autoc | r::AUTOC_RESTART);
        assert_eq!(bench.read(r::AUTOC) & r::AUTOC_RESTART, 0);
        assert_ne!(bench.read(r::ANLP1) & 0x000F_0000, 0);
        let links = bench.read(r::LINKS);
        assert_eq!(links & (r::LINKS_UP | 3 << 28), r::LINKS_UP | 3 << 28);
        assert_eq!(bench.read(r::STATUS) >> 2 & 3, 1);
    }
}

#[test]
fn a_shared_bar_is_followed_by_polling() {
    let mut bench = Bench::with(Identity::default(), &[], Access32::Shared);
    let cells = Arc::clone(&bench.cells);
    let set = |offset: u32, value| cells[(offset / 4) as usize].store(value, Ordering::Release);
    let get = |offset: u32| cells[(offset / 4) as usize].load(Ordering::Acquire);
    set(r::EERD, r::EERD_START);
    bench.core.poll_control(|| {});
    assert_eq!(get(r::EERD) & 3, r::EERD_DONE);
    set(r::CTRL, r::CTRL_RESET);
    bench.core.poll_control(|| {});
    assert_eq!(get(r::CTRL), 0);

    let ring = bench.ring();
    (0..RING).for_each(|index| ring.set(index, [ring.buffer(index), 0]));
    let base = ring.memory.iova().to_bits();
    set(0x1000, base as u32);
    set(0x1004, (base >> 32) as u32);
    set(0x1008, (RING * 16) as u32);
    set(r::SRRCTL_LOW, 1 << 25 | 2);
    set(r::FCTRL, r::FCTRL_UNICAST);
    set(r::RDRXCTL, get(r::RDRXCTL) | r::RDRXCTL_CRC_STRIP);
    set(r::RXCTRL, 1);
    set(0x1028, r::QUEUE_ENABLE);
    bench.core.poll_control(|| {});
    set(0x1010, 0);
    set(0x1018, RING as u32 - 1);
    bench.core.poll_control(|| {});
    bench.wire.arriving.push_back(frame(60, 4));
    assert_eq!(bench.poll(), 1);
    assert_eq!(ring.bytes(0, 60), frame(60, 4));
    bench.core.publish_heads();
    assert_eq!(get(0x1010), 1);
    bench.core.poll_control(|| {});
    bench.wire.arriving.push_back(frame(60, 5));
    assert_eq!(bench.poll(), 1);
    assert_eq!(ring.bytes(1, 60), frame(60, 5));
}

#[test]
fn a_shared_bar_receives_nothing_before_all_written_first_is_seen() {
    let (mut bench, set) = shared_queue();
    set(r::FCTRL, r::FCTRL_UNICAST);
    set(r::RDRXCTL, r::RDRXCTL_CRC_STRIP);
    set(0x1068, r::QUEUE_ENABLE);
    bench.wire.arriving.push_back(frame(60, 4));
    // While queue 1 is looked at, after queue 0 was, the driver goes on with queue 0 and the port.
    bench.core.poll_control(|| {
        set(0x1028, r::QUEUE_ENABLE);
        set(r::RXCTRL, r::RXCTRL_ENABLE);
    });
    assert_eq!((bench.poll(), bench.wire.arriving.len()), (0, 1));
    bench.core.poll_control(|| {});
    bench.poll();
    assert!(bench.core.plan.receive && bench.core.receive[0].enabled);
    assert_eq!(bench.wire.arriving.len(), 1, "it waits for a descriptor");
}

/// A device on shared memory whose receive queue 0 a driver has set up, not enabled yet.
fn shared_queue() -> (Bench, impl Fn(u32, u32) + use<>) {
    let bench = Bench::with(Identity::default(), &[], Access32::Shared);
    let cells = Arc::clone(&bench.cells);
    let set = move |offset: u32, value| {
        cells[(offset / 4) as usize].store(value, Ordering::Release);
    };
    let base = bench.ring().memory.iova().to_bits();
    set(0x1000, base as u32);
    set(0x1004, (base >> 32) as u32);
    set(0x1008, (RING * 16) as u32);
    set(r::SRRCTL, 1 << 25 | 2);
    (bench, set)
}

#[test]
fn a_shared_queue_starts_with_what_was_written_before_its_enable() {
    let (mut bench, set) = shared_queue();
    let mut started = 0;
    bench.core.poll_control(|| started += 1);
    assert_eq!(started, 0);
    set(0x1028, r::QUEUE_ENABLE);
    bench.core.poll_control(|| started += 1);
    assert_eq!(started, 1);
    // SRRCTL was written to the address that the device does not read by itself.
    assert!(bench.core.receive[0].enabled && bench.core.receive[0].advanced);
    bench.core.poll_control(|| started += 1);
    set(0x1028, 0);
    bench.core.poll_control(|| started += 1);
    assert_eq!(started, 1);
}

#[test]
fn a_head_written_while_the_device_looks_does_not_move_a_running_queue() {
    let (mut bench, set) = shared_queue();
    set(0x1028, r::QUEUE_ENABLE);
    bench.core.poll_control(|| {});
    bench.core.receive[0].head = 3;
    set(0x1028, 0);
    bench.core.poll_control(|| {});
    set(0x1028, r::QUEUE_ENABLE);
    bench.core.poll_control(|| set(0x1010, 0));
    assert_eq!(bench.core.receive[0].head, 0);
    bench.core.receive[0].head = 2;
    bench.core.poll_control(|| {});
    assert_eq!(bench.core.receive[0].head, 2);
}
