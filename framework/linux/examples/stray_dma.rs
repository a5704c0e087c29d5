//! A driver of an 82574 (QEMU's `e1000e`) that is good or bad on purpose: `stray_dma ADDRESS good FRAMES` sends frames
//! to itself through the card's loopback and compares them, so many or until there is a file of that name; `stray_dma
//! ADDRESS bad` has the card read a frame from, and put one, where the process has no memory on the bus, resets it each
//! time, and shows that it is good as before. What the IOMMU says of it is the kernel's to print.
//!
//! Registers and descriptors by the 82574 datasheet, sections 10 and 7; no interrupts, one ring each way.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sumac_device::{Clock, DmaMemory};
use sumac_linux::open::open;
use sumac_linux::{LinuxClock, OpenPort};
use sumac_testbed::Register;

type Failed = Box<dyn Error>;

const RCTL: Register = Register(0x0100);
const TCTL: Register = Register(0x0400);
/// A ring's registers, from the low half of its base on: RDBAL and TDBAL.
const RECEIVE: u32 = 0x2800;
const TRANSMIT: u32 = 0x3800;
const LENGTH: u32 = 0x08;
const HEAD: u32 = 0x10;
const TAIL: u32 = 0x18;

/// RCTL: enable, promiscuous for unicast and multicast, loopback within the MAC, broadcasts.
const RECEIVER: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 15;
/// TCTL: enable, pad short frames.
const TRANSMITTER: u32 = 1 << 1 | 1 << 3;
/// Commands of a legacy transmit descriptor: end of packet, insert check sequence, report status.
const SEND: u64 = (1 | 1 << 1 | 1 << 3) << 24;
/// Descriptor done, in both directions.
const DONE: u64 = 1 << 32;

const DESCRIPTORS: usize = 8;
const FRAME: usize = 256;
/// The guest's kernel is about here: what would be read and overwritten without an IOMMU.
const STRAY: u64 = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stray_dma: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (address, good) = match words.as_slice() {
        [address, "good", until] => (address, Some(*until)),
        [address, "bad"] => (address, None),
        _ => return Err("stray_dma ADDRESS good FRAMES, or stray_dma ADDRESS bad".into()),
    };
    let opened = open(&[address.parse()?], None)?;
    let port = opened.ports.first().ok_or("no device")?;
    let mut card = Card::start(port)?;
    if let Some(until) = good {
        let enough = |number| match until.parse::<u64>() {
            Ok(frames) => number == frames,
            Err(_) => Path::new(until).exists(),
        };
        let mut number = 0;
        while !enough(number) {
            card.round_trip(number)?;
            number += 1;
            if number == 1 {
                println!("{address}: at work");
            }
        }
        println!("{address}: {number} frames came back");
        return Ok(());
    }
    card.round_trip(1)?;
    card.post(card.buffer(0)?)?;
    card.send(STRAY)?;
    println!("{address}: told to read a frame at {STRAY:#x}");
    card = card.again()?;
    card.round_trip(2)?;
    card.post(STRAY)?;
    card.send(card.frame.iova().to_bits())?;
    println!("{address}: told to put a frame at {STRAY:#x}");
    card = card.again()?;
    card.round_trip(3)?;
    println!("{address}: good again");
    Ok(())
}

/// A card with its rings; what goes out is in `frame`, what comes in behind it.
struct Card<'a> {
    port: &'a OpenPort,
    receive: DmaMemory,
    transmit: DmaMemory,
    frame: DmaMemory,
    /// The next descriptor of both rings.
    next: usize,
}

