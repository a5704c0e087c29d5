//! What a driver needs.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::ixgbe::Polled;
use crate::vfio_user::message::{
    Area, Capability, DeviceInfo, IrqInfo, RegionInfo, SetIrqs, SparseHeader, irq,
};
use crate::wire::{GenOptions, GenWire, Rate};

#[test]
fn a_driver_finds_an_82599() {
    let mut client = Client::new(&null_device());
    let info = client.ask(Command::DeviceInfo, &[0; 16], &[]).unwrap();
    let info = DeviceInfo::parse(&info).unwrap();
    assert_eq!((info.regions, info.irqs), (TAILS + 1, irq::PCI_COUNT));
    assert_eq!([client.config16(0), client.config16(2)], [0x8086, 0x10FB]);
    let mut found = Vec::new();
    let mut at = u64::from(client.config16(0x34));
    while at != 0 {
        let [id, next] = client.config16(at).to_le_bytes();
        found.push(id);
        at = next.into();
    }
    assert_eq!(found, [0x01, 0x05, 0x11, 0x10]);
    client.write(region::CONFIG, 0x10, &[0xFF; 4]).unwrap();
    assert_eq!(
        client.read(region::CONFIG, 0x10, 4).unwrap(),
        [0x0C, 0, 0xF8, 0xFF]
    );
    for (index, count) in [(irq::INTX, 1), (irq::MSI, 1), (irq::MSIX, 64)] {
        let asked = IrqInfo {
            argsz: 16,
            index,
            ..IrqInfo::default()
        };
        let answer = client
            .ask(Command::IrqInfo, &put(|out| asked.put(out)), &[])
            .unwrap();
        assert_eq!(IrqInfo::parse(&answer).unwrap().count, count);
    }
}

#[test]
fn regions_say_what_can_be_mapped() {
    let device = null_device();
    let mut client = Client::new(&device);
    let mut ask = |index, argsz| {
        let asked = RegionInfo {
            argsz,
            index,
            ..RegionInfo::default()
        };
        let body = put(|out| asked.put(out));
        let (answer, fds) = client.ask_for_fds(Command::RegionInfo, &body, &[])?;
        Ok::<_, u32>((RegionInfo::parse(&answer).unwrap(), answer, fds))
    };
    for (index, bytes) in [
        (0, 512 * 1024),
        (1, 0),
        (4, 16 * 1024),
        (region::ROM, 0),
        (region::CONFIG, 4096),
    ] {
        let (info, _, fds) = ask(index, 1024).unwrap();
        assert_eq!(
            (info.size, info.flags & region::MAP, fds.len()),
            (bytes, 0, 0),
            "{index}"
        );
    }
    let (info, answer, fds) = ask(TAILS, 1024).unwrap();
    assert_ne!(info.flags & region::MAP, 0);
    let sparse = &answer[info.capabilities as usize..];
    assert_eq!(
        Capability::parse(sparse).unwrap().id,
        region::CAPABILITY_SPARSE
    );
    let areas = &sparse[Capability::SIZE..];
    assert_eq!(SparseHeader::parse(areas).unwrap().areas, 1);
    let area = Area::parse(&areas[SparseHeader::SIZE..]);
    assert_eq!(
        area,
        Some(Area {
            offset: 0,
            size: 512 * 1024
        })
    );
    let file = File::from(fds.into_iter().next().unwrap());
    assert_eq!(file.metadata().unwrap().len(), 512 * 1024);
    assert!(file.set_len(0).is_err(), "nobody takes the registers away");
    let (info, answer, _) = ask(TAILS, 32).unwrap();
    assert!(info.argsz > 32 && info.capabilities == 0 && answer.len() == 32);
    assert!(ask(TAILS + 1, 32).is_err());
}

#[test]
fn registers_have_their_side_effects() {
    let device = null_device();
    let mut client = Client::new(&device);
    client.set_register(r::EIMS, 1 << 20);
    client.set_register(r::EICS, 1 << 20);
    assert_eq!(client.register(r::EICR), 1 << 20);
    assert_eq!(client.register(r::EICR), 0, "cleared by reading");
    client.set_register(r::CTRL, r::CTRL_RESET);
    assert_eq!(client.register(r::CTRL), 0, "clears itself");
    assert_eq!(client.register(r::EIMS), 0);
    // Two registers at once, and less than one.
    assert_eq!(client.read(0, r::RAL_LOW.into(), 8).unwrap().len(), 8);
    assert_eq!(client.read(0, r::RAL_LOW.into(), 2).unwrap(), [0xFF; 2]);
    client
        .write(0, u64::from(r::RAL_LOW) + 1, &[1, 2, 3, 4])
        .unwrap();
    assert_eq!(device.violations().total(), 2);
}

#[test]
fn frames_and_interrupts_arrive_when_the_bus_may_be_used() {
    use std::os::unix::fs::FileExt;
    let options = GenOptions {
        rate: Rate::Max,
        frames: Some(3),
        ..GenOptions::default()
    };
    let wire = GenWire::new(&options).unwrap();
    let device = Served82599::new(Identity::default(), wire.into()).unwrap();
    let mut client = Client::new(&device);
    let file = File::from(client.lend());
    let event = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    let set = SetIrqs {
        argsz: 20,
        flags: irq::DATA_EVENTFD | irq::TRIGGER,
        index: irq::MSIX,
        start: 3,
        count: 1,
    };
    client
        .ask(Command::SetIrqs, &put(|out| set.put(out)), &[event.as_fd()])
        .unwrap();
    start_receiving(&mut client, &file);
    assert_ne!(client.register(0x1028) & r::QUEUE_ENABLE, 0);
    assert_eq!(device.poll(0), 0, "bus master enable is clear");
    client.write(region::CONFIG, 4, &[6, 0]).unwrap();
    assert_eq!(device.poll(0), 3);
    let mut descriptor = [0; 16];
    file.read_exact_at(&mut descriptor, 2 * 16).unwrap();
    assert_eq!(descriptor[8] & 3, 3, "DD and EOP");
    let mut count = [0; 8];
    rustix::io::read(&event, &mut count).unwrap();
    assert_ne!(u64::from_ne_bytes(count), 0);
    assert_eq!(client.register(0x4074), 3);
    assert_eq!(client.register(0x4074), 0, "statistics clear when read");
    // A function level reset ends it all, but for memory and eventfds.
    let control = client.config16(0xA8) | 1 << 15;
    client
        .write(region::CONFIG, 0xA8, &control.to_le_bytes())
        .unwrap();
    assert_eq!(client.register(0x1028) & r::QUEUE_ENABLE, 0);
    assert_eq!(client.config16(4), 0);
    assert!(reachable(&device, MEMORY));
    assert_eq!(device.violations().total(), 0, "{}", device.violations());
    client.leave();
}
