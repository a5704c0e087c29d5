//! The in-process front: trapped registers, shared tails, a device thread for two devices.

use std::time::{Duration, Instant};

use sumac_device::registers::{Readable, Writable};

use super::*;
use crate::ixgbe::{DeviceThread, Sim82599, Sim82599Config, descriptor as d};
use crate::wire::{GenOptions, GenWire, NullWire, Rate};

#[derive(Clone, Copy)]
struct At(u32);

impl Readable for At {
    fn offset(self) -> u32 {
        self.0
    }
}

impl Writable for At {
    fn offset(self) -> u32 {
        self.0
    }
}

fn device(dma: &SimDma, name: &str) -> Sim82599 {
    let wire = GenWire::new(&GenOptions {
        rate: Rate::Max,
        frames: Some(20),
        ..GenOptions::default()
    })
    .unwrap();
    Sim82599::new(Sim82599Config::new(name, wire), dma)
}

fn ring(dma: &SimDma) -> Ring {
    Ring {
        memory: dma.allocate(RING * 16, 128).unwrap(),
        buffers: dma.allocate(RING * BUFFER, 4096).unwrap(),
        next: 0,
    }
}

#[test]
fn a_tail_is_a_cell_and_a_control_register_is_not() {
    let dma = SimDma::new().unwrap();
    let device = device(&dma, "sim0");
    let bar = device.backing().bar;
    assert_eq!(device.backing().id.device, 0x10FB);
    bar.doorbell(At(0x1018)).ring(7);
    assert_eq!(bar.read(At(0x1018)), 7);
    bar.doorbell(At(r::CTRL)).ring(r::CTRL_RESET);
    assert_eq!(bar.read(At(0x1018)), 0);
    assert_eq!(bar.read(At(r::BAR_BYTES)), u32::MAX);
    assert_eq!(device.violations().count(Violation::BarAccess), 1);
}

#[test]
fn one_thread_serves_two_devices() {
    let dma = SimDma::new().unwrap();
    let devices = [device(&dma, "sim0"), device(&dma, "sim1")];
    let mut rings = Vec::new();
    let thread = DeviceThread::spawn(&devices, None).unwrap();
    for device in &devices {
        let bar = device.backing().bar;
        let ring = ring(&dma);
        (0..RING).for_each(|index| ring.set(index, [ring.buffer(index), 0]));
        let base = ring.memory.iova().to_bits();
        for (offset, value) in [
            (r::FCTRL, r::FCTRL_UNICAST | r::FCTRL_BROADCAST),
            (r::RDRXCTL, r::RDRXCTL_CRC_STRIP),
            (0x1000, base as u32),
            (0x1004, (base >> 32) as u32),
            (0x1008, (RING * 16) as u32),
            (r::SRRCTL_LOW, 1 << 25 | 2),
            (0x1028, r::QUEUE_ENABLE),
            (r::RXCTRL, 1),
        ] {
            bar.write(At(offset), value);
        }
        // Writes are posted: only when it reads as enabled does the queue have a tail to move.
        assert_ne!(bar.read(At(0x1028)) & r::QUEUE_ENABLE, 0);
        bar.doorbell(At(0x1018)).ring(RING as u32 - 1);
        rings.push(ring);
    }
    let patience = Instant::now() + Duration::from_secs(120);
    for (device, ring) in devices.iter().zip(&rings) {
        while !device.wire_report().finished && Instant::now() < patience {
            std::thread::yield_now();
        }
        assert_eq!(device.totals().queue_received(0), 20);
        assert_eq!(ring.words(19)[1] & 3, 3);
        assert_eq!(device.violations().total(), 0, "{}", device.violations());
    }
    drop(thread);
}

/// A driver waits for it as long as silicon may take, and the thread that polls may be without a processor for longer.
#[test]
fn a_transmit_queue_is_off_when_that_is_read_whoever_polls() {
    const CONTROL: At = At(0x6028);
    const THRESHOLD: u32 = 8 << 16;
    let dma = SimDma::new().unwrap();
    let device = Sim82599::new(Sim82599Config::new("sim0", NullWire::new()), &dma);
    let bar = device.backing().bar;
    let ring = ring(&dma);
    let word = 60 << 46 | d::TX_TYPE_DATA | d::TX_ADVANCED | d::TX_FCS | d::TX_END | 60;
    ring.set(0, [ring.buffer(0), word]);
    let base = ring.memory.iova().to_bits();
    for (offset, value) in [
        (r::DMATXCTL, r::DMATXCTL_ENABLE),
        (0x6000, base as u32),
        (0x6004, (base >> 32) as u32),
        (0x6008, (RING * 16) as u32),
    ] {
        bar.write(At(offset), value);
    }
    bar.write(CONTROL, r::QUEUE_ENABLE | THRESHOLD);
    assert_ne!(bar.read(CONTROL) & r::QUEUE_ENABLE, 0);
    bar.doorbell(At(0x6018)).ring(1);
    (0..4).for_each(|now| _ = device.poll(now));
    assert_eq!(device.wire_report().from_device_frames, 1);
    assert_eq!(ring.words(0)[1] & d::TX_DONE, 0, "one is no group");
    bar.write(CONTROL, THRESHOLD);
    assert_eq!(bar.read(CONTROL), THRESHOLD);
    assert_ne!(ring.words(0)[1] & d::TX_DONE, 0, "it is written back first");
    assert_eq!(device.violations().total(), 0, "{}", device.violations());
}
