//! The fast loops against the long way: the same frames must give the same descriptors, bytes and
//! statistics. Deep checks switch the fast loops off.

use super::offloads::{tagged, udp};
use super::*;
use crate::wire::{GenOptions, GenWire, Rate};

/// What one queue was given: write-backs and payloads.
type Delivered = Vec<([u64; 2], Vec<u8>)>;

/// Everything `polls` polls deliver from `wire`, by queue, and the statistics.
fn deliver(
    fast: bool,
    queues: usize,
    wire: &mut impl Wire,
    polls: usize,
) -> (Vec<Delivered>, String) {
    let mut bench = Bench::new();
    bench.core.strict_deep = !fast;
    let mut rings: Vec<Ring> = (0..queues)
        .map(|queue| bench.receive_queue(queue, 0))
        .collect();
    if queues > 1 {
        (0..10).for_each(|at| bench.write(r::RSSRK + 4 * at, 0x9E37_79B9_u32.rotate_left(at)));
        (0..32).for_each(|at| bench.write(r::RETA + 4 * at, 0x0302_0100));
        bench.write(r::MRQC, 1 | 1 << 17 | 1 << 22);
        bench.write(r::RXCSUM, r::RXCSUM_HASH);
    }
    bench.start_receiver();
    let mut delivered = vec![Delivered::new(); queues];
    for poll in 0..polls {
        let access = bench.dma.window().access();
        bench.core.poll(&access, wire, poll as u64);
        drop(access);
        for (queue, ring) in rings.iter_mut().enumerate() {
            while ring.words(ring.next)[1] & 1 != 0 {
                let words = ring.words(ring.next);
                let len = (words[1] >> 32 & 0xFFFF) as usize;
                delivered[queue].push((words, ring.bytes(ring.next, len)));
                ring.set(ring.next, [ring.buffer(ring.next), 0]);
                ring.next = (ring.next + 1) % RING;
            }
            let tail = (ring.next + RING - 1) % RING;
            bench.write(receive_offset(queue, QueueRegister::Tail), tail as u32);
        }
    }
    bench.assert_clean();
    (delivered, format!("{:?}", bench.core.totals()))
}

/// Frames of all kinds, many of them alike.
fn mixture() -> VecDeque<Vec<u8>> {
    let mut frames = VecDeque::new();
    for round in 0..400_usize {
        let mut plain = udp(60, true);
        // Ports that come again soon, and what tells frames apart.
        (plain[35], plain[50]) = ((round % 7) as u8, round as u8);
        frames.push_back(plain);
        match round % 11 {
            1 => frames.push_back(udp(60, false)),
            3 => frames.push_back(tagged(udp(60, true), 5)),
            4 => frames.push_back(frame(60 + round, round as u8)),
            6 => frames.push_back(udp(61 + round, true)),
            7 => {
                let mut group = udp(60, true);
                group[..6].fill(if round % 2 == 0 { 0xFF } else { 0x33 });
                frames.extend([group.clone(), group]);
            }
            9 => {
                let mut checked = udp(80, true);
                checked[40] = round as u8;
                frames.push_back(checked);
            }
            10 => frames.push_back(udp(3000, true)),
            _ => {}
        }
    }
    frames
}

#[test]
fn a_mixture_is_delivered_as_on_the_long_way() {
    for queues in [1, 4] {
        let mut wires = [(); 2].map(|()| TestWire {
            arriving: mixture(),
            ..TestWire::default()
        });
        let [fast, long] = &mut wires;
        let fast = deliver(true, queues, fast, 60);
        let long = deliver(false, queues, long, 60);
        assert!(fast.0.iter().all(|queue| !queue.is_empty()));
        assert_eq!(fast, long, "{queues} queues");
        assert!(wires.iter().all(|wire| wire.arriving.is_empty()));
    }
}

#[test]
fn generated_frames_are_delivered_as_on_the_long_way() {
    for (size, flows) in [(64, 1), (64, 64), (64, 300), (65, 64), (700, 3)] {
        for queues in [1, 4] {
            let options = GenOptions {
                size,
                flows,
                rate: Rate::Max,
                ..GenOptions::default()
            };
            let mut wires = [(); 2].map(|()| GenWire::new(&options).unwrap());
            let [fast, long] = &mut wires;
            let (fast, long) = (
                deliver(true, queues, fast, 40),
                deliver(false, queues, long, 40),
            );
            let frames: usize = fast.0.iter().map(Vec::len).sum();
            assert!(frames >= 500);
            assert_eq!(fast, long, "{size} bytes, {flows} flows, {queues} queues");
        }
    }
}
