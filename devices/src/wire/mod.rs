//! Wires: what is plugged into a software port.
//!
//! A wire is both ends of a cable as the port sees it: frames that arrive ([`Wire::peek`],
//! [`Wire::consume`]) and frames that leave ([`Wire::transmit`]). Frames carry no frame check
//! sequence: a MAC would have checked and stripped it. A wire knows nothing of registers or
//! descriptors, a device knows nothing of files or sockets.
//!
//! A device calls its wire once per frame, millions of times a second, so it is meant to be
//! compiled once per concrete wire: [`AnyWire::visit`] picks the type outside the hot loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

mod error;
mod generator;
mod interface;
mod null;
mod pace;
mod pcap;
mod peer;
mod sink;
mod stamp;
// UNSAFETY: network interfaces are set up by ioctls and socket options that take raw structures.
#[expect(unsafe_code)]
mod sys;
mod tap;
#[cfg(test)]
mod tests;
mod veth;

pub use error::WireError;
pub use generator::{GenOptions, GenWire};
pub use null::NullWire;
pub use pace::Rate;
pub use pcap::PcapWire;
pub use peer::{PeerWire, Peers, pair};
pub use tap::TapWire;
pub use veth::VethWire;

/// The longest frame any wire carries, in bytes without the frame check sequence. The 82599
/// receives frames of up to 9,728 bytes with it (MAXFRS, datasheet section 8.2.3.22.13).
pub const MAX_FRAME: usize = 9728;

/// The shortest frame on a cable, 60 bytes without frame check sequence, and room up to a cache line.
pub type ShortFrame = [u8; 64];
/// Bytes of a [`ShortFrame`] that are the frame.
pub const SHORT_FRAME: usize = 60;

/// What takes frames off a wire, one after another.
pub trait Intake {
    /// Takes `frame`; `false` leaves it on the wire.
    fn take(&mut self, frame: &[u8]) -> bool;

    /// Takes as many of `frames` as can be taken in one go, from the first on, and returns how many;
    /// the next may still be one to [`take`](Self::take).
    fn take_short(&mut self, frames: &[ShortFrame]) -> usize {
        let _ = frames;
        0
    }
}

/// A cable plugged into a software port.
pub trait Wire: Send {
    /// The next frame at the port that is due at `now_ns`, without frame check sequence. The same
    /// frame is returned until [`consume`](Self::consume) is called. `None`: nothing is due, or
    /// the link is down. `now_ns` is any monotonic clock in nanoseconds that never goes back.
    fn peek(&mut self, now_ns: u64) -> Option<&[u8]>;

    /// The device has taken the frame last peeked, or has lost it for want of a descriptor (see
    /// [`drops_when_full`](Self::drops_when_full)). Without a peeked frame nothing happens.
    fn consume(&mut self);

    /// Hands the frames that are due at `now_ns` to `intake`, at most `limit`, until it takes no
    /// more. Returns how many were taken; they are consumed. The same as peeking and consuming one
    /// after another, for wires that can do it faster.
    #[inline(always)]
    fn deliver<I: Intake>(&mut self, now_ns: u64, limit: usize, intake: &mut I) -> usize
    where
        Self: Sized,
    {
        let mut taken = 0;
        while taken < limit {
            match self.peek(now_ns) {
                Some(frame) if intake.take(frame) => self.consume(),
                _ => break,
            }
            taken += 1;
        }
        taken
    }

    /// A frame leaves the port, without frame check sequence. `false`: there is no room now, the
    /// device keeps the frame and tries again. A device calls this only while the link is up.
    fn transmit(&mut self, now_ns: u64, frame: &[u8]) -> bool;

    /// The same for several of the shortest frames, until there is no room. Returns how many left.
    #[inline(always)]
    fn transmit_short(&mut self, now_ns: u64, frames: &[ShortFrame]) -> usize {
        (frames.iter())
            .take_while(|frame| self.transmit(now_ns, &frame[..SHORT_FRAME]))
            .count()
    }

    /// Whether a frame that finds no receive descriptor is lost, as on a cable (`true`), or waits
    /// until there is one (`false`).
    fn drops_when_full(&self) -> bool;

    /// The port does not receive: where somebody at the other end sends of his own accord, frames that are due go by, at most `limit`, are gone, and count in
    /// [`passed_by`](WireReport::passed_by). Returns how many; none where frames are made for the driver, and wait for it.
    fn pass_by(&mut self, now_ns: u64, limit: usize) -> usize {
        let _ = (now_ns, limit);
        0
    }

    /// The switch that pulls the cable and plugs it in again.
    fn link(&self) -> &LinkSwitch;

    /// Whether the port sees a link.
    fn link_up(&self) -> bool {
        self.link().is_up()
    }

    /// What has passed, and what was wrong with it.
    fn report(&self) -> WireReport;

    /// Flushes what is still buffered; called once, after the last frame. What goes wrong is in
    /// the report's [`failure`](WireReport::failure) afterwards.
    fn finish(&mut self) {}
}

