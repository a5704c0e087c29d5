//! A client written by hand from the protocol's description, against a served 82599: what a driver needs,
//! and what a hostile process tries.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use super::message::{
    Area, Capabilities, Capability, Command, DeviceInfo, DmaMap, DmaUnmap, Header, IrqInfo,
    RegionAccess, RegionInfo, SetIrqs, SparseHeader, Version, dma, flag, irq, region,
};
use super::*;
use crate::ixgbe::registers as r;
use crate::ixgbe::{Identity, Polled, Violation};
use crate::wire::{GenOptions, GenWire, NullWire, Rate};

/// Where the client's memory is on the bus.
const MEMORY: u64 = 0x4000_0000;
const MEMORY_BYTES: u64 = 1 << 20;

fn null_device() -> Served82599 {
    Served82599::new(Identity::default(), NullWire::new().into()).unwrap()
}

/// A process that uses a device.
struct Client {
    socket: Socket,
    id: u16,
    session: Option<JoinHandle<SessionReport>>,
}

impl Client {
    /// One that has said nothing yet.
    fn silent(device: &Served82599) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let device = device.clone();
        let session = std::thread::spawn(move || session::serve(&device, theirs).0);
        let socket = Socket::from(ours);
        socket.set_timeout(Duration::from_secs(60)).unwrap();
        Self {
            socket,
            id: 0,
            session: Some(session),
        }
    }

    /// One that has said which version it speaks.
    fn new(device: &Served82599) -> Self {
        let mut client = Self::silent(device);
        let answer = client.ask(Command::Version, &greeting(), &[]).unwrap();
        assert_eq!(
            Version::parse(&answer),
            Some(Version { major: 0, minor: 0 })
        );
        let capabilities = Capabilities::parse(&answer[Version::SIZE..]);
        assert_eq!(capabilities, Some(Capabilities::OURS));
        client
    }

    fn ask(
        &mut self,
        command: Command,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<u8>, u32> {
        self.ask_for_fds(command, body, fds).map(|(body, _)| body)
    }

    fn ask_for_fds(
        &mut self,
        command: Command,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), u32> {
        self.id += 1;
        let header = Header::request(self.id, command, body.len());
        self.socket.send(&header, body, fds).unwrap();
        self.answer(header)
    }

    fn answer(&mut self, asked: Header) -> Result<(Vec<u8>, Vec<OwnedFd>), u32> {
        let mut body = Vec::new();
        let answer = self.socket.receive(&mut body).unwrap().expect("an answer");
        let Header {
            id, command, flags, ..
        } = answer.header;
        assert_eq!((id, command), (asked.id, asked.command));
        assert_eq!(flags & flag::TYPE, flag::REPLY);
        match answer.header.refused() {
            Some(errno) => Err(errno),
            None => Ok((body, answer.fds)),
        }
    }

    fn read(&mut self, region: u32, offset: u64, count: u32) -> Result<Vec<u8>, u32> {
        let access = RegionAccess {
            offset,
            region,
            count,
        };
        let answer = self.ask(Command::RegionRead, &put(|out| access.put(out)), &[])?;
        assert_eq!(RegionAccess::parse(&answer), Some(access));
        Ok(answer[RegionAccess::SIZE..].to_vec())
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), u32> {
        self.ask(Command::RegionWrite, &write_body(region, offset, data), &[])
            .map(drop)
    }

    fn config16(&mut self, at: u64) -> u16 {
        let bytes = self.read(region::CONFIG, at, 2).unwrap();
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    fn register(&mut self, offset: u32) -> u32 {
        let bytes = self.read(0, offset.into(), 4).unwrap();
        u32::from_le_bytes(*bytes.first_chunk().unwrap())
    }

    /// As drivers write registers: without waiting for an answer.
    fn set_register(&mut self, offset: u32, value: u32) {
        let body = write_body(0, offset.into(), &value.to_le_bytes());
        let header = Header::request(0, Command::RegionWrite, body.len());
        let flags = flag::NO_REPLY;
        self.socket
            .send(&Header { flags, ..header }, &body, &[])
            .unwrap();
    }

    fn map(&mut self, map: DmaMap, memory: Option<&OwnedFd>) -> Result<(), u32> {
        let fds: Vec<_> = memory.iter().map(|fd| fd.as_fd()).collect();
        self.ask(Command::DmaMap, &put(|out| map.put(out)), &fds)
            .map(drop)
    }

    fn unmap(&mut self, address: u64, size: u64, flags: u32) -> Result<(), u32> {
        let unmap = DmaUnmap {
            argsz: 24,
            flags,
            address,
            size,
        };
        self.ask(Command::DmaUnmap, &put(|out| unmap.put(out)), &[])
            .map(drop)
    }

    /// What the server says of the session after it is over.
    fn leave(mut self) -> SessionReport {
        self.socket
            .stream()
            .shutdown(std::net::Shutdown::Both)
            .unwrap();
        self.session.take().unwrap().join().unwrap()
    }
}

fn greeting() -> Vec<u8> {
    put(|out| {
        Version { major: 0, minor: 0 }.put(out);
        Capabilities::OURS.put(out);
    })
}

fn put(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn write_body(region: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let count = data.len() as u32;
    let mut body = put(|out| {
        RegionAccess {
            offset,
            region,
            count,
        }
        .put(out)
    });
    body.extend_from_slice(data);
    body
}

fn memory(bytes: u64) -> OwnedFd {
    let fd = unsealed(bytes);
    fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
    fd
}

fn unsealed(bytes: u64) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("client", flags).unwrap();
    rustix::fs::ftruncate(&fd, bytes).unwrap();
    fd
}

fn whole(address: u64, size: u64) -> DmaMap {
    DmaMap {
        argsz: DmaMap::SIZE as u32,
        flags: dma::READ | dma::WRITE,
        offset: 0,
        address,
        size,
    }
}

fn errno(errno: Errno) -> Result<(), u32> {
    Err(errno.raw_os_error().unsigned_abs())
}

fn reachable(device: &Served82599, address: u64) -> bool {
    device.memory().access().slice(address, 1).is_some()
}

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
fn memory_is_lent_and_taken_back() {
    let device = null_device();
    let mut client = Client::new(&device);
    let file = memory(MEMORY_BYTES);
    client
        .map(whole(MEMORY, MEMORY_BYTES), Some(&file))
        .unwrap();
    assert!(reachable(&device, MEMORY) && reachable(&device, MEMORY + MEMORY_BYTES - 1));
    let again = client.map(whole(MEMORY + 4096, 4096), Some(&file));
    assert_eq!(again, errno(Errno::EXIST));
    for map in [
        whole(MEMORY - 4096, 8192),
        whole(0x1000, 0),
        whole(0x1001, 4096),
        whole(u64::MAX - 4095, 4096),
        whole(1 << 50, 4096),
        DmaMap {
            argsz: 31,
            ..whole(0x1000, 4096)
        },
        DmaMap {
            flags: dma::READ | 1 << 3,
            ..whole(0x1000, 4096)
        },
        whole(0x1000, MEMORY_BYTES + 4096),
        DmaMap {
            offset: u64::MAX - 4095,
            ..whole(0x1000, 8192)
        },
    ] {
        assert!(client.map(map, Some(&file)).is_err(), "{map:?}");
    }
    let pipe = rustix::event::eventfd(0, EventfdFlags::empty()).unwrap();
    assert!(client.map(whole(0x1000, 4096), Some(&pipe)).is_err());
    let loose = client.map(whole(0x1000, 4096), Some(&unsealed(4096)));
    assert_eq!(loose, errno(Errno::PERM), "it could become shorter");
    // Memory without a descriptor, such as a ROM, is none.
    client.map(whole(0x1000, 4096), None).unwrap();
    assert!(!reachable(&device, 0x1000));
    client.leave();
    assert!(
        !reachable(&device, MEMORY),
        "what is lent goes with its owner"
    );
}

/// What QEMU sends when its guest's memory or IOMMU changes: ranges of its own choosing, up to the last address.
#[test]
fn memory_is_taken_back_range_by_range() {
    let device = null_device();
    let mut client = Client::new(&device);
    let file = memory(MEMORY_BYTES);
    let places = [MEMORY, 0x1_0000_0000];
    for (case, unmap) in [
        ("nothing was lent there", (0x1000, 0x1000, 0)),
        ("nor there", (places[1] + MEMORY_BYTES, 1 << 20, 0)),
        ("one by itself", (MEMORY, MEMORY_BYTES, 0)),
        ("one of a range", (0, MEMORY + MEMORY_BYTES, 0)),
        ("several", (MEMORY, 1 << 39, 0)),
        ("an address space's lower part", (0, 0xFEE0_0000, 0)),
        // An Intel IOMMU's, behind where interrupts are: QEMU gives it back when a guest turns the IOMMU off.
        ("its upper part", (0xFEF0_0000, 0xFFFF_FFFF_0110_0000, 0)),
        ("to the end", (1 << 31, u64::MAX << 31, 0)),
        ("but one address", (0, u64::MAX, 0)),
        ("everything", (0, 0, dma::ALL)),
    ] {
        for at in places {
            client.map(whole(at, MEMORY_BYTES), Some(&file)).unwrap();
        }
        client.map(whole(0x1000, 0x1000), None).unwrap();
        let (first, size, flags) = unmap;
        client
            .unmap(first, size, flags)
            .unwrap_or_else(|errno| panic!("{case}: {errno}"));
        let inside = |at| flags != 0 || (at >= first && at - first < size);
        for at in places {
            assert_ne!(reachable(&device, at), inside(at), "{case}: {at:#x}");
        }
        client.unmap(0, 0, dma::ALL).unwrap();
    }
    client
        .map(whole(MEMORY, MEMORY_BYTES), Some(&file))
        .unwrap();
    for (case, unmap) in [
        ("its start", (MEMORY, 4096, 0)),
        ("its end", (MEMORY + 4096, MEMORY_BYTES, 0)),
        (
            "all but its last page",
            (0, MEMORY + MEMORY_BYTES - 4096, 0),
        ),
        ("nothing", (MEMORY, 0, 0)),
        ("more addresses than there are", (MEMORY, u64::MAX, 0)),
        (
            "everything, but somewhere",
            (MEMORY, MEMORY_BYTES, dma::ALL),
        ),
        ("with a map of the pages written", (MEMORY, MEMORY_BYTES, 1)),
    ] {
        let (first, size, flags) = unmap;
        let refused = client.unmap(first, size, flags);
        assert_eq!(refused, errno(Errno::INVAL), "{case}");
        assert!(reachable(&device, MEMORY), "{case}");
    }
    // Posted, as messages that nobody waits for: what comes next finds it done.
    let unmap = put(|out| {
        DmaUnmap {
            argsz: 24,
            flags: 0,
            address: MEMORY,
            size: MEMORY_BYTES,
        }
        .put(out)
    });
    let flags = flag::NO_REPLY;
    let header = Header::request(0, Command::DmaUnmap, unmap.len());
    client
        .socket
        .send(&Header { flags, ..header }, &unmap, &[])
        .unwrap();
    client.config16(0);
    assert!(!reachable(&device, MEMORY));
    client.leave();
}

/// A receive queue of eight descriptors at the memory's start, buffers behind, set up by messages.
fn start_receiving(client: &mut Client, memory: &File) {
    use std::os::unix::fs::FileExt;
    for index in 0..8_u64 {
        let buffer = MEMORY + 4096 + 2048 * index;
        memory
            .write_all_at(&buffer.to_le_bytes(), index * 16)
            .unwrap();
    }
    for (offset, value) in [
        (r::FCTRL, r::FCTRL_UNICAST | r::FCTRL_BROADCAST),
        (r::RDRXCTL, r::RDRXCTL_CRC_STRIP),
        (r::GPIE, r::GPIE_MSIX),
        (r::IVAR, 0x83),
        (r::EIMS_EX, 1 << 3),
        (0x1000, MEMORY as u32),
        (0x1004, 0),
        (0x1008, 128),
        (r::SRRCTL_LOW, 1 << 25 | 2),
        (0x1028, r::QUEUE_ENABLE),
        (r::RXCTRL, r::RXCTRL_ENABLE),
        (0x1018, 7),
    ] {
        client.set_register(offset, value);
    }
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
    let file = memory(MEMORY_BYTES);
    client
        .map(whole(MEMORY, MEMORY_BYTES), Some(&file))
        .unwrap();
    let file = File::from(file);
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

/// A transmit queue of eight descriptors at `ring`, of which the first sends a frame from `buffer`.
fn send_one(client: &mut Client, memory: &File, queue: u32, ring: u64, buffer: u64) {
    use std::os::unix::fs::FileExt;
    // 60 bytes in all; DTYP data, EOP, IFCS, RS, DEXT (section 7.2.3.2.4).
    let word: u64 = 60 << 46 | 1 << 29 | 1 << 27 | 1 << 25 | 1 << 24 | 3 << 20 | 60;
    let descriptor = [buffer, word].map(u64::to_le_bytes).concat();
    memory.write_all_at(&descriptor, ring - MEMORY).unwrap();
    client.set_register(r::DMATXCTL, r::DMATXCTL_ENABLE);
    for (offset, value) in [
        (0x6000, ring as u32),
        (0x6004, 0),
        (0x6008, 128),
        (0x6028, r::QUEUE_ENABLE),
        (0x6018, 1),
    ] {
        client.set_register(offset + 0x40 * queue, value);
    }
    // Writes that nobody waited for are there when a read comes back.
    client.register(r::DMATXCTL);
}

/// Memory to be read: a frame goes out of it, one that is to come into it stops its queue, and a ring cannot be
/// there.
#[test]
fn memory_that_may_only_be_read_is_not_written() {
    use std::os::unix::fs::FileExt;
    let options = GenOptions {
        rate: Rate::Max,
        frames: Some(3),
        ..GenOptions::default()
    };
    let device =
        Served82599::new(Identity::default(), GenWire::new(&options).unwrap().into()).unwrap();
    let mut client = Client::new(&device);
    let fd = memory(MEMORY_BYTES);
    let file = File::from(fd.try_clone().unwrap());
    // Rings, and behind them buffers.
    client.map(whole(MEMORY, 4096), Some(&fd)).unwrap();
    let buffers = DmaMap {
        flags: dma::READ,
        offset: 4096,
        ..whole(MEMORY + 4096, MEMORY_BYTES - 4096)
    };
    client.map(buffers, Some(&fd)).unwrap();
    let before = vec![0xA5; MEMORY_BYTES as usize - 4096];
    file.write_all_at(&before, 4096).unwrap();
    start_receiving(&mut client, &file);
    send_one(&mut client, &file, 0, MEMORY + 1024, MEMORY + 4096);
    client.write(region::CONFIG, 4, &[6, 0]).unwrap();
    (0..4).for_each(|now| _ = device.poll(now));
    let mut after = vec![0; before.len()];
    file.read_exact_at(&mut after, 4096).unwrap();
    assert!(before == after, "it was written");
    let violations = device.violations();
    assert_eq!(violations.count(Violation::DmaFault), 1, "{violations}");
    assert_eq!(violations.total(), 1, "{violations}");
    assert_eq!(device.wire_report().from_device_frames, 1);
    send_one(&mut client, &file, 1, MEMORY + 8192, MEMORY);
    (4..8).for_each(|now| _ = device.poll(now));
    assert_eq!(device.violations().count(Violation::DmaFault), 2);
    assert_eq!(device.wire_report().from_device_frames, 1);
    client.leave();
}

#[test]
fn a_descriptor_to_read_lends_memory_to_read() {
    let device = null_device();
    let mut client = Client::new(&device);
    let fd = memory(4096);
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let to_read = OwnedFd::from(File::open(path).unwrap());
    assert!(client.map(whole(MEMORY, 4096), Some(&to_read)).is_err());
    let map = DmaMap {
        flags: dma::READ,
        ..whole(MEMORY, 4096)
    };
    client.map(map, Some(&to_read)).unwrap();
    assert!(!reachable(&device, MEMORY));
    let access = device.memory().access();
    assert!(access.source(MEMORY, 4096).is_some() && access.source(MEMORY, 4097).is_none());
    assert!(access.ring(MEMORY, 8).is_none() && !access.store32(MEMORY, 1));
    drop(access);
    client.unmap(MEMORY, 4096, 0).unwrap();
    assert!(device.memory().access().source(MEMORY, 1).is_none());
    client.leave();
}

#[test]
fn memory_is_mapped_for_what_it_is_lent_for() {
    let device = null_device();
    let mut client = Client::new(&device);
    let greeted = client.ask(Command::Version, &greeting(), &[]).unwrap();
    let most = format!("\"max_dma_maps\":{}", super::message::MAX_MAPS);
    assert!(String::from_utf8(greeted).unwrap().contains(&most));
    let lend = |flags| DmaMap {
        flags,
        ..whole(MEMORY, 4096)
    };
    let fd = memory(4096);
    assert_eq!(client.map(lend(0), Some(&fd)), errno(Errno::INVAL));
    client.map(lend(dma::WRITE), Some(&fd)).unwrap();
    assert!(reachable(&device, MEMORY));
    client.unmap(MEMORY, 4096, 0).unwrap();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    let huge = memfd_create("client", flags).unwrap();
    rustix::fs::ftruncate(&huge, 2 << 20).unwrap();
    fcntl_add_seals(&huge, SealFlags::SHRINK).unwrap();
    let part = client.map(lend(dma::READ), Some(&huge));
    assert_eq!(part, errno(Errno::INVAL), "no whole page");
    client.leave();
}

#[test]
fn nonsense_is_refused_and_the_session_goes_on() {
    let device = null_device();
    let mut client = Client::silent(&device);
    let early = client.ask(Command::DeviceInfo, &[0; 16], &[]).map(drop);
    assert_eq!(early, errno(Errno::PROTO));
    let later = put(|out| Version { major: 1, minor: 0 }.put(out));
    assert!(client.ask(Command::Version, &later, &[]).is_err());
    client.ask(Command::Version, &greeting(), &[]).unwrap();
    let file = memory(4096);
    let fds = [file.as_fd(), file.as_fd()];
    for number in 1..=Command::DeviceReset as u16 {
        let command = Command::from_number(number).unwrap();
        if command != Command::DeviceReset && command != Command::DeviceInfo {
            assert!(client.ask(command, &[1], &[]).is_err(), "{command:?}");
        }
        assert!(
            client.ask(command, &[0; 64], &fds).is_err(),
            "{command:?} with descriptors"
        );
    }
    for command in [0, 14, 15, u16::MAX] {
        let header = Header {
            command,
            ..Header::request(9, Command::Version, 3)
        };
        client.socket.send(&header, b"abc", &[]).unwrap();
        assert_eq!(client.answer(header).map(drop), errno(Errno::OPNOTSUPP));
    }
    for (region, offset, count) in [
        (0, 512 * 1024, 4),
        (0, u64::MAX, 4),
        (0, 0, u32::MAX),
        (0, 0, 0),
        (region::CONFIG, 4093, 4),
        (1, 0, 4),
        (TAILS, 0, 4),
        (u32::MAX, 0, 4),
    ] {
        assert!(
            client.read(region, offset, count).is_err(),
            "{region} {offset} {count}"
        );
    }
    // More data than announced, and less.
    for data in [3, 5] {
        let mut body = write_body(0, 0, &[0; 4]);
        body.resize(RegionAccess::SIZE + data, 0);
        assert!(client.ask(Command::RegionWrite, &body, &[]).is_err());
    }
    // An answer that nobody asked for has no answer.
    let stray = Header::request(1, Command::RegionRead, 0).answer(0);
    client.socket.send(&stray, &[], &[]).unwrap();
    let long = vec![0; super::message::MAX_BODY + 1];
    assert_eq!(
        client.ask(Command::RegionWrite, &long, &[]).map(drop),
        errno(Errno::TOOBIG)
    );
    assert_eq!(client.config16(0), 0x8086);
    let report = client.leave();
    assert!(report.refused > 40 && report.refused < report.messages);
}

#[test]
fn a_client_may_leave_at_any_byte() {
    let device = null_device();
    let mut conversation = Vec::new();
    for (command, body) in [
        (Command::Version, greeting()),
        (Command::DeviceInfo, vec![0; 16]),
        (Command::RegionWrite, write_body(region::CONFIG, 4, &[6, 0])),
        (Command::RegionRead, write_body(0, 8, &[])),
    ] {
        Header::request(1, command, body.len()).put(&mut conversation);
        conversation.extend_from_slice(&body);
    }
    for len in 0..=conversation.len() {
        let client = Client::silent(&device);
        client
            .socket
            .stream()
            .write_all(&conversation[..len])
            .unwrap();
        client.leave();
    }
    let mut next = Client::new(&device);
    assert_eq!(
        next.config16(4),
        0,
        "nothing is left of who was there before"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever comes, the session ends when the client leaves, and the next client finds a good device.
    #[test]
    fn any_messages_leave_a_good_device(
        messages in proptest::collection::vec(
            (0_u16..16, any::<bool>(), 0_usize..3, proptest::collection::vec(any::<u8>(), 0..64), any::<u8>()),
            1..24,
        ),
        greets in any::<bool>(),
    ) {
        let device = null_device();
        let client = if greets { Client::new(&device) } else { Client::silent(&device) };
        let file = memory(8192);
        for (command, posted, fds, mut body, small) in messages {
            // Some fields are likelier to mean something when they are small.
            for byte in body.iter_mut().skip(usize::from(small % 4)).step_by(4) {
                *byte = if small < 128 { 0 } else { *byte % 8 };
            }
            let flags = if posted { flag::NO_REPLY } else { 0 };
            let header = Header { command, flags, ..Header::request(5, Command::Version, body.len()) };
            let fds = vec![file.as_fd(); fds];
            if client.socket.send(&header, &body, &fds).is_err() {
                break;
            }
        }
        client.leave();
        let mut next = Client::new(&device);
        prop_assert_eq!(next.config16(2), 0x10FB);
        next.leave();
    }
}

#[test]
fn a_message_shorter_than_its_header_ends_the_session() {
    let client = Client::silent(&null_device());
    let header = Header {
        size: 15,
        ..Header::request(1, Command::Version, 0)
    };
    client
        .socket
        .stream()
        .write_all(&put(|out| header.put(out)))
        .unwrap();
    let mut body = Vec::new();
    assert!(matches!(
        client.socket.receive(&mut body),
        Ok(None) | Err(_)
    ));
}

#[test]
fn clients_come_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nic");
    // What a killed server leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::bind(&path).unwrap();
    assert!(matches!(Listener::bind(&path), Err(ListenError::InUse(_))));
    let device = null_device();
    let connect = || Socket::from(UnixStream::connect(&path).unwrap());
    let greet = |socket: &Socket| {
        let body = greeting();
        socket
            .send(
                &Header::request(1, Command::Version, body.len()),
                &body,
                &[],
            )
            .unwrap();
        let answer = socket.receive(&mut Vec::new()).unwrap().unwrap();
        answer.header.refused()
    };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| listener.run(&device, &|_, _| {}));
        for _ in 0..3 {
            // The one before may not be gone yet.
            let mut first = connect();
            while greet(&first).is_some() {
                first = connect();
            }
            assert_eq!(
                greet(&connect()),
                Some(Errno::BUSY.raw_os_error().unsigned_abs())
            );
        }
        let _last = connect();
        listener.stop();
        run.join().unwrap().unwrap();
    });
    assert!(listener.clients() >= 3);
    drop(listener);
    assert!(!path.exists());
    assert!(matches!(
        Listener::bind(&folder.path().join("no/such")),
        Err(ListenError::Bind { .. })
    ));
}
