//! Offloads end to end: what one port's driver asks for, the other port's driver sees. Frames are
//! built, checksums included, by another library.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::cable::{Cable, FAR, NEAR};
use etherparse::PacketBuilder;
use sumac_devices::ixgbe::DeviceThread;
use sumac_ixgbe::{PortConfig, QueuePair};
use sumac_rref::{HeaderLengths, Packet, PacketFlags, PacketPool};

const L2: usize = 14;

/// What a frame is made of.
#[derive(Clone, Copy, Debug)]
struct Kind {
    ipv6: bool,
    tcp: bool,
}

const KINDS: [Kind; 4] = [
    Kind {
        ipv6: false,
        tcp: false,
    },
    Kind {
        ipv6: false,
        tcp: true,
    },
    Kind {
        ipv6: true,
        tcp: false,
    },
    Kind {
        ipv6: true,
        tcp: true,
    },
];

impl Kind {
    /// A good frame, and the bytes of its IP header.
    fn frame(self, payload: &[u8]) -> (Vec<u8>, usize) {
        let link = PacketBuilder::ethernet2(NEAR, FAR);
        let (network, header) = match self.ipv6 {
            true => (link.ipv6([0xfd; 16], [0xfe; 16], 9), 40),
            false => (link.ipv4([192, 0, 2, 1], [198, 51, 100, 7], 9), 20),
        };
        let mut frame = Vec::new();
        match self.tcp {
            true => network.tcp(4000, 5000, 77, 512).write(&mut frame, payload),
            false => network.udp(4000, 5000).write(&mut frame, payload),
        }
        .expect("it fits");
        (frame, header)
    }

    /// Where the transport's checksum is.
    fn checksum_at(self, header: usize) -> usize {
        L2 + header + if self.tcp { 16 } else { 6 }
    }

    fn flags(self) -> PacketFlags {
        let transport = match self.tcp {
            true => PacketFlags::INSERT_TCP_CHECKSUM,
            false => PacketFlags::INSERT_UDP_CHECKSUM,
        };
        match self.ipv6 {
            true => transport,
            false => transport | PacketFlags::INSERT_IP_CHECKSUM | PacketFlags::IS_IPV4,
        }
    }

    /// The frame with no checksums but the pseudo header's sum where the device expects it.
    fn unfinished(self, frame: &[u8], header: usize) -> Vec<u8> {
        let mut frame = frame.to_vec();
        let addresses = if self.ipv6 {
            L2 + 8..L2 + 40
        } else {
            L2 + 12..L2 + 20
        };
        let length = (frame.len() - L2 - header) as u32;
        let pairs = frame[addresses].as_chunks::<2>().0.iter();
        let mut sum: u32 = pairs.map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
        sum += length + if self.tcp { 6 } else { 17 };
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        if !self.ipv6 {
            frame[L2 + 10..L2 + 12].fill(0);
        }
        let at = self.checksum_at(header);
        frame[at..at + 2].copy_from_slice(&(sum as u16).to_be_bytes());
        frame
    }

    /// The unfinished frame as a packet that asks for what it lacks.
    fn request(self, cable: &Cable, frame: &[u8], header: usize) -> Packet {
        let mut packet = cable.packet(&self.unfinished(frame, header));
        let headers = HeaderLengths {
            l2: L2 as u8,
            l3: header as u16,
        };
        packet.request_checksums(self.flags(), headers);
        packet
    }
}

fn bytes(packet: &Packet) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}

fn jumbo() -> PortConfig {
    PortConfig {
        mtu: 9710,
        ..PortConfig::default()
    }
}

#[test]
fn checksums_are_inserted_and_found_good() {
    let mut cable = Cable::new(&jumbo(), &jumbo());
    for kind in KINDS {
        for payload in [32, 33, 1400, 2000, 2100, 9000] {
            let (frame, header) = kind.frame(&vec![0x5b; payload]);
            let packet = kind.request(&cable, &frame, header);
            assert_eq!(cable.send([packet]), 1);
            let received = cable.receive();
            assert_eq!(received.len(), 1, "{kind:?} {payload}");
            let (_, packet) = &received[0];
            assert!(bytes(packet) == frame, "{kind:?} {payload}");
            let meta = packet.meta();
            assert_eq!(meta.ip_checksum_good(), (!kind.ipv6).then_some(true));
            assert_eq!(meta.l4_checksum_good(), Some(true), "{kind:?} {payload}");
        }
    }
    cable.end();
}

