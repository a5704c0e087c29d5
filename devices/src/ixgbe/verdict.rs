//! What was said of frames lately, so that it need not be worked out anew for each frame of a flow.
//!
//! Everything a port says of an untagged UDP packet without checksum, in IPv4 without options, whole
//! and correct, follows from bytes 12 to 44 and the frame's length. Frames that agree in those get the
//! same write-back and go to the same queue. Nothing else is remembered.
//!
//! Invariant: a remembered verdict is what the long way says under the present plan; whoever changes
//! the plan calls [`Verdicts::forget`].

use super::describe::{describe, plain_udp, word};
use super::descriptor::{self as d};
use super::device::Plan;
use super::receive::MIN_FRAME;
use crate::frame::{Layout, vlan};

/// How many verdicts are remembered, each at a place that follows from its frame.
const VERDICTS: usize = 128;
/// Sends flows that differ in the low byte of a port or an address, or in several of them as a
/// generator's do, to places of their own.
const SPREAD: u64 = 1 << 1 | 1 << 17 | 1 << 50;

/// Bytes of a frame that a verdict follows from.
type Key = [u8; 32];

/// What a receive descriptor says of a frame, and where the frame goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The write-back.
    pub words: [u64; 2],
    pub queue: u32,
}

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Entry {
    key: Key,
    /// Zero: nothing is remembered.
    length: u32,
    verdict: Verdict,
}

/// No destination's word: addresses leave its low bits zero.
const NOWHERE: u64 = 1;

/// Verdicts on the last frames.
pub(super) struct Verdicts {
    entries: Box<[Entry; VERDICTS]>,
    /// The last destination that passed the filters, above 16 zero bits.
    pub passed: u64,
    /// The last one that is not to be remembered.
    passing: Verdict,
}

impl Verdicts {
    pub fn new() -> Self {
        Self {
            entries: Box::new([Entry::default(); VERDICTS]),
            passed: NOWHERE,
            passing: Verdict::default(),
        }
    }

    /// The plan changed.
    pub fn forget(&mut self) {
        self.entries.fill(Entry::default());
        self.passed = NOWHERE;
    }

    /// What is known already.
    #[inline(always)]
    pub fn known(&self) -> Known<'_> {
        Known {
            entries: &self.entries,
            passed: self.passed,
        }
    }

    /// What to say of `frame`, whose beginning is `head`; `None` if it needs the long way.
    #[inline(always)]
    pub fn of(&mut self, head: &[u8; MIN_FRAME], frame: &[u8], plan: &Plan) -> Option<&Verdict> {
        let place = place(head);
        let entry = &self.entries[place];
        if entry.key == head[12..44] && entry.length as usize == frame.len() {
            return Some(&self.entries[place].verdict);
        }
        self.work_out(head, frame, plan)
    }

    #[inline(never)]
    fn work_out(&mut self, head: &[u8; MIN_FRAME], frame: &[u8], plan: &Plan) -> Option<&Verdict> {
        if vlan::tag(frame, plan.vlan_type).is_some() {
            return None;
        }
        if plan.steering.is_none()
            && let Some(kind) = plain_udp(head, frame.len())
        {
            let words = kind.words(frame.len());
            return Some(self.remember(head, frame.len(), Verdict { words, queue: 0 }));
        }
        let (mut report, queue) = describe(frame, &Layout::of(frame), plan);
        if report.errors != 0 {
            return None;
        }
        report.status |= d::RX_DONE | d::RX_END;
        report.length = frame.len() as u16;
        let verdict = Verdict {
            words: report.advanced(),
            queue: queue as u32,
        };
        if plain_udp(head, frame.len()).is_some() {
            return Some(self.remember(head, frame.len(), verdict));
        }
        self.passing = verdict;
        Some(&self.passing)
    }

    fn remember(&mut self, head: &[u8; MIN_FRAME], length: usize, verdict: Verdict) -> &Verdict {
        let entry = &mut self.entries[place(head)];
        entry.key.copy_from_slice(&head[12..44]);
        entry.length = length as u32;
        entry.verdict = verdict;
        &entry.verdict
    }
}

/// What is known already, for a loop over frames of the shortest length.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    entries: &'a [Entry; VERDICTS],
    passed: u64,
}

impl<'a> Known<'a> {
    /// The write-back of frames like `frame`, which is to the last destination that passed.
    #[inline(always)]
    pub fn words(&self, frame: &[u8; MIN_FRAME]) -> Option<&'a [u64; 2]> {
        let entry = &self.entries[place(frame)];
        let known = word(frame, 0) << 16 == self.passed
            && entry.key == frame[12..44]
            && entry.length == MIN_FRAME as u32;
        known.then_some(&entry.verdict.words)
    }
}

#[inline(always)]
fn place(head: &[u8; MIN_FRAME]) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[28..36]);
    (u64::from_le_bytes(bytes).wrapping_mul(SPREAD) >> 57) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::ixgbe::descriptor::Received;
    use crate::wire::{GenOptions, GenWire, Rate, Wire};

    /// The generator's frames, one of each flow.
    fn frames(flows: u32, size: usize) -> Vec<Vec<u8>> {
        let options = GenOptions {
            rate: Rate::Max,
            size,
            flows,
            ..GenOptions::default()
        };
        let mut wire = GenWire::new(&options).unwrap();
        let frame = |_| {
            let frame = wire.peek(1).unwrap().to_vec();
            wire.consume();
            frame
        };
        (0..flows).map(frame).collect()
    }

    /// What the long way says of a frame without errors.
    fn long_way(frame: &[u8], plan: &Plan) -> Option<[u64; 2]> {
        let (report, _) = describe(frame, &Layout::of(frame), plan);
        let report = Received {
            status: report.status | d::RX_DONE | d::RX_END,
            length: frame.len() as u16,
            ..report
        };
        (report.errors == 0).then(|| report.advanced())
    }

    #[test]
    fn a_generators_flows_have_places_of_their_own() {
        let places: BTreeSet<_> = (frames(64, 64).iter())
            .map(|frame| place(frame.first_chunk().unwrap()))
            .collect();
        assert_eq!(places.len(), 64);
    }

    proptest! {
        /// Whatever came before, a verdict is the long way's.
        #[test]
        fn verdicts_are_the_long_ways(
            picks in proptest::collection::vec(
                (0_usize..200, any::<bool>(), proptest::option::of((12_usize..60, any::<u8>()))),
                1..200,
            ),
        ) {
            let (short, long) = (frames(100, 64), frames(100, 80));
            let plan = Plan::of_zeros();
            let mut verdicts = Verdicts::new();
            for (pick, twice, flip) in picks {
                let mut frame = [&short[..], &long[..]].concat()[pick].clone();
                if let Some((at, mask)) = flip {
                    frame[at] ^= mask;
                }
                for _ in 0..=usize::from(twice) {
                    let head = frame.first_chunk().unwrap();
                    let verdict = verdicts.of(head, &frame, &plan).copied();
                    if let Some(verdict) = verdict {
                        prop_assert_eq!(Some(verdict.words), long_way(&frame, &plan));
                    } else {
                        prop_assert!(
                            vlan::tag(&frame, plan.vlan_type).is_some()
                                || long_way(&frame, &plan).is_none()
                        );
                    }
                }
            }
        }
    }
}
