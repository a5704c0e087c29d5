//! `peer`: two ports back to back.
//!
//! Each direction is a pair of bounded queues: filled buffers one way, empty ones back, so that
//! nothing is allocated while frames flow. A sender that finds no empty buffer waits, as with flow control:
//! the port at the other end receives and lacks descriptors. If it does not receive, frames go by.

use std::collections::HashMap;

use rtrb::{Consumer, Producer, RingBuffer};

use super::{LinkSwitch, Wire, WireError, WireReport};

/// Frames under way in one direction.
const DEPTH: usize = 512;

/// One end of a cable between two software ports.
#[derive(Debug)]
pub struct PeerWire {
    link: LinkSwitch,
    filled_out: Producer<Vec<u8>>,
    empty_back: Consumer<Vec<u8>>,
    filled_in: Consumer<Vec<u8>>,
    empty_return: Producer<Vec<u8>>,
    report: WireReport,
}

/// A cable's two ends. Its link goes up and down for both at once.
pub fn pair() -> (PeerWire, PeerWire) {
    let link = LinkSwitch::new();
    let direction = || {
        let (filled, empty) = (RingBuffer::new(DEPTH), RingBuffer::new(DEPTH));
        let mut full = empty;
        while full.0.push(Vec::with_capacity(2048)).is_ok() {}
        (filled, full)
    };
    let ((a_filled, a_taken), (a_return, a_empty)) = direction();
    let ((b_filled, b_taken), (b_return, b_empty)) = direction();
    let end = |filled_out, empty_back, filled_in, empty_return| PeerWire {
        link: link.clone(),
        filled_out,
        empty_back,
        filled_in,
        empty_return,
        report: WireReport {
            has_input: true,
            ..WireReport::default()
        },
    };
    (
        end(a_filled, a_empty, b_taken, b_return),
        end(b_filled, b_empty, a_taken, a_return),
    )
}

impl Wire for PeerWire {
    #[inline]
    fn peek(&mut self, _now_ns: u64) -> Option<&[u8]> {
        if !self.link.is_up() {
            return None;
        }
        self.filled_in.peek().ok().map(Vec::as_slice)
    }

    #[inline]
    fn consume(&mut self) {
        if let Ok(frame) = self.filled_in.pop() {
            self.report.to_device_frames += 1;
            self.report.to_device_bytes += frame.len() as u64;
            // There are as many places as buffers.
            let _ = self.empty_return.push(frame);
        }
    }

    #[inline]
    fn transmit(&mut self, _now_ns: u64, frame: &[u8]) -> bool {
        if self.filled_out.is_abandoned() {
            self.report.errors.refused += 1;
            return true;
        }
        let Ok(mut buffer) = self.empty_back.pop() else {
            return false;
        };
        buffer.clear();
        buffer.extend_from_slice(frame);
        if self.filled_out.push(buffer).is_err() {
            return false;
        }
        self.report.from_device_frames += 1;
        self.report.from_device_bytes += frame.len() as u64;
        true
    }

    fn drops_when_full(&self) -> bool {
        false
    }

    fn pass_by(&mut self, now_ns: u64, limit: usize) -> usize {
        let mut passed = 0;
        while passed < limit && self.peek(now_ns).is_some() {
            let Ok(frame) = self.filled_in.pop() else {
                return passed;
            };
            // There are as many places as buffers.
            let _ = self.empty_return.push(frame);
            self.report.passed_by += 1;
            passed += 1;
        }
        passed
    }

    fn link(&self) -> &LinkSwitch {
        &self.link
    }

    fn link_up(&self) -> bool {
        self.link.is_up() && !self.filled_out.is_abandoned()
    }

    fn report(&self) -> WireReport {
        let finished = self.filled_in.is_abandoned() && self.filled_in.is_empty();
        WireReport {
            finished,
            ..self.report.clone()
        }
    }
}

