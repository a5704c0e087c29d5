//! Tests at register and descriptor level, by a small driver that follows the datasheet's
//! initialisation (section 4.6) and shares nothing with any other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sumac_device::{DmaMemory, DmaSpace};

use super::device::{Access32, Core};
use super::registers::{self as r, QueueRegister, receive_offset, transmit_offset};
use super::{Fault, Identity, Violation};
use crate::memory::SimDma;
use crate::wire::{LinkSwitch, Wire, WireReport};

mod control;
mod fast;
mod faulty;
mod front;
mod interrupts;
mod offloads;
mod receive;
mod strict;
mod transmit;
mod write_back;

/// Descriptors in a test ring.
const RING: usize = 32;
/// Bytes between receive buffers.
const BUFFER: usize = 2048;

/// A wire whose both ends the test holds.
#[derive(Default)]
struct TestWire {
    arriving: VecDeque<Vec<u8>>,
    left: Vec<Vec<u8>>,
    /// Frames the wire takes before it has no room.
    room: usize,
    drops: bool,
    /// The other end sends of its own accord.
    alive: bool,
    link: LinkSwitch,
}

impl Wire for TestWire {
    fn peek(&mut self, _now_ns: u64) -> Option<&[u8]> {
        self.arriving.front().map(Vec::as_slice)
    }
    fn consume(&mut self) {
        self.arriving.pop_front();
    }
    fn transmit(&mut self, _now_ns: u64, frame: &[u8]) -> bool {
        if self.left.len() >= self.room {
            return false;
        }
        self.left.push(frame.to_vec());
        true
    }
    fn drops_when_full(&self) -> bool {
        self.drops
    }
    fn pass_by(&mut self, _now_ns: u64, limit: usize) -> usize {
        let passing = if self.alive {
            self.arriving.len().min(limit)
        } else {
            0
        };
        self.arriving.drain(..passing).count()
    }
    fn link(&self) -> &LinkSwitch {
        &self.link
    }
    fn report(&self) -> WireReport {
        WireReport::default()
    }
}

/// A device, its wire, and the driver's memory.
struct Bench {
    core: Core,
    /// The same cells, as a driver that maps them has them.
    cells: Arc<Box<[AtomicU32]>>,
    wire: TestWire,
    dma: SimDma,
}

/// A queue's ring and buffers as the driver holds them.
struct Ring {
    memory: DmaMemory,
    buffers: DmaMemory,
    next: usize,
}

