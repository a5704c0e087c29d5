//! The MAC's loopback (HLREG0.LPBK, section 8.2.3.22.8): what is sent is received.
//!
//! Invariant: it holds a bounded number of frames; a frame that finds no room is sent later.

use std::collections::VecDeque;

use crate::wire::{LinkSwitch, Wire, WireReport};

/// Frames on their way.
const FRAMES: usize = 256;

/// A wire from the port to itself.
#[derive(Default)]
pub(super) struct Loopback {
    frames: VecDeque<Vec<u8>>,
    link: LinkSwitch,
}

impl Loopback {
    /// Nothing is on its way.
    pub fn clear(&mut self) {
        self.frames.clear();
    }
}

impl Wire for Loopback {
    fn peek(&mut self, _now_ns: u64) -> Option<&[u8]> {
        self.frames.front().map(Vec::as_slice)
    }

    fn consume(&mut self) {
        self.frames.pop_front();
    }

    fn transmit(&mut self, _now_ns: u64, frame: &[u8]) -> bool {
        let room = self.frames.len() < FRAMES;
        if room {
            self.frames.push_back(frame.to_vec());
        }
        room
    }

    fn drops_when_full(&self) -> bool {
        true
    }

    fn link(&self) -> &LinkSwitch {
        &self.link
    }

    fn report(&self) -> WireReport {
        WireReport::default()
    }
}
