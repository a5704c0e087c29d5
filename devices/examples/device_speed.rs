//! How long the software 82599 takes for a descriptor: `cargo run --release -p sumac-devices
//! --example device_speed`.
//!
//! A minimal driver fills the rings between the timed polls, on the same processor, so the figures
//! are the device's alone: with warm caches, without a second core. Prints the best and the median
//! of many short runs, since other work on the machine only ever adds time.
#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sumac_device::{DmaMemory, DmaSpace};
use sumac_devices::ixgbe::registers::BAR_BYTES;
use sumac_devices::ixgbe::{Access32, Core, Identity};
use sumac_devices::memory::{BarCells, SimDma};
use sumac_devices::wire::{GenOptions, GenWire, LinkSwitch, Rate, Wire, WireReport};

const RING: usize = 512;
/// Distance of the buffers: like a packet pool's, not a power of two.
const BUFFER: usize = 2048 + 192;
const RUNS: usize = 4000;
/// Frames a run: part of a ring, so that the tail never meets the head.
const FRAMES: usize = 256;

/// The same frame for ever, and a sink that looks at nothing: what a device costs without a wire.
struct Bare {
    frame: Vec<u8>,
    link: LinkSwitch,
    taken: u64,
}

impl Wire for Bare {
    #[inline]
    fn peek(&mut self, _now_ns: u64) -> Option<&[u8]> {
        Some(&self.frame)
    }
    #[inline]
    fn consume(&mut self) {
        self.taken += 1;
    }
    #[inline]
    fn transmit(&mut self, _now_ns: u64, frame: &[u8]) -> bool {
        self.taken += u64::from(frame[20]);
        true
    }
    #[inline]
    fn drops_when_full(&self) -> bool {
        false
    }
    fn link(&self) -> &LinkSwitch {
        &self.link
    }
    fn report(&self) -> WireReport {
        WireReport::default()
    }
}

/// A queue of the device under test, with its ring.
struct Queue {
    core: Core,
    cells: Arc<BarCells>,
    tail: u32,
    descriptors: DmaMemory,
    buffers: DmaMemory,
    next: usize,
}

impl Queue {
    /// A device with a ring whose registers begin at `base`.
    fn new(dma: &SimDma, base: u32) -> Result<Self, Box<dyn Error>> {
        let cells = Arc::new(BarCells::new(BAR_BYTES));
        let shared = Arc::clone(&cells) as _;
        let mut core = Core::new(
            shared,
            Access32::Trapped,
            Identity::default(),
            Vec::new(),
            false,
        );
        let descriptors = dma.allocate(RING * 16, 128)?;
        let address = descriptors.iova().to_bits();
        core.write(base, address as u32);
        core.write(base + 4, (address >> 32) as u32);
        core.write(base + 8, (RING * 16) as u32);
        Ok(Self {
            core,
            cells,
            tail: base + 0x18,
            descriptors,
            buffers: dma.allocate(RING * BUFFER, 4096)?,
            next: 0,
        })
    }

    /// Fills the next descriptor.
    fn post(&mut self, word: u64) {
        let address = self.buffers.iova_at(self.next * BUFFER);
        let cells = &self.descriptors.cells()[2 * self.next..2 * self.next + 2];
        cells[0].store(address.map_or(0, |iova| iova.to_bits()), Ordering::Relaxed);
        cells[1].store(word, Ordering::Relaxed);
        self.next = (self.next + 1) % RING;
    }

    fn ring_doorbell(&self) {
        let cells: &[_] = (*self.cells).as_ref();
        cells[(self.tail / 4) as usize].store(self.next as u32, Ordering::Release);
    }

    /// Best and median nanoseconds a frame, posting `word(n)` for frame `n`.
    fn measure(
        &mut self,
        dma: &SimDma,
        wire: &mut impl Wire,
        word: fn(usize) -> u64,
    ) -> (f64, f64) {
        let mut times: Vec<f64> = (0..RUNS)
            .map(|_| {
                (0..FRAMES).for_each(|frame| self.post(word(frame)));
                self.ring_doorbell();
                let begin = Instant::now();
                let mut frames = 0;
                loop {
                    let access = dma.window().access();
                    match self.core.poll(&access, wire, 1) {
                        0 => break,
                        some => frames += some,
                    }
                }
                begin.elapsed().as_nanos() as f64 / frames.max(1) as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        (times[0], times[RUNS / 2])
    }
}

fn generator() -> Result<GenWire, Box<dyn Error>> {
    Ok(GenWire::new(&GenOptions {
        rate: Rate::Max,
        ..GenOptions::default()
    })?)
}

fn bare() -> Result<Bare, Box<dyn Error>> {
    let mut generator = generator()?;
    let frame = generator.peek(u64::MAX / 2).unwrap_or(&[]).to_vec();
    Ok(Bare {
        frame,
        link: LinkSwitch::new(),
        taken: 0,
    })
}

fn receive(dma: &SimDma, wire: &mut impl Wire) -> Result<(f64, f64), Box<dyn Error>> {
    let mut queue = Queue::new(dma, 0x1000)?;
    queue.core.write(0x5080, 0x700);
    let rdrxctl = queue.core.read(0x2F00);
    queue.core.write(0x2F00, rdrxctl | 2);
    queue.core.write(0x2100, 1 << 25 | 2);
    queue.core.write(0x1028, 1 << 25);
    queue.core.write(0x3000, 1);
    Ok(queue.measure(dma, wire, |_| 0))
}

fn transmit(dma: &SimDma, wire: &mut impl Wire) -> Result<(f64, f64), Box<dyn Error>> {
    let mut queue = Queue::new(dma, 0x6000)?;
    let dmatxctl = queue.core.read(0x4A80);
    queue.core.write(0x4A80, dmatxctl | 1);
    queue.core.write(0x6028, 1 << 25);
    Ok(queue.measure(dma, wire, |frame| {
        let report = if frame % 32 == 31 { 1 << 27 } else { 0 };
        60 | 3 << 20 | 1 << 24 | 1 << 25 | 1 << 29 | 60 << 46 | report
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dma = SimDma::with_room(1 << 30)?;
    println!("ns a frame of 64 bytes   best  median");
    for (name, (best, median)) in [
        ("receive, bare wire", receive(&dma, &mut bare()?)?),
        ("receive, generator", receive(&dma, &mut generator()?)?),
        ("transmit, bare wire", transmit(&dma, &mut bare()?)?),
        ("transmit, verified", transmit(&dma, &mut generator()?)?),
    ] {
        println!("{name:<22} {best:>6.2}  {median:>6.2}");
    }
    Ok(())
}
