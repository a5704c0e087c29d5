//! Memory that is lent, and taken back.

use std::fs::File;

use rustix::event::EventfdFlags;
use rustix::io::Errno;

use super::*;
use crate::ixgbe::{Polled, Violation};
use crate::wire::{GenOptions, GenWire, Rate};

/// What a client lends is mapped for what it says, if it is whole pages.
#[test]
fn memory_is_mapped_for_what_it_is_lent_for() {
    let device = null_device();
    let mut client = Client::new(&device);
    let greeted = client.ask(Command::Version, &greeting(), &[]).unwrap();
    let most = format!("\"max_dma_maps\":{}", crate::vfio_user::message::MAX_MAPS);
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
fn memory_is_lent_and_taken_back() {
    let device = null_device();
    let mut client = Client::new(&device);
    let file = client.lend();
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

/// As many pieces are taken as the server says, and no more until one is given back.
#[test]
fn memory_is_lent_in_as_many_pieces_as_announced() {
    let device = null_device();
    let mut client = Client::silent(&device);
    let answer = client.ask(Command::Version, &greeting(), &[]).unwrap();
    let text = answer[Version::SIZE..].strip_suffix(b"\0").unwrap();
    let announced: serde_json::Value = serde_json::from_slice(text).unwrap();
    let pieces = announced["capabilities"]["max_dma_maps"].as_u64().unwrap();
    let file = memory(4096);
    let piece = |number| whole(MEMORY + 8192 * number, 4096);
    for number in 0..pieces {
        client.map(piece(number), Some(&file)).unwrap();
    }
    let one_more = client.map(piece(pieces), Some(&file));
    assert_eq!(one_more, errno(Errno::NOSPC));
    client.unmap(MEMORY, 4096, 0).unwrap();
    client.map(piece(pieces), Some(&file)).unwrap();
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

/// What a poll would write back first is written back for whoever reads whether the queue is off.
#[test]
fn a_transmit_queue_is_off_when_that_is_read_whoever_polls() {
    const CONTROL: u32 = 0x6028;
    const THRESHOLD: u32 = 8 << 16;
    let device = null_device();
    let mut client = Client::new(&device);
    let file = File::from(client.lend());
    client.write(region::CONFIG, 4, &[6, 0]).unwrap();
    send_one(&mut client, &file, 0, MEMORY, MEMORY + 4096);
    client.set_register(CONTROL, r::QUEUE_ENABLE | THRESHOLD);
    assert_ne!(client.register(CONTROL) & r::QUEUE_ENABLE, 0);
    (0..4).for_each(|now| _ = device.poll(now));
    assert_eq!(device.wire_report().from_device_frames, 1);
    client.set_register(CONTROL, THRESHOLD);
    assert_eq!(client.register(CONTROL), THRESHOLD);
    assert_eq!(device.violations().total(), 0, "{}", device.violations());
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