#[test]
fn bad_checksums_are_told_and_counted() {
    let mut cable = Cable::new(&jumbo(), &jumbo());
    for kind in KINDS {
        let (mut frame, header) = kind.frame(&[0x5b; 100]);
        let last = frame.len() - 1;
        frame[last] ^= 1;
        cable.send([cable.packet(&frame)]);
        let received = cable.receive();
        let meta = received[0].1.meta();
        assert_eq!(meta.ip_checksum_good(), (!kind.ipv6).then_some(true));
        assert_eq!(meta.l4_checksum_good(), Some(false), "{kind:?}");
        if !kind.ipv6 {
            frame[last] ^= 1;
            frame[L2 + 8] ^= 1; // time to live
            cable.send([cable.packet(&frame)]);
            let meta = cable.receive()[0].1.meta();
            assert_eq!(meta.ip_checksum_good(), Some(false));
        }
        assert!(header > 0);
    }
    let stats = cable.far.port.control_mut().stats().expect("it is well");
    assert_eq!(stats.get("rx_l3_l4_xsum_error"), Some(6));
    cable.end();
}

#[test]
fn tags_are_inserted_and_stripped() {
    for strip in [false, true] {
        let far = PortConfig {
            vlan_strip: strip,
            ..PortConfig::default()
        };
        let mut cable = Cable::new(&PortConfig::default(), &far);
        for (kind, tag) in KINDS.into_iter().zip([1_u16, 0x6064, 0xffff, 0]) {
            let (frame, header) = kind.frame(&[0x5b; 100]);
            let mut packet = kind.request(&cable, &frame, header);
            packet.request_vlan(tag);
            cable.send([packet]);
            let received = cable.receive();
            let (_, packet) = &received[0];
            assert_eq!(packet.meta().l4_checksum_good(), Some(true), "{kind:?}");
            if strip {
                assert_eq!(packet.meta().vlan_tag(), Some(tag));
                assert!(bytes(packet) == frame, "{kind:?}");
            } else {
                let [high, low] = tag.to_be_bytes();
                assert_eq!(packet.meta().vlan_tag(), None);
                let tagged = [&frame[..12], &[0x81, 0x00, high, low], &frame[12..]].concat();
                assert!(bytes(packet) == tagged, "{kind:?}");
            }
        }
        cable.end();
    }
}

#[test]
fn jumbo_frames_come_whole_at_every_edge() {
    let mut cable = Cable::new(&jumbo(), &jumbo());
    for length in [
        60_usize, 2047, 2048, 2049, 4096, 4097, 6144, 8192, 8193, 9723, 9724,
    ] {
        let mut frame = [FAR, NEAR].concat();
        frame.extend([0x88, 0xb5]);
        frame.extend((14..length).map(|at| (at * 7 % 251) as u8));
        cable.send([cable.packet(&frame)]);
        let received = cable.receive();
        assert_eq!(received.len(), 1, "{length}");
        assert!(bytes(&received[0].1) == frame, "{length}");
        assert_eq!(received[0].1.segments().count(), length.div_ceil(2048));
    }
    cable.end();
}

/// A flow, source and destination, and its hash.
type Vector = ([u8; 4], u16, [u8; 4], u16, u32);

/// The published vectors of the Toeplitz hash over IPv4 addresses and TCP ports.
const VECTORS: [Vector; 5] = [
    (
        [66, 9, 149, 187],
        2794,
        [161, 142, 100, 80],
        1766,
        0x51cc_c178,
    ),
    (
        [199, 92, 111, 2],
        14230,
        [65, 69, 140, 83],
        4739,
        0xc626_b0ea,
    ),
    (
        [24, 19, 198, 95],
        12898,
        [12, 22, 207, 184],
        38024,
        0x5c2b_394a,
    ),
    (
        [38, 27, 205, 30],
        48228,
        [209, 142, 163, 6],
        2217,
        0xafc7_327f,
    ),
    (
        [153, 39, 163, 191],
        44251,
        [202, 188, 127, 2],
        1303,
        0x10e8_28a2,
    ),
];

