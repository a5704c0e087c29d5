//! `gen`: the built-in generator, and a sink that verifies what comes back.
//!
//! Frames are stamped a burst ahead into their places in a small ring of templates. A port copies a
//! frame with wide loads; were it stamped just before, those would wait for the stamp's narrow
//! stores to leave the store buffer. Ahead of time costs nothing: a stamped frame is not sent
//! before it is due.

use super::pace::Pace;
use super::sink::Sink;
use super::stamp::{Flow, HEAD, Head, Pattern, Place, fill_udp_checksum};
use super::{
    Intake, LinkSwitch, MAX_FRAME, Rate, SHORT_FRAME, ShortFrame, Wire, WireError, WireReport,
};

/// Bytes of frame check sequence, part of a frame's size as the field gives it.
const FCS: usize = 4;
/// Bytes of templates, so that they stay in the first-level cache with whatever else is there.
const RING_BYTES: usize = 8192;
/// Frames stamped at a time.
const BURST: usize = 32;
/// Bytes from one short template to the next.
const SHORT: usize = 64;

/// What a generator makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenOptions {
    /// Bytes of a frame with frame check sequence, 64 to 9,728.
    pub size: usize,
    /// How fast.
    pub rate: Rate,
    /// Flows, 1 to 65,536: each has addresses and a source port of its own.
    pub flows: u32,
    /// How many frames in all; `None` is no end.
    pub frames: Option<u64>,
    /// Which generator this is: each in a process has a number of its own.
    pub generator: u16,
    /// Source address of the frames.
    pub source: [u8; 6],
    /// Destination address: the port's own, unless it is to be promiscuous.
    pub destination: [u8; 6],
    /// Whether to fill in the UDP checksum, which IPv4 lets a sender leave out.
    pub udp_checksum: bool,
}

impl Default for GenOptions {
    fn default() -> Self {
        Self {
            size: 64,
            rate: Rate::Line,
            flows: 64,
            frames: None,
            generator: 0,
            source: [0x02, 0, 0, 0, 0, 0xFE],
            destination: [0xFF; 6],
            udp_checksum: false,
        }
    }
}

/// A generator at the other end of the cable, which also verifies what it gets.
#[derive(Debug)]
pub struct GenWire {
    link: LinkSwitch,
    pace: Pace,
    /// Bytes of a frame without frame check sequence.
    length: usize,
    /// Bytes from one template to the next.
    stride: usize,
    ring: Box<[u8]>,
    /// The next frame in `ring`, and the end of those that are stamped.
    ready: usize,
    stamped: usize,
    flows: Box<[Flow]>,
    next_flow: usize,
    pattern: Pattern,
    udp_checksum: bool,
    /// What there is of each template if frames are 60 bytes without UDP checksum and flows are so
    /// few that each has templates of its own; else empty.
    places: Box<[Place]>,
    /// How many templates each flow has then.
    rounds: usize,
    drops: bool,
    /// Frames still to stamp.
    remaining: u64,
    endless: bool,
    /// Frames stamped so far.
    issued: u64,
    received: u64,
    received_bytes: u64,
    sink: Sink,
}

impl GenWire {
    /// Makes a generator.
    ///
    /// # Errors
    /// The size or the number of flows is out of range.
    pub fn new(options: &GenOptions) -> Result<Self, WireError> {
        let value = |key, value: String, expected| {
            Err(WireError::Value {
                key,
                value,
                expected,
            })
        };
        if !(HEAD + FCS..=MAX_FRAME).contains(&options.size) {
            return value("size", options.size.to_string(), "takes 64 to 9728 bytes");
        }
        if !(1..=65_536).contains(&options.flows) {
            return value("flows", options.flows.to_string(), "takes 1 to 65536");
        }
        let length = options.size - FCS;
        let stride = length.next_multiple_of(64);
        let mut head: Head = [0; HEAD];
        head[..6].copy_from_slice(&options.destination);
        head[6..12].copy_from_slice(&options.source);
        let flow = |flow| Flow::new(options.generator, flow as u16, length, &mut head);
        let flows: Box<[Flow]> = (0..options.flows).map(flow).collect();
        let plain = length == HEAD && !options.udp_checksum;
        let own = plain && flows.len() * SHORT <= RING_BYTES;
        let rounds = if own { BURST.div_ceil(flows.len()) } else { 0 };
        let templates = if own {
            flows.len() * rounds
        } else {
            (RING_BYTES / stride).clamp(2, BURST)
        };
        let mut ring = vec![0; stride * templates].into_boxed_slice();
        for template in ring.chunks_exact_mut(stride) {
            template[..HEAD].copy_from_slice(&head);
        }
        let places = ring.as_chunks_mut::<SHORT>().0.iter_mut().enumerate();
        let places = (places.take(flows.len() * rounds))
            .filter_map(|(number, template)| {
                let flow = &flows[number % flows.len()];
                let first = (number / flows.len()) as u64;
                Some(Place::new(flow, first, template.first_chunk_mut()?))
            })
            .collect();
        Ok(Self {
            link: LinkSwitch::new(),
            pace: Pace::new(options.rate, options.size),
            length,
            stride,
            ring,
            ready: 0,
            stamped: 0,
            flows,
            next_flow: 0,
            pattern: Pattern::new(),
            udp_checksum: options.udp_checksum,
            places,
            rounds,
            drops: options.rate != Rate::Max,
            remaining: options.frames.unwrap_or(u64::MAX),
            endless: options.frames.is_none(),
            issued: 0,
            received: 0,
            received_bytes: 0,
            sink: Sink::new(),
        })
    }

