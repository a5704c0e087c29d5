//! A device that keeps the rules: it works on what it was given, in order, and checks it.

use std::collections::VecDeque;
use std::sync::Arc;

use sumac_device::Iova;
use sumac_device::ring::{ReceiveFormat, TransmitFormat};

use crate::format::{PlainReceive, PlainTransmit};
use crate::host::{HeapDma, Registers, Tail};

/// A ring as the device sees it.
struct Slots {
    dma: Arc<HeapDma>,
    registers: Arc<Registers>,
    base: u64,
    size: u32,
    head: u32,
    tail: Tail,
}

impl Slots {
    /// Whether the driver gave the device the descriptor at the head.
    fn given(&self) -> bool {
        self.head != self.registers.tail(self.tail)
    }

    fn word(&self, word: u64) -> u64 {
        self.base + u64::from(self.head) * 16 + word * 8
    }

    fn step(&mut self) {
        self.head = (self.head + 1) % self.size;
    }
}

/// The receive side.
pub struct ReceiveModel(Slots);

impl ReceiveModel {
    /// A device that starts at slot 0 of a ring there.
    pub fn new(dma: &Arc<HeapDma>, registers: &Arc<Registers>, ring: Iova, size: u32) -> Self {
        Self(Slots {
            dma: dma.clone(),
            registers: registers.clone(),
            base: ring.to_bits(),
            size,
            head: 0,
            tail: Tail::Receive,
        })
    }

    /// Receives `bytes` into the next buffer and reports `len` of them; `false` if it was given none.
    pub fn receive(&mut self, bytes: &[u8], len: u16, end: bool) -> bool {
        let slots = &mut self.0;
        if !slots.given() {
            return false;
        }
        assert_eq!(slots.dma.load(slots.word(1)), 0, "a slot given unfinished");
        slots.dma.write(slots.dma.load(slots.word(0)), bytes);
        let end = if end { PlainReceive::END } else { 0 };
        slots.dma.store(slots.word(0), 0xfeed_face_dead_beef);
        let status = PlainReceive::DONE | end | u64::from(len) << 32;
        slots.dma.store(slots.word(1), status);
        slots.step();
        true
    }
}

/// A frame as the device sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The tag of the context that held for it, if it asked for the offload.
    pub tag: Option<u16>,
}

/// The transmit side.
pub struct TransmitModel {
    slots: Slots,
    context: Option<u16>,
    bytes: Vec<u8>,
    reports: VecDeque<u64>,
}

impl TransmitModel {
    /// A device that starts at slot 0 of a ring there.
    pub fn new(dma: &Arc<HeapDma>, registers: &Arc<Registers>, ring: Iova, size: u32) -> Self {
        Self {
            slots: Slots {
                dma: dma.clone(),
                registers: registers.clone(),
                base: ring.to_bits(),
                size,
                head: 0,
                tail: Tail::Transmit,
            },
            context: None,
            bytes: Vec::new(),
            reports: VecDeque::new(),
        }
    }

    /// Works on up to `limit` descriptors; returns the frames that ended. What it was asked to report
    /// is withheld until [`report`](Self::report).
    pub fn send(&mut self, limit: usize) -> Vec<Sent> {
        let mut sent = Vec::new();
        for _ in 0..limit {
            if !self.slots.given() {
                break;
            }
            let words = [0, 1].map(|word| self.slots.dma.load(self.slots.word(word)));
            assert_eq!(words[1] & PlainTransmit::DONE, 0, "given as already done");
            if words[1] & PlainTransmit::REPORT != 0 {
                self.reports.push_back(self.slots.word(1));
            }
            if words[1] & PlainTransmit::CONTEXT.0 == PlainTransmit::CONTEXT.1 {
                assert!(self.bytes.is_empty(), "a context inside a frame");
                self.context = Some(words[0] as u16);
            } else {
                sent.extend(self.data(words));
            }
            self.slots.step();
        }
        sent
    }

    fn data(&mut self, [address, status]: [u64; 2]) -> Option<Sent> {
        let len = (status & 0xffff) as usize;
        self.bytes.extend(self.slots.dma.read(address, len));
        if status & PlainTransmit::END == 0 {
            return None;
        }
        let bytes = std::mem::take(&mut self.bytes);
        let announced = (status >> PlainTransmit::FRAME_SHIFT) as usize;
        assert_eq!(bytes.len(), announced, "the frame's length is wrong");
        let offload = status & PlainTransmit::OFFLOAD != 0;
        let tag = offload.then(|| self.context.expect("an offload without a context"));
        Some(Sent { bytes, tag })
    }

    /// Reports up to `limit` of what was sent as done, oldest first.
    pub fn report(&mut self, limit: usize) {
        for word in self.reports.drain(..limit.min(self.reports.len())) {
            let status = self.slots.dma.load(word);
            self.slots.dma.store(word, status | PlainTransmit::DONE);
        }
    }
}
