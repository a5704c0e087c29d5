//! How long the software 82599 takes for a descriptor: `cargo run --release -p sumac-devices
//! --example device_speed [PART OF A NAME]`.
//!
//! A minimal driver fills the rings between the timed polls, on the same processor, so the figures
//! are the device's alone: with warm caches, without a second core. Prints the best and the median
//! of many short runs, since other work on the machine only ever adds time.
//!
//! Then two cores: the device on one, a loop that forwards and recycles descriptors and looks at
//! no payload on the other. The median of many windows says how many frames a second pass when the
//! driver costs next to nothing: the most that any driver can show on this device.
#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use sumac_device::{DmaMemory, DmaSpace};
use sumac_devices::ixgbe::registers::BAR_BYTES;
use sumac_devices::ixgbe::{Access32, Core, Identity};
use sumac_devices::memory::{BarCells, SimDma};
use sumac_devices::wire::{
    GenOptions, GenWire, Intake, LinkSwitch, Rate, SHORT_FRAME, ShortFrame, Wire, WireReport,
};

const RING: usize = 512;
/// Distance of the buffers: like a packet pool's, not a power of two.
const BUFFER: usize = 2048 + 192;
const RUNS: usize = 20_000;
/// Frames a run: part of a ring, so that the tail never meets the head.
const FRAMES: usize = 256;
/// Measured windows with two cores, short enough for most to pass undisturbed.
const WINDOW: Duration = Duration::from_millis(1);
const WINDOWS: usize = 1000;

/// The same frame for ever, and a sink that looks at nothing: what a device costs without a wire.
struct Bare {
    frames: [ShortFrame; 32],
    link: LinkSwitch,
    taken: u64,
}