impl<'a> Card<'a> {
    /// Starts a card that was reset.
    fn start(port: &'a OpenPort) -> Result<Self, Failed> {
        let memory = || port.backing.dma.allocate(4096, 4096);
        let card = Self {
            port,
            receive: memory()?,
            transmit: memory()?,
            frame: memory()?,
            next: 0,
        };
        let bar = &port.backing.bar;
        for (base, ring) in [(RECEIVE, &card.receive), (TRANSMIT, &card.transmit)] {
            bar.write_address(Register(base), ring.iova());
            bar.write(Register(base + LENGTH), DESCRIPTORS as u32 * 16);
            bar.write(Register(base + HEAD), 0);
            bar.write(Register(base + TAIL), 0);
        }
        bar.write(RCTL, RECEIVER);
        bar.write(TCTL, TRANSMITTER);
        Ok(card)
    }

    /// The card after a reset, as good as new.
    fn again(self) -> Result<Self, Failed> {
        let port = self.port;
        if !port.control.stop() {
            return Err("it does not stop".into());
        }
        drop(self);
        port.control.start();
        Self::start(port)
    }

    /// Sends a frame and compares what comes back.
    fn round_trip(&mut self, number: u64) -> Result<(), Failed> {
        let (sent, received) = self.frame.cells().split_at(FRAME / 8);
        for (at, cell) in sent.iter().enumerate() {
            let word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ at as u64;
            // To everybody, from a local address.
            let word = if at == 0 { 0x0002_FFFF_FFFF_FFFF } else { word };
            cell.store(word, Ordering::Relaxed);
        }
        (received.iter()).for_each(|cell| cell.store(0, Ordering::Relaxed));
        let slot = self.next;
        self.post(self.buffer(0)?)?;
        self.send(self.frame.iova().to_bits())?;
        self.wait(&self.receive, slot, "no frame came back")?;
        let (sent, received) = self.frame.cells().split_at(FRAME / 8);
        let differs = (sent.iter().zip(received))
            .any(|(sent, got)| sent.load(Ordering::Acquire) != got.load(Ordering::Acquire));
        match differs {
            true => Err(format!("frame {number} came back altered").into()),
            false => Ok(()),
        }
    }

    /// The bus address of byte `at` of the receive buffer.
    fn buffer(&self, at: usize) -> Result<u64, Failed> {
        let address = self.frame.iova_at(FRAME + at).ok_or("beyond the buffer")?;
        Ok(address.to_bits())
    }

    /// Posts a receive buffer, wherever that is.
    fn post(&self, buffer: u64) -> Result<(), Failed> {
        put(&self.receive, self.next, [buffer, 0])?;
        let tail = (self.next + 1) % DESCRIPTORS;
        (self.port.backing.bar).write(Register(RECEIVE + TAIL), tail as u32);
        Ok(())
    }

    /// Sends the frame at a bus address, wherever that is, and waits until the card is done with it.
    fn send(&mut self, frame: u64) -> Result<(), Failed> {
        let slot = self.next;
        put(&self.transmit, slot, [frame, FRAME as u64 | SEND])?;
        self.next = (slot + 1) % DESCRIPTORS;
        (self.port.backing.bar).write(Register(TRANSMIT + TAIL), self.next as u32);
        self.wait(&self.transmit, slot, "the card does not send")
    }

    /// Waits until descriptor `slot` of a ring is done.
    fn wait(&self, ring: &DmaMemory, slot: usize, otherwise: &str) -> Result<(), Failed> {
        let cell = ring.cell(2 * slot + 1).ok_or("no such descriptor")?;
        let done = || cell.load(Ordering::Acquire) & DONE != 0;
        let clock: &dyn Clock = &LinuxClock;
        (clock.wait_until(20_000, PATIENCE.as_nanos() as u64, done))
            .map_err(|_| format!("{}: {otherwise}", self.port.backing.name).into())
    }
}

/// Writes a descriptor.
fn put(ring: &DmaMemory, slot: usize, words: [u64; 2]) -> Result<(), Failed> {
    for (at, word) in words.into_iter().enumerate() {
        let cell = ring.cell(2 * slot + at).ok_or("no such descriptor")?;
        cell.store(word, Ordering::Release);
    }
    Ok(())
}