    /// Stamps the next burst.
    #[inline]
    fn stamp(&mut self) {
        if self.places.is_empty() {
            self.stamp_any();
        } else {
            self.stamp_places();
        }
    }

    /// Stamps the templates after those of the last burst.
    #[inline]
    fn stamp_places(&mut self) {
        let begin = if self.stamped == self.ring.len() {
            0
        } else {
            self.stamped
        };
        let left = self.remaining.min(BURST as u64) as usize;
        let first = begin / SHORT;
        let (templates, _) = self.ring.as_chunks_mut::<SHORT>();
        let burst = left.min(templates.len() - first);
        let templates = &mut templates[first..first + burst];
        let places = &mut self.places[first..first + burst];
        let step = self.rounds as u64;
        for (template, place) in templates.iter_mut().zip(places) {
            place.stamp(template, step);
        }
        self.ready = begin;
        self.stamped = begin + burst * SHORT;
        self.issue(burst);
    }

    fn issue(&mut self, frames: usize) {
        self.issued += frames as u64;
        if !self.endless {
            self.remaining -= frames as u64;
        }
    }

    /// Stamps whatever templates with the next flows' frames.
    #[inline(never)]
    fn stamp_any(&mut self) {
        let places = self.ring.len() / self.stride;
        let burst = self.remaining.min(places as u64) as usize;
        self.ready = 0;
        self.stamped = burst * self.stride;
        self.issue(burst);
        let mut flow = self.next_flow;
        for template in self.ring.chunks_exact_mut(self.stride).take(burst) {
            let Some(head) = template.first_chunk_mut::<HEAD>() else {
                return;
            };
            let sequence = self.flows[flow].stamp(head);
            flow = if flow + 1 == self.flows.len() {
                0
            } else {
                flow + 1
            };
            let frame = &mut template[..self.length];
            self.pattern.fill(sequence, &mut frame[HEAD..]);
            if self.udp_checksum {
                fill_udp_checksum(frame);
            }
        }
        self.next_flow = flow;
    }
}

impl GenWire {
    /// Hands stamped frames over, at most `limit`, and returns how many were taken.
    #[inline(always)]
    fn hand_over<I: Intake>(&mut self, limit: usize, intake: &mut I) -> usize {
        let mut taken = 0;
        let stamped = self.ring.get(self.ready..self.stamped).unwrap_or_default();
        if self.places.is_empty() {
            let frames = stamped.chunks_exact(self.stride).take(limit);
            for frame in frames.filter_map(|template| template.get(..self.length)) {
                if !intake.take(frame) {
                    break;
                }
                taken += 1;
            }
        } else {
            // The same, of a length known beforehand.
            let (frames, _) = stamped.as_chunks::<SHORT>();
            let frames = &frames[..limit.min(frames.len())];
            while taken < frames.len() {
                taken += intake.take_short(&frames[taken..]);
                match frames.get(taken) {
                    Some(frame) if intake.take(&frame[..HEAD]) => taken += 1,
                    _ => break,
                }
            }
        }
        self.ready += taken * self.stride;
        taken
    }
}

impl Wire for GenWire {
    #[inline]
    fn peek(&mut self, now_ns: u64) -> Option<&[u8]> {
        if !self.link.is_up() {
            self.pace.stop();
            return None;
        }
        if !self.pace.due(now_ns) {
            return None;
        }
        if self.ready == self.stamped {
            self.stamp();
        }
        if self.ready == self.stamped {
            return None;
        }
        self.ring.get(self.ready..self.ready + self.length)
    }

    #[inline]
    fn consume(&mut self) {
        if self.ready < self.stamped {
            self.ready += self.stride;
            self.pace.advance();
        }
    }

    #[inline(always)]
    fn deliver<I: Intake>(&mut self, now_ns: u64, limit: usize, intake: &mut I) -> usize {
        if !self.link.is_up() {
            self.pace.stop();
            return 0;
        }
        let due = self.pace.due_many(now_ns, limit);
        let mut taken = 0;
        while taken < due {
            if self.ready == self.stamped {
                self.stamp();
            }
            let some = self.hand_over(due - taken, intake);
            taken += some;
            if some == 0 || self.ready != self.stamped {
                break;
            }
        }
        self.pace.advance_many(taken);
        taken
    }

    #[inline(always)]
    fn transmit(&mut self, _now_ns: u64, frame: &[u8]) -> bool {
        self.received += 1;
        self.received_bytes += frame.len() as u64;
        self.sink.take(frame);
        true
    }

