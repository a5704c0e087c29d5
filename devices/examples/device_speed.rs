//! How long the software 82599 takes for a descriptor: `cargo run --release -p sumac-devices
//! --example device_speed`.
//!
//! A minimal driver fills the rings between the timed polls, on the same processor, so the figures
//! are the device's alone: with warm caches, without a second core. Prints the best and the median
//! of many short runs, since other work on the machine only ever adds time.
#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sumac_device::registers::{Readable, Writable};
use sumac_device::{Bar, DmaMemory, DmaSpace};
use sumac_devices::ixgbe::{Sim82599, Sim82599Config};
use sumac_devices::memory::SimDma;
use sumac_devices::wire::{GenOptions, GenWire, Rate};

const RING: usize = 512;
const BUFFER: usize = 2048;
const RUNS: usize = 4000;
/// Frames a run: part of a ring, so that the tail never meets the head.
const FRAMES: usize = 256;

/// A register by its offset.
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

struct Ring {
    descriptors: DmaMemory,
    buffers: DmaMemory,
    next: usize,
}

impl Ring {
    fn new(bar: &Bar, dma: &SimDma, base: u32) -> Result<Self, Box<dyn Error>> {
        let ring = Self {
            descriptors: dma.allocate(RING * 16, 128)?,
            buffers: dma.allocate(RING * BUFFER, 4096)?,
            next: 0,
        };
        let address = ring.descriptors.iova().to_bits();
        bar.write(At(base), address as u32);
        bar.write(At(base + 4), (address >> 32) as u32);
        bar.write(At(base + 8), (RING * 16) as u32);
        Ok(ring)
    }

    /// Fills the next descriptor.
    fn post(&mut self, word: u64) {
        let address = self.buffers.iova_at(self.next * BUFFER);
        let cells = &self.descriptors.cells()[2 * self.next..2 * self.next + 2];
        cells[0].store(address.map_or(0, |iova| iova.to_bits()), Ordering::Relaxed);
        cells[1].store(word, Ordering::Relaxed);
        self.next = (self.next + 1) % RING;
    }
}

/// Best and median nanoseconds a frame of `run`, which reports how many it handled.
fn measure(mut prepare: impl FnMut(), mut run: impl FnMut() -> usize) -> (f64, f64) {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            prepare();
            let begin = Instant::now();
            let frames = run();
            begin.elapsed().as_nanos() as f64 / frames.max(1) as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[RUNS / 2])
}

fn device(dma: &SimDma) -> Result<Sim82599, Box<dyn Error>> {
    let wire = GenWire::new(&GenOptions {
        rate: Rate::Max,
        ..GenOptions::default()
    })?;
    Ok(Sim82599::new(Sim82599Config::new("sim0", wire), dma))
}

fn drain(device: &Sim82599) -> usize {
    let mut frames = 0;
    loop {
        match device.poll(1) {
            0 => return frames,
            some => frames += some,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dma = SimDma::new()?;
    let receiver = device(&dma)?;
    let bar = receiver.backing().bar;
    bar.write(At(0x5080), 0x700);
    bar.write(At(0x2F00), bar.read(At(0x2F00)) | 2);
    let mut ring = Ring::new(&bar, &dma, 0x1000)?;
    bar.write(At(0x2100), 1 << 25 | 2);
    bar.write(At(0x1028), 1 << 25);
    bar.write(At(0x3000), 1);
    let tail = bar.doorbell(At(0x1018));
    let post = || {
        (0..FRAMES).for_each(|_| ring.post(0));
        tail.ring(ring.next as u32);
    };
    let receive = measure(post, || drain(&receiver));

    let sender = device(&dma)?;
    let bar = sender.backing().bar;
    let mut ring = Ring::new(&bar, &dma, 0x6000)?;
    bar.write(At(0x4A80), bar.read(At(0x4A80)) | 1);
    bar.write(At(0x6028), 1 << 25);
    let tail = bar.doorbell(At(0x6018));
    let post = || {
        for frame in 0..FRAMES {
            let report = if frame % 32 == 31 { 1 << 27 } else { 0 };
            ring.post(60 | 3 << 20 | 1 << 24 | 1 << 25 | 1 << 29 | 60 << 46 | report);
        }
        tail.ring(ring.next as u32);
    };
    let transmit = measure(post, || drain(&sender));
    println!("ns a frame of 64 bytes   best  median");
    println!(
        "receive                {:>6.2}  {:>6.2}",
        receive.0, receive.1
    );
    println!(
        "transmit               {:>6.2}  {:>6.2}",
        transmit.0, transmit.1
    );
    for device in [&receiver, &sender] {
        println!("{}: {}", device.name(), device.violations());
    }
    println!("{:?}", dma.facts());
    Ok(())
}