fn tcp(source: [u8; 4], port: u16, destination: [u8; 4], to: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(NEAR, FAR)
        .ipv4(source, destination, 9)
        .tcp(port, to, 1, 512)
        .write(&mut frame, &[0; 20])
        .expect("it fits");
    frame
}

#[test]
fn hashes_are_the_published_ones_and_spread() {
    let far = PortConfig {
        queues: 4,
        ..PortConfig::default()
    };
    let mut cable = Cable::new(&PortConfig::default(), &far);
    for (source, port, destination, to, hash) in VECTORS {
        cable.send([cable.packet(&tcp(source, port, destination, to))]);
        let received = cable.receive();
        let (queue, packet) = &received[0];
        assert_eq!(packet.meta().rss_hash(), Some(hash));
        // The table goes round the four queues.
        assert_eq!(*queue, (hash & 0x7f) as usize % 4);
    }
    let mut queues = [0; 4];
    for port in 0..256 {
        let frame = tcp([192, 0, 2, 1], 1024 + port, [198, 51, 100, 7], 80);
        cable.send([cable.packet(&frame)]);
        cable
            .receive()
            .iter()
            .for_each(|(queue, _)| queues[*queue] += 1);
    }
    assert_eq!(queues.iter().sum::<u32>(), 256);
    assert!(queues.iter().all(|frames| *frames > 32), "{queues:?}");
    cable.end();
}

/// Frames each thread sends.
const FRAMES: usize = 20_000;

/// Sends [`FRAMES`] on `near` and receives on `far` until all frames of both threads, as counted
/// together, have come.
fn exchange(
    (mut near, mut far): (QueuePair, QueuePair),
    frame: &[u8],
    pool: &'static PacketPool,
    left: &AtomicUsize,
) -> (QueuePair, QueuePair, u64) {
    let batch = || pool.batch().expect("room for a batch");
    let (mut out, mut into, mut made, mut received) = (batch(), batch(), 0, 0);
    while left.load(Ordering::Relaxed) > 0 || !out.is_empty() {
        while made < FRAMES && !out.is_full() {
            let Some(packet) = Packet::from_frame(pool, frame) else {
                break;
            };
            out.push_back(packet).expect("it is not full");
            made += 1;
        }
        near.transmit(&mut out).expect("one pool");
        near.receive(&mut into, 1).expect("one pool");
        let came = far.receive(&mut into, 64).expect("one pool");
        into.clear();
        received += came as u64;
        left.fetch_sub(came, Ordering::Relaxed);
        if came == 0 {
            std::thread::yield_now();
        }
    }
    (near, far, received)
}

#[test]
fn queues_work_at_once_on_two_threads() {
    let config = PortConfig {
        queues: 2,
        ..PortConfig::default()
    };
    let mut cable = Cable::new(&config, &config);
    // One flow for each of the far port's queues.
    let flow = |queue: usize| {
        let (source, port, destination, to, _) = VECTORS
            .into_iter()
            .find(|(.., hash)| (hash & 0x7f) as usize % 2 == queue)
            .expect("there are even and odd ones");
        tcp(source, port, destination, to)
    };
    let devices = [cable.near.device.clone(), cable.far.device.clone()];
    let thread = DeviceThread::spawn(&devices, None).expect("a thread can be made");
    let left = AtomicUsize::new(2 * FRAMES);
    let pairs: Vec<_> = cable
        .near
        .pairs
        .drain(..)
        .zip(cable.far.pairs.drain(..))
        .collect();
    let done: Vec<_> = std::thread::scope(|scope| {
        let (left, pool) = (&left, cable.pool);
        let threads: Vec<_> = pairs
            .into_iter()
            .enumerate()
            .map(|(queue, pair)| scope.spawn(move || exchange(pair, &flow(queue), pool, left)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    drop(thread);
    let bytes = (flow(0).len() * FRAMES) as u64;
    let stats = cable
        .far
        .port
        .control_mut()
        .stats()
        .expect("it is well")
        .clone();
    for (queue, (near, far, received)) in done.into_iter().enumerate() {
        assert_eq!(received, FRAMES as u64, "queue {queue}");
        let counted = stats.queues()[queue];
        assert_eq!(
            (counted.rx_packets, counted.rx_bytes),
            (FRAMES as u64, bytes)
        );
        cable.near.pairs.push(near);
        cable.far.pairs.push(far);
    }
    cable.end();
}