/// What has passed over a wire since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WireReport {
    /// Frames the device has consumed.
    pub to_device_frames: u64,
    /// Bytes in them, without frame check sequence.
    pub to_device_bytes: u64,
    /// Frames that came while the port did not receive, and are gone.
    pub passed_by: u64,
    /// Frames the device has transmitted and the wire has taken.
    pub from_device_frames: u64,
    /// Bytes in them, without frame check sequence.
    pub from_device_bytes: u64,
    /// What was wrong, by cause.
    pub errors: WireErrors,
    /// Whether frames ever come to the device over this wire.
    pub has_input: bool,
    /// Whether they come to an end by themselves: a capture, a generator of so many frames.
    pub ends: bool,
    /// No further frame will come to the device: the input has been consumed to its end, has
    /// failed, or never was one.
    pub finished: bool,
    /// The first failure of what is behind the wire (a full disk, a vanished interface).
    pub failure: Option<String>,
}

/// Frames that were not as they should be, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireErrors {
    /// Numbers missing from the sequence of a generated flow.
    pub gaps: u64,
    /// Frames that came after a later one of their flow (and fill a gap).
    pub reordered: u64,
    /// Frames that came twice.
    pub duplicates: u64,
    /// Frames so late that they can no longer be told from duplicates.
    pub late: u64,
    /// Generated frames with altered contents or a wrong length.
    pub corrupt: u64,
    /// Frames that no generator made. Not an error in itself: an application may send its own.
    pub foreign: u64,
    /// Frames longer than a port can carry (segmentation offload is on at the other end).
    pub oversize: u64,
    /// Frames the other end refused for good or lost.
    pub refused: u64,
}

impl WireErrors {
    /// All of them but [`foreign`](Self::foreign).
    pub fn total(&self) -> u64 {
        let sequence = self.gaps + self.reordered + self.duplicates + self.late;
        sequence + self.corrupt + self.oversize + self.refused
    }
}

/// Pulls a wire's cable and plugs it in again, from any thread. Clones are the same switch.
#[derive(Debug, Clone)]
pub struct LinkSwitch(Arc<AtomicBool>);

impl LinkSwitch {
    /// A switch with the link up.
    pub fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Plugs the cable in (`true`) or pulls it.
    pub fn set(&self, up: bool) {
        self.0.store(up, Ordering::Relaxed);
    }

    /// Whether the cable is plugged in.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for LinkSwitch {
    fn default() -> Self {
        Self::new()
    }
}

/// What to do with a wire once its concrete type is known: the body of a hot loop.
pub trait WireVisitor {
    /// What comes of it.
    type Output;
    /// Runs with the concrete wire.
    fn visit<W: Wire>(self, wire: &mut W) -> Self::Output;
}

macro_rules! any_wire {
    ($($(#[$doc:meta])* $variant:ident($wire:ty),)*) => {
        /// A wire of any kind.
        pub enum AnyWire {
            $($(#[$doc])* $variant($wire),)*
        }

        impl AnyWire {
            /// Runs `visitor` with the concrete wire: one instance of its code for each kind.
            pub fn visit<V: WireVisitor>(&mut self, visitor: V) -> V::Output {
                match self { $(Self::$variant(wire) => visitor.visit(wire),)* }
            }
        }

        impl Wire for AnyWire {
            fn peek(&mut self, now_ns: u64) -> Option<&[u8]> {
                match self { $(Self::$variant(wire) => wire.peek(now_ns),)* }
            }
            fn consume(&mut self) {
                match self { $(Self::$variant(wire) => wire.consume(),)* }
            }
            fn transmit(&mut self, now_ns: u64, frame: &[u8]) -> bool {
                match self { $(Self::$variant(wire) => wire.transmit(now_ns, frame),)* }
            }
            fn drops_when_full(&self) -> bool {
                match self { $(Self::$variant(wire) => wire.drops_when_full(),)* }
            }
            fn pass_by(&mut self, now_ns: u64, limit: usize) -> usize {
                match self { $(Self::$variant(wire) => wire.pass_by(now_ns, limit),)* }
            }
            fn link(&self) -> &LinkSwitch {
                match self { $(Self::$variant(wire) => wire.link(),)* }
            }
            fn report(&self) -> WireReport {
                match self { $(Self::$variant(wire) => wire.report(),)* }
            }
            fn finish(&mut self) {
                match self { $(Self::$variant(wire) => wire.finish(),)* }
            }
        }

        $(impl From<$wire> for AnyWire {
            fn from(wire: $wire) -> Self { Self::$variant(wire) }
        })*
    };
}

any_wire! {
    /// A generator that verifies what comes back.
    Gen(GenWire),
    /// Capture files.
    Pcap(PcapWire),
    /// A TAP interface.
    Tap(TapWire),
    /// A network interface of the host.
    Veth(VethWire),
    /// Another software port.
    Peer(PeerWire),
    /// A link with nobody at the other end.
    Null(NullWire),
}