    #[inline(always)]
    fn transmit_short(&mut self, _now_ns: u64, frames: &[ShortFrame]) -> usize {
        self.received += frames.len() as u64;
        self.received_bytes += (frames.len() * SHORT_FRAME) as u64;
        self.sink.take_short(frames);
        frames.len()
    }

    #[inline]
    fn drops_when_full(&self) -> bool {
        self.drops
    }

    fn link(&self) -> &LinkSwitch {
        &self.link
    }

    fn report(&self) -> WireReport {
        let consumed = self.issued - ((self.stamped - self.ready) / self.stride) as u64;
        WireReport {
            to_device_frames: consumed,
            to_device_bytes: consumed * self.length as u64,
            from_device_frames: self.received,
            from_device_bytes: self.received_bytes,
            errors: self.sink.errors(),
            has_input: true,
            ends: !self.endless,
            finished: self.remaining == 0 && self.ready == self.stamped,
            ..WireReport::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::frame::{Layout, ReceiveChecksums, Verdict};
    use crate::wire::WireErrors;

    fn drain(wire: &mut GenWire, now_ns: u64) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(frame) = wire.peek(now_ns) {
            frames.push(frame.to_vec());
            wire.consume();
        }
        frames
    }

    #[test]
    fn frames_are_valid_and_spread_over_flows() {
        for (size, udp_checksum) in [
            (64, false),
            (64, true),
            (65, true),
            (1518, true),
            (9728, false),
        ] {
            let frames = Some(1000);
            let options = GenOptions {
                size,
                frames,
                flows: 500,
                rate: Rate::Max,
                udp_checksum,
                ..GenOptions::default()
            };
            let mut wire = GenWire::new(&options).unwrap();
            assert!(!wire.report().finished);
            let frames = drain(&mut wire, 1);
            assert_eq!(frames.len(), 1000);
            let report = wire.report();
            assert!(report.finished && report.has_input && report.ends);
            assert_eq!(report.to_device_bytes, 1000 * (size as u64 - 4));
            let mut sources = HashSet::new();
            for frame in &frames {
                assert_eq!(frame.len(), size - 4);
                let checksums = ReceiveChecksums::verify(frame, &Layout::of(frame));
                assert_eq!(checksums.ip, Verdict::Good);
                let l4 = if udp_checksum {
                    Verdict::Good
                } else {
                    Verdict::Unchecked
                };
                assert_eq!(checksums.l4, l4);
                sources.insert(frame[26..36].to_vec());
                // A forwarder rewrites the addresses.
                let mut forwarded = frame.clone();
                forwarded[..12].fill(9);
                assert!(wire.transmit(2, &forwarded));
            }
            assert_eq!(sources.len(), 500);
            assert_eq!(wire.report().errors, WireErrors::default());
            assert_eq!(wire.report().from_device_frames, 1000);
        }
    }

    #[test]
    fn a_wrong_udp_checksum_is_corrupt() {
        let options = GenOptions {
            udp_checksum: true,
            rate: Rate::Max,
            ..GenOptions::default()
        };
        let mut wire = GenWire::new(&options).unwrap();
        let mut frame = wire.peek(0).unwrap().to_vec();
        frame[40] ^= 1;
        wire.transmit(0, &frame);
        assert_eq!(wire.report().errors.corrupt, 1);
    }

    #[test]
    fn a_peeked_frame_stays_until_consumed() {
        let mut wire = GenWire::new(&GenOptions {
            rate: Rate::Max,
            ..GenOptions::default()
        })
        .unwrap();
        wire.consume();
        let first = wire.peek(0).unwrap().to_vec();
        assert_eq!(wire.peek(5).unwrap(), first);
        wire.consume();
        assert_ne!(wire.peek(5).unwrap(), first);
        assert_eq!(wire.report().to_device_frames, 1);
        assert!(!wire.drops_when_full());
    }

    #[test]
    fn a_line_sends_what_is_due_and_stops_with_the_link() {
        let mut wire = GenWire::new(&GenOptions::default()).unwrap();
        assert!(wire.drops_when_full());
        assert_eq!(drain(&mut wire, 0).len(), 0);
        assert_eq!(drain(&mut wire, 67_200).len(), 1000);
        let link = wire.link().clone();
        link.set(false);
        assert_eq!(drain(&mut wire, 1_000_000).len(), 0);
        link.set(true);
        assert_eq!(drain(&mut wire, 2_000_000).len(), 0);
        assert_eq!(drain(&mut wire, 2_067_200).len(), 1000);
    }

    #[test]
    fn options_out_of_range_are_refused() {
        for size in [0, 63, 9729, usize::MAX] {
            assert!(
                GenWire::new(&GenOptions {
                    size,
                    ..GenOptions::default()
                })
                .is_err()
            );
        }
        for flows in [0, 65_537] {
            assert!(
                GenWire::new(&GenOptions {
                    flows,
                    ..GenOptions::default()
                })
                .is_err()
            );
        }
    }
}