/// Brings together the two ports that name the same peer.
#[derive(Debug, Default)]
pub struct Peers {
    /// The other end of each cable, until it is plugged in.
    ends: HashMap<String, Option<PeerWire>>,
}

impl Peers {
    /// No cable yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The end of the cable `name` for one more port.
    ///
    /// # Errors
    /// Two ports have it already.
    pub fn plug(&mut self, name: &str) -> Result<PeerWire, WireError> {
        match self.ends.get_mut(name) {
            None => {
                let (one, other) = pair();
                self.ends.insert(name.to_owned(), Some(other));
                Ok(one)
            }
            Some(end) => end
                .take()
                .ok_or_else(|| WireError::PeerTaken(name.to_owned())),
        }
    }

    /// A cable that only one port has.
    pub fn loose_end(&self) -> Option<&str> {
        let mut loose = self.ends.iter().filter(|(_, end)| end.is_some());
        loose.next().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cross_in_order_both_ways() {
        let (mut a, mut b) = pair();
        for number in 0..10_000u32 {
            assert!(a.transmit(0, &number.to_le_bytes()));
            assert!(b.transmit(0, &[number as u8; 9000]));
            assert_eq!(b.peek(0).unwrap(), number.to_le_bytes());
            assert_eq!(b.peek(0).unwrap(), number.to_le_bytes());
            b.consume();
            assert_eq!(a.peek(0).unwrap(), [number as u8; 9000]);
            a.consume();
        }
        assert!(a.peek(0).is_none());
        a.consume();
        assert_eq!(a.report().to_device_frames, 10_000);
        assert_eq!(b.report().to_device_bytes, 40_000);
    }

    #[test]
    fn a_full_cable_waits() {
        let (mut a, mut b) = pair();
        let mut sent = 0;
        while a.transmit(0, &[1; 60]) {
            sent += 1;
        }
        assert_eq!(sent, DEPTH);
        assert!(b.peek(0).is_some());
        b.consume();
        assert!(a.transmit(0, &[1; 60]));
        assert!(!a.transmit(0, &[1; 60]));
        assert_eq!(a.report().from_device_frames, DEPTH as u64 + 1);
    }

    #[test]
    fn what_nobody_receives_goes_by_and_is_counted() {
        let (mut a, mut b) = pair();
        let mut sent = 0;
        for _ in 0..3 {
            while a.transmit(0, &[1; 60]) {
                sent += 1;
            }
            while b.pass_by(0, 64) == 64 {}
        }
        assert_eq!(sent, 3 * DEPTH);
        let report = b.report();
        assert_eq!(
            (report.passed_by, report.to_device_frames),
            (sent as u64, 0)
        );
        assert!(b.peek(0).is_none());
    }

    #[test]
    fn threads_lose_nothing() {
        let (mut a, mut b) = pair();
        let frames = 50_000u64;
        let sender = std::thread::spawn(move || {
            for number in 0..frames {
                while !a.transmit(0, &number.to_le_bytes()) {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..frames {
            let frame = loop {
                match b.peek(0) {
                    Some(frame) => break frame,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(frame, number.to_le_bytes());
            b.consume();
        }
        sender.join().unwrap();
        // The other end is gone: the link is down and nothing more will come.
        assert!(!b.link_up() && b.report().finished);
        assert!(b.transmit(0, &[0; 60]));
        assert_eq!(b.report().errors.refused, 1);
    }

    #[test]
    fn peers_meet_by_name() {
        let mut peers = Peers::new();
        let mut one = peers.plug("x").unwrap();
        assert_eq!(peers.loose_end(), Some("x"));
        let mut two = peers.plug("x").unwrap();
        assert_eq!(peers.loose_end(), None);
        assert!(one.transmit(0, b"hello") && two.peek(0).is_some());
        assert!(matches!(peers.plug("x"), Err(WireError::PeerTaken(_))));
        two.link().set(false);
        assert!(!one.link_up() && two.peek(0).is_none());
    }
}