impl Wire for Bare {
    #[inline]
    fn peek(&mut self, _now_ns: u64) -> Option<&[u8]> {
        Some(&self.frames[0][..SHORT_FRAME])
    }
    #[inline]
    fn consume(&mut self) {
        self.taken += 1;
    }
    #[inline(always)]
    fn deliver<I: Intake>(&mut self, _now_ns: u64, limit: usize, intake: &mut I) -> usize {
        let mut taken = 0;
        while taken < limit {
            let frames = &self.frames[..self.frames.len().min(limit - taken)];
            match intake.take_short(frames) {
                0 if intake.take(&self.frames[0][..SHORT_FRAME]) => taken += 1,
                0 => break,
                some => taken += some,
            }
        }
        taken
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

/// A ring and its buffers.
struct Ring {
    tail: u32,
    descriptors: DmaMemory,
    buffers: DmaMemory,
    next: usize,
}

impl Ring {
    /// A ring whose registers begin at `base`.
    fn new(core: &mut Core, dma: &SimDma, base: u32) -> Result<Self, Box<dyn Error>> {
        let descriptors = dma.allocate(RING * 16, 128)?;
        let address = descriptors.iova().to_bits();
        core.write(base, address as u32);
        core.write(base + 4, (address >> 32) as u32);
        core.write(base + 8, (RING * 16) as u32);
        Ok(Self {
            tail: base + 0x18,
            descriptors,
            buffers: dma.allocate(RING * BUFFER, 4096)?,
            next: 0,
        })
    }

    fn words(&self, index: usize) -> &[AtomicU64] {
        &self.descriptors.cells()[2 * index..2 * index + 2]
    }

    fn address(&self, index: usize) -> u64 {
        let address = self.buffers.iova_at(index * BUFFER);
        address.map_or(0, |iova| iova.to_bits())
    }
}

fn new_core() -> (Core, Arc<BarCells>) {
    let cells = Arc::new(BarCells::new(BAR_BYTES));
    let shared = Arc::clone(&cells) as _;
    let identity = Identity::default();
    let core = Core::new(shared, Access32::Trapped, identity, Vec::new(), false);
    (core, cells)
}

fn enable_receive(core: &mut Core) {
    core.write(0x5080, 0x700);
    let rdrxctl = core.read(0x2F00);
    core.write(0x2F00, rdrxctl | 2);
    core.write(0x2100, 1 << 25 | 2);
    core.write(0x1028, 1 << 25);
    core.write(0x3000, 1);
}

fn enable_transmit(core: &mut Core) {
    let dmatxctl = core.read(0x4A80);
    core.write(0x4A80, dmatxctl | 1);
    core.write(0x6028, 1 << 25);
}

/// The second word of a transmit descriptor for a frame of 60 bytes.
fn to_send(frame: usize) -> u64 {
    let report = if frame % 32 == 31 { 1 << 27 } else { 0 };
    60 | 3 << 20 | 1 << 24 | 1 << 25 | 1 << 29 | 60 << 46 | report
}

/// A queue of the device under test.
struct Queue {
    core: Core,
    cells: Arc<BarCells>,
    ring: Ring,
}

impl Queue {
    /// Fills the next descriptor, and its buffer with `frame`.
    fn post(&mut self, word: u64, frame: Option<&[u8]>) {
        let next = self.ring.next;
        let words = self.ring.words(next);
        words[0].store(self.ring.address(next), Ordering::Relaxed);
        words[1].store(word, Ordering::Relaxed);
        if let Some(frame) = frame {
            let cells = &self.ring.buffers.cells()[next * BUFFER / 8..];
            for (cell, bytes) in cells.iter().zip(frame.chunks(8)) {
                let mut word = [0; 8];
                word[..bytes.len()].copy_from_slice(bytes);
                cell.store(u64::from_le_bytes(word), Ordering::Relaxed);
            }
        }
        self.ring.next = (next + 1) % RING;
    }

    fn ring_doorbell(&self) {
        let cells: &[_] = (*self.cells).as_ref();
        cells[(self.ring.tail / 4) as usize].store(self.ring.next as u32, Ordering::Release);
    }

    /// Best and median nanoseconds a frame, posting `word(n)` for frame `n`.
    fn measure(
        &mut self,
        dma: &SimDma,
        wire: &mut impl Wire,
        mut source: Option<&mut GenWire>,
        word: fn(usize) -> u64,
    ) -> (f64, f64) {
        let mut times: Vec<f64> = (0..RUNS)
            .map(|_| {
                for frame in 0..FRAMES {
                    let payload = source.as_mut().and_then(|source| source.peek(1));
                    self.post(word(frame), payload);
                    if let Some(source) = &mut source {
                        source.consume();
                    }
                }
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
    let frame = generator.peek(u64::MAX / 2).ok_or("no frame")?;
    let mut padded = [0; 64];
    padded[..SHORT_FRAME].copy_from_slice(frame);
    Ok(Bare {
        frames: [padded; 32],
        link: LinkSwitch::new(),
        taken: 0,
    })
}

fn receive(dma: &SimDma, wire: &mut impl Wire) -> Result<(f64, f64), Box<dyn Error>> {
    let (mut core, cells) = new_core();
    let ring = Ring::new(&mut core, dma, 0x1000)?;
    enable_receive(&mut core);
    Ok(Queue { core, cells, ring }.measure(dma, wire, None, |_| 0))
}

fn transmit(dma: &SimDma, wire: &mut impl Wire) -> Result<(f64, f64), Box<dyn Error>> {
    let (mut core, cells) = new_core();
    let ring = Ring::new(&mut core, dma, 0x6000)?;
    enable_transmit(&mut core);
    let mut source = generator()?;
    Ok(Queue { core, cells, ring }.measure(dma, wire, Some(&mut source), to_send))
}

/// Runs on processor `core` if the system lets it.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    if set.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// The least a driver can do: what is received is sent, and what was sent is posted again.
struct Forwarder<'a> {
    receive: &'a Ring,
    transmit: &'a Ring,
    /// The buffer in each descriptor.
    posted: Vec<u64>,
    sent: Vec<u64>,
    head: usize,
    tail: usize,
    /// Descriptors up to here are known to be sent, and may be used again.
    free: usize,
}

const BURST: usize = 32;

impl Forwarder<'_> {
    fn next(index: usize) -> usize {
        (index + 1) % RING
    }

    /// Forwards up to a burst; returns how many frames.
    fn turn(&mut self, cells: &[AtomicU32]) -> usize {
        let mut frames = 0;
        while frames < BURST && self.receive.words(self.head)[1].load(Ordering::Acquire) & 1 != 0 {
            if Self::next(self.tail) == self.free && !self.reap() {
                break;
            }
            let old = std::mem::replace(&mut self.sent[self.tail], self.posted[self.head]);
            let words = self.transmit.words(self.tail);
            words[0].store(self.posted[self.head], Ordering::Relaxed);
            words[1].store(to_send(self.tail), Ordering::Relaxed);
            self.posted[self.head] = old;
            let words = self.receive.words(self.head);
            words[0].store(old, Ordering::Relaxed);
            words[1].store(0, Ordering::Relaxed);
            self.head = Self::next(self.head);
            self.tail = Self::next(self.tail);
            frames += 1;
        }
        if frames > 0 {
            // One descriptor stays empty: a full ring would look like an empty one.
            let last = (self.head + RING - 1) % RING;
            cells[(self.receive.tail / 4) as usize].store(last as u32, Ordering::Release);
            cells[(self.transmit.tail / 4) as usize].store(self.tail as u32, Ordering::Release);
        }
        frames
    }

    /// Looks whether the next 32 descriptors are sent.
    fn reap(&mut self) -> bool {
        let last = self.free / BURST * BURST + BURST - 1;
        let done = self.transmit.words(last)[1].load(Ordering::Acquire) >> 32 & 1 != 0;
        if done {
            self.free = Self::next(last);
        }
        done
    }
}

/// What came of forwarding.
struct Forwarded {
    /// Millions of frames a second.
    median: f64,
    best: f64,
    /// Windows that count.
    kept: usize,
    /// Share of the driver's looks that found nothing.
    empty: f64,
}

/// What all threads of this process had of the processors.
fn processor_time() -> nix::Result<Duration> {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from)
}

/// Forwards on two cores.
fn forward(dma: &SimDma, wire: &mut impl Wire) -> Result<Forwarded, Box<dyn Error>> {
    let (mut core, cells) = new_core();
    let receive = Ring::new(&mut core, dma, 0x1000)?;
    let transmit = Ring::new(&mut core, dma, 0x6000)?;
    enable_receive(&mut core);
    enable_transmit(&mut core);
    let mut forwarder = Forwarder {
        posted: (0..RING).map(|index| receive.address(index)).collect(),
        sent: (0..RING).map(|index| transmit.address(index)).collect(),
        receive: &receive,
        transmit: &transmit,
        head: 0,
        tail: 0,
        free: 0,
    };
    for index in 0..RING {
        receive.words(index)[0].store(receive.address(index), Ordering::Relaxed);
    }
    let cells: &[AtomicU32] = (*cells).as_ref();
    cells[(receive.tail / 4) as usize].store(RING as u32 - 1, Ordering::Release);
    let stop = AtomicBool::new(false);
    let (mut rates, mut turns, mut empty) = (Vec::new(), 0_u64, 0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            while !stop.load(Ordering::Relaxed) {
                let access = dma.window().access();
                core.poll(&access, wire, 1);
            }
        });
        pin(1);
        for _ in 0..WINDOWS {
            let (used, begin, mut frames) = (processor_time()?, Instant::now(), 0);
            let (mut looks, mut nothing) = (0, 0);
            while begin.elapsed() < WINDOW {
                for _ in 0..16 {
                    let some = forwarder.turn(cells);
                    frames += some;
                    looks += 1;
                    nothing += u64::from(some == 0);
                }
            }
            let elapsed = begin.elapsed();
            // Windows in which either thread had to stand back say nothing.
            if processor_time()? - used >= elapsed * 39 / 20 {
                rates.push(frames as f64 / elapsed.as_nanos() as f64 * 1e3);
                turns += looks;
                empty += nothing;
            }
        }
        stop.store(true, Ordering::Relaxed);
        Ok::<_, nix::errno::Errno>(())
    })?;
    rates.sort_by(f64::total_cmp);
    let kept = rates.len();
    Ok(Forwarded {
        median: rates.get(kept / 2).copied().unwrap_or(f64::NAN),
        best: rates.last().copied().unwrap_or(f64::NAN),
        kept,
        empty: empty as f64 / turns.max(1) as f64,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let dma = SimDma::with_room(1 << 30)?;
    let mut bare = bare()?;
    println!("ns a frame of 64 bytes   best  median");
    for name in [
        "receive, bare wire",
        "receive, generator",
        "transmit, bare wire",
        "transmit, verified",
    ] {
        if !name.contains(&wanted) {
            continue;
        }
        let mut generator = generator()?;
        let (best, median) = match name {
            "receive, bare wire" => receive(&dma, &mut bare)?,
            "receive, generator" => receive(&dma, &mut generator)?,
            "transmit, bare wire" => transmit(&dma, &mut bare)?,
            _ => transmit(&dma, &mut generator)?,
        };
        println!("{name:<22} {best:>6.2}  {median:>6.2}");
        let errors = generator.report().errors;
        if errors.total() + errors.foreign != 0 {
            return Err(format!("{name}: {errors:?}").into());
        }
    }
    println!("Mpps on two cores      median    best   empty  windows");
    for name in ["forward, bare wire", "forward, verified"] {
        if !name.contains(&wanted) {
            continue;
        }
        let mut generator = generator()?;
        let Forwarded {
            median,
            best,
            kept,
            empty,
        } = match name {
            "forward, bare wire" => forward(&dma, &mut bare)?,
            _ => forward(&dma, &mut generator)?,
        };
        let empty = empty * 100.0;
        println!("{name:<22} {median:>6.1}  {best:>6.1}  {empty:>5.1} %  {kept:>7}");
        let errors = generator.report().errors;
        if errors.total() + errors.foreign != 0 {
            return Err(format!("{name}: {errors:?}").into());
        }
    }
    Ok(())
}