impl Ring {
    fn words(&self, index: usize) -> [u64; 2] {
        let cell = |at| self.memory.cell(at).unwrap().load(Ordering::Acquire);
        [cell(2 * index), cell(2 * index + 1)]
    }
    fn set(&self, index: usize, words: [u64; 2]) {
        for (at, word) in words.into_iter().enumerate() {
            let cell = self.memory.cell(2 * index + at).unwrap();
            cell.store(word, Ordering::Relaxed);
        }
    }
    fn buffer(&self, index: usize) -> u64 {
        self.buffers.iova_at(index * BUFFER).unwrap().to_bits()
    }
    fn bytes(&self, index: usize, len: usize) -> Vec<u8> {
        let first = index * BUFFER / 8;
        let cells = &self.buffers.cells()[first..first + len.div_ceil(8)];
        let mut bytes: Vec<u8> = (cells.iter())
            .flat_map(|cell| cell.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        bytes.truncate(len);
        bytes
    }
    fn fill(&self, index: usize, bytes: &[u8]) {
        for (at, piece) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            let cell = self.buffers.cell(index * BUFFER / 8 + at).unwrap();
            cell.store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(Identity::default(), &[], Access32::Trapped)
    }

    fn faulty(faults: &[Fault]) -> Self {
        Self::with(Identity::default(), faults, Access32::Trapped)
    }

    fn with(identity: Identity, faults: &[Fault], access: Access32) -> Self {
        let cells: Box<[AtomicU32]> = (0..r::BAR_BYTES / 4).map(|_| AtomicU32::new(0)).collect();
        let cells = Arc::new(cells);
        let shared: super::Cells = Arc::clone(&cells) as _;
        Self {
            core: Core::new(shared, access, identity, faults.to_vec(), true),
            cells,
            wire: TestWire {
                room: usize::MAX,
                ..TestWire::default()
            },
            dma: SimDma::new().unwrap(),
        }
    }

    fn read(&mut self, offset: u32) -> u32 {
        self.core.read(offset)
    }

    fn write(&mut self, offset: u32, value: u32) {
        self.core.write(offset, value);
    }

    fn poll(&mut self) -> usize {
        let access = self.dma.window().access();
        self.core.poll(&access, &mut self.wire, 0)
    }

    fn count(&self, violation: Violation) -> u64 {
        self.core.violations().count(violation)
    }

    fn ring(&self) -> Ring {
        Ring {
            memory: self.dma.allocate(RING * 16, 128).unwrap(),
            buffers: self.dma.allocate(RING * BUFFER, 4096).unwrap(),
            next: 0,
        }
    }

    /// Section 4.6.7, as far as one queue goes. Advanced descriptors, 2 KiB buffers.
    fn receive_queue(&mut self, queue: usize, control: u32) -> Ring {
        self.receive_queue_as(queue, control, 1 << 25 | 2)
    }

    fn receive_queue_as(&mut self, queue: usize, control: u32, srrctl: u32) -> Ring {
        use QueueRegister::{BaseHigh, BaseLow, Buffers, Control, Length, Tail};
        let ring = self.ring();
        for index in 0..RING {
            ring.set(index, [ring.buffer(index), 0]);
        }
        let base = ring.memory.iova().to_bits();
        self.write(receive_offset(queue, BaseLow), base as u32);
        self.write(receive_offset(queue, BaseHigh), (base >> 32) as u32);
        self.write(receive_offset(queue, Length), (RING * 16) as u32);
        self.write(receive_offset(queue, Buffers), srrctl);
        self.write(receive_offset(queue, Control), r::QUEUE_ENABLE | control);
        let enabled = self.read(receive_offset(queue, Control));
        assert_ne!(enabled & r::QUEUE_ENABLE, 0);
        self.write(receive_offset(queue, Tail), RING as u32 - 1);
        ring
    }

    /// Everything on: promiscuous, frame check sequences stripped, receiver enabled.
    fn start_receiver(&mut self) {
        self.start_receiver_with(r::FCTRL_UNICAST | r::FCTRL_MULTICAST | r::FCTRL_BROADCAST);
    }

    fn start_receiver_with(&mut self, fctrl: u32) {
        self.write(r::FCTRL, fctrl);
        let rdrxctl = self.read(r::RDRXCTL);
        self.write(r::RDRXCTL, rdrxctl | r::RDRXCTL_CRC_STRIP);
        self.write(r::RXCTRL, r::RXCTRL_ENABLE);
    }

    /// Section 4.6.8.
    fn transmit_queue(&mut self, queue: usize) -> Ring {
        use QueueRegister::{BaseHigh, BaseLow, Control, Length};
        let ring = self.ring();
        let base = ring.memory.iova().to_bits();
        self.write(transmit_offset(queue, BaseLow), base as u32);
        self.write(transmit_offset(queue, BaseHigh), (base >> 32) as u32);
        self.write(transmit_offset(queue, Length), (RING * 16) as u32);
        let dmatxctl = self.read(r::DMATXCTL);
        self.write(r::DMATXCTL, dmatxctl | r::DMATXCTL_ENABLE);
        self.write(transmit_offset(queue, Control), r::QUEUE_ENABLE);
        ring
    }

    /// Posts one advanced data descriptor with extra bits in its second word.
    fn post(&mut self, ring: &mut Ring, bytes: &[u8], payload: usize, extra: u64) {
        use super::descriptor as d;
        let index = ring.next;
        ring.fill(index, bytes);
        let word = bytes.len() as u64 | d::TX_TYPE_DATA | d::TX_ADVANCED | d::TX_FCS;
        ring.set(
            index,
            [ring.buffer(index), word | (payload as u64) << 46 | extra],
        );
        ring.next = (index + 1) % RING;
    }

    fn ring_doorbell(&mut self, queue: usize, ring: &Ring) {
        self.write(
            transmit_offset(queue, QueueRegister::Tail),
            ring.next as u32,
        );
    }

    fn assert_clean(&self) {
        assert_eq!(
            self.core.violations().total(),
            0,
            "{}",
            self.core.violations()
        );
    }
}

/// A frame of `len` bytes to a unicast address, of no known protocol.
fn frame(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len)
        .map(|at| (at as u8).wrapping_mul(31) ^ seed)
        .collect();
    bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    bytes[12..14].copy_from_slice(&0x88B5_u16.to_be_bytes());
    bytes
}
