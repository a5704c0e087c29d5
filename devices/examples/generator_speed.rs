//! How long the generator and its sink take for a frame, beside a device that does nothing but copy
//! the frame into a buffer, and how long that device's offloads would take: `cargo run --release -p sumac-devices --example generator_speed`.
//!
//! Prints the best and the median of many short runs, since other work on the machine only ever
//! adds time.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Instant;

use sumac_devices::frame::{Layout, ReceiveChecksums, RssFields, Toeplitz};
use sumac_devices::wire::{GenOptions, GenWire, Rate, Wire, WireError};

const FRAMES: usize = 1024;
const RUNS: usize = 2000;
/// Distance of the buffers, as in a packet pool.
const STRIDE: usize = 2048;

/// Best and median nanoseconds a frame.
fn measure(mut run: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let begin = Instant::now();
            run();
            begin.elapsed().as_nanos() as f64 / FRAMES as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[RUNS / 2])
}

fn receive(wire: &mut GenWire, buffers: &mut [u8]) {
    for buffer in buffers.chunks_exact_mut(STRIDE) {
        if let Some(frame) = wire.peek(u64::MAX / 2) {
            buffer[..frame.len()].copy_from_slice(frame);
            wire.consume();
        }
    }
}

fn main() -> Result<(), WireError> {
    println!(
        "ns a frame, best / median         peek+copy      peek only      transmit       idle peek"
    );
    for (size, flows) in [(64, 1), (64, 64), (64, 4096), (512, 64), (1518, 64)] {
        let options = GenOptions {
            size,
            flows,
            rate: Rate::Max,
            ..GenOptions::default()
        };
        let mut wire = GenWire::new(&options)?;
        let mut paced = GenWire::new(&GenOptions {
            rate: Rate::Line,
            ..options.clone()
        })?;
        let mut buffers = vec![0; FRAMES * STRIDE];
        let copied = measure(|| receive(&mut wire, &mut buffers));
        let mut other = GenWire::new(&options)?;
        let peeked = measure(|| {
            for _ in 0..FRAMES {
                black_box(other.peek(black_box(1)));
                other.consume();
            }
        });
        // The sink gets the frames of the last receive run over and over, with fresh numbers.
        let mut sink = GenWire::new(&options)?;
        let mut times = Vec::new();
        let mut source = GenWire::new(&options)?;
        for _ in 0..RUNS {
            receive(&mut source, &mut buffers);
            let begin = Instant::now();
            for buffer in buffers.chunks_exact(STRIDE) {
                sink.transmit(0, &buffer[..size - 4]);
            }
            times.push(begin.elapsed().as_nanos() as f64 / FRAMES as f64);
        }
        times.sort_by(f64::total_cmp);
        let idle = measure(|| {
            for _ in 0..FRAMES {
                black_box(paced.peek(black_box(0)));
            }
        });
        let show = |(best, median): (f64, f64)| format!("{best:6.2}/{median:6.2}");
        println!(
            "{size:5} bytes, {flows:5} flows:        {}  {}  {}  {}",
            show(copied),
            show(peeked),
            show((times[0], times[RUNS / 2])),
            show(idle),
        );
        assert_eq!(sink.report().errors.total(), 0, "the sink found errors");
        assert_eq!(
            sink.report().errors.foreign,
            0,
            "the sink found foreign frames"
        );
    }
    offloads()
}

/// Layout, checksum verification and hash of 64-byte frames.
fn offloads() -> Result<(), WireError> {
    let options = GenOptions {
        rate: Rate::Max,
        ..GenOptions::default()
    };
    let mut buffers = vec![0; FRAMES * STRIDE];
    receive(&mut GenWire::new(&options)?, &mut buffers);
    let frames = || buffers.chunks_exact(STRIDE).map(|buffer| &buffer[..60]);
    let toeplitz = Toeplitz::new(&[0x6D; 40]);
    let fields = RssFields::from_mrqc(!0);
    let (layout, _) = measure(|| frames().for_each(|frame| _ = black_box(Layout::of(frame))));
    let (checksums, _) = measure(|| {
        frames().for_each(|frame| {
            black_box(ReceiveChecksums::verify(frame, &Layout::of(frame)));
        });
    });
    let (hash, _) = measure(|| {
        frames().for_each(|frame| {
            black_box(toeplitz.hash_frame(frame, &Layout::of(frame), fields));
        });
    });
    println!("layout {layout:.2} ns, with checksums {checksums:.2} ns, with hash {hash:.2} ns");
    Ok(())
}
