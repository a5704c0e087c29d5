//! Verifies generated frames: contents, and the sequence of each flow of each generator.
//!
//! Flows are told apart because a forwarder with several queues keeps order only within a flow.
//! Behind the newest number of a flow the last 64 are remembered, so that a late frame is known to
//! be reordered or a duplicate.

use super::stamp::{HEAD, Known, Mark, Pattern, names};
use super::{SHORT_FRAME, ShortFrame, WireErrors};

/// Numbers remembered behind the newest.
const WINDOW: u64 = 64;

/// Generators that are told apart, besides the last frame's, and flows of all of them together: more than a process
/// has ports. Whoever makes up further ones, which is no secret, gets no memory for them; their frames are foreign.
const GENERATORS: usize = 64;
const FLOWS: usize = 1 << 19;

/// What came of each flow, and what was wrong.
#[derive(Debug)]
pub(super) struct Sink {
    pattern: Pattern,
    /// The last frame's generator, and all others.
    current: Generator,
    others: Vec<Generator>,
    /// Flows of all of them.
    flows: usize,
    errors: WireErrors,
}

#[derive(Debug, Default)]
struct Generator {
    id: u16,
    flows: Vec<Sequence>,
}

/// What has been seen of a flow.
#[derive(Debug, Clone, Copy, Default)]
struct Sequence {
    /// The number after the newest seen.
    next: u64,
    /// Bit n: number `next - 1 - n` has been seen.
    seen: u64,
    known: Known,
}

impl Sink {
    pub(super) fn new() -> Self {
        let errors = WireErrors::default();
        Self {
            pattern: Pattern::new(),
            current: Generator::default(),
            others: Vec::new(),
            flows: 0,
            errors,
        }
    }

    pub(super) fn errors(&self) -> WireErrors {
        self.errors
    }

    /// Verifies one frame.
    #[inline(always)]
    pub(super) fn take(&mut self, frame: &[u8]) {
        if let Some((head, [])) = frame.split_first_chunk::<HEAD>() {
            let (generator, flow) = names(head);
            if generator == self.current.id
                && let Some(seen) = self.current.flows.get_mut(usize::from(flow))
                && seen.known.is(head, seen.next)
            {
                seen.in_order();
                return;
            }
        }
        self.look(frame);
    }

    /// Verifies frames of the shortest length.
    #[inline(always)]
    pub(super) fn take_short(&mut self, frames: &[ShortFrame]) {
        let mut left = frames;
        while let Some((frame, rest)) = left.get(self.in_order(left)..).and_then(<[_]>::split_first)
        {
            self.look(&frame[..SHORT_FRAME]);
            left = rest;
        }
    }

    /// How many of `frames`, from the first on, are simply the next ones of their flows.
    #[inline(always)]
    fn in_order(&mut self, frames: &[ShortFrame]) -> usize {
        let id = self.current.id;
        let flows = self.current.flows.as_mut_slice();
        let next = |frame: &ShortFrame| {
            let head = frame.first_chunk::<HEAD>()?;
            let (generator, flow) = names(head);
            let seen = flows.get_mut(usize::from(flow))?;
            if generator != id || !seen.known.is(head, seen.next) {
                return None;
            }
            seen.in_order();
            Some(())
        };
        frames.iter().map_while(next).count()
    }

    /// Verifies a frame that is not simply the next one of a flow.
    #[inline(never)]
    fn look(&mut self, frame: &[u8]) {
        match self.pattern.inspect(frame) {
            Mark::Intact {
                generator,
                flow,
                sequence,
            } => {
                if !self.turn_to(generator) || !self.make_room(flow) {
                    self.errors.foreign += 1;
                    return;
                }
                let seen = &mut self.current.flows[usize::from(flow)];
                if seen.next == sequence {
                    seen.in_order();
                    seen.known = Known::learn(frame);
                } else {
                    seen.out_of_order(sequence, &mut self.errors);
                }
            }
            Mark::Corrupt => self.errors.corrupt += 1,
            Mark::Foreign => self.errors.foreign += 1,
        }
    }

    /// Makes generator `id` the current one; `false` if there are too many.
    fn turn_to(&mut self, id: u16) -> bool {
        if self.current.id == id {
            return true;
        }
        let position = self.others.iter().position(|other| other.id == id);
        let next = match position {
            Some(position) => self.others.swap_remove(position),
            None if self.others.len() == GENERATORS => return false,
            None => Generator {
                id,
                flows: Vec::new(),
            },
        };
        self.others.push(std::mem::replace(&mut self.current, next));
        true
    }

    /// Makes sure that the current generator has flow `flow`; `false` if there are too many.
    fn make_room(&mut self, flow: u16) -> bool {
        let flows = &mut self.current.flows;
        let more = (usize::from(flow) + 1).saturating_sub(flows.len());
        if self.flows + more > FLOWS {
            return false;
        }
        self.flows += more;
        flows.resize(flows.len() + more, Sequence::default());
        true
    }
}

impl Sequence {
    #[inline(always)]
    fn in_order(&mut self) {
        self.next += 1;
        self.seen = self.seen << 1 | 1;
    }

    #[cold]
    fn out_of_order(&mut self, sequence: u64, errors: &mut WireErrors) {
        if sequence >= self.next {
            let ahead = sequence - self.next;
            errors.gaps += ahead;
            self.seen = match ahead {
                0..63 => self.seen << (ahead + 1) | 1,
                _ => 1,
            };
            self.next = sequence.saturating_add(1);
            return;
        }
        let behind = self.next - 1 - sequence;
        if behind >= WINDOW {
            errors.late += 1;
        } else if self.seen >> behind & 1 == 1 {
            errors.duplicates += 1;
        } else {
            self.seen |= 1 << behind;
            errors.reordered += 1;
            // It was counted missing when a later one came.
            errors.gaps = errors.gaps.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::stamp::{Flow, HEAD};

    /// The first `count` frames of a flow.
    fn frames(flow: u16, length: usize, count: usize) -> Vec<Vec<u8>> {
        let mut head = [0; HEAD];
        let mut flow = Flow::new(3, flow, length, &mut head);
        let pattern = Pattern::new();
        let stamped = (0..count).map(|_| {
            let sequence = flow.stamp(&mut head);
            let mut frame = head.to_vec();
            frame.resize(length, 0);
            pattern.fill(sequence, &mut frame[HEAD..]);
            frame
        });
        stamped.collect()
    }

    fn errors(order: &[usize]) -> WireErrors {
        let frames = frames(5, 60, 200);
        let mut sink = Sink::new();
        order.iter().for_each(|&number| sink.take(&frames[number]));
        sink.errors()
    }

    #[test]
    fn made_up_generators_get_no_memory() {
        for (flow, known) in [(u16::MAX, FLOWS >> 16), (0, GENERATORS + 1)] {
            let mut sink = Sink::new();
            for generator in 0..200 {
                let mut head = [0; HEAD];
                Flow::new(generator, flow, HEAD, &mut head).stamp(&mut head);
                sink.take(&head);
            }
            let foreign = 200 - known as u64;
            let none = WireErrors::default();
            assert_eq!(sink.errors(), WireErrors { foreign, ..none }, "flow {flow}");
        }
    }

    #[test]
    fn a_sequence_in_order_is_no_error() {
        assert_eq!(errors(&(0..200).collect::<Vec<_>>()), WireErrors::default());
    }

    #[test]
    fn what_goes_wrong_has_a_name() {
        let none = WireErrors::default();
        assert_eq!(errors(&[0, 1, 4]), WireErrors { gaps: 2, ..none });
        assert_eq!(
            errors(&[0, 2, 1, 3]),
            WireErrors {
                reordered: 1,
                ..none
            }
        );
        assert_eq!(
            errors(&[0, 1, 1, 0]),
            WireErrors {
                duplicates: 2,
                ..none
            }
        );
        assert_eq!(
            errors(&[100, 36]),
            WireErrors {
                gaps: 100,
                late: 1,
                ..none
            }
        );
        assert_eq!(
            errors(&[100, 37]),
            WireErrors {
                gaps: 99,
                reordered: 1,
                ..none
            }
        );
        assert_eq!(
            errors(&[0, 63, 0]),
            WireErrors {
                gaps: 62,
                duplicates: 1,
                ..none
            }
        );
    }

    #[test]
    fn flows_and_generators_have_their_own_sequence() {
        let (one, two) = (frames(1, 60, 9), frames(400, 100, 9));
        let mut sink = Sink::new();
        for (one, two) in one.iter().zip(&two) {
            sink.take(one);
            sink.take(two);
        }
        assert_eq!(sink.errors(), WireErrors::default());
        sink.take(&[0; 200]);
        sink.take(&[]);
        assert_eq!(
            sink.errors(),
            WireErrors {
                foreign: 2,
                ..WireErrors::default()
            }
        );
    }

    proptest! {
        #[test]
        fn every_changed_bit_is_noticed(length in 60usize..200, skip in 0usize..300, at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut frame = frames(7, length, skip + 1).pop().unwrap();
            // Before byte 12 are the addresses; 40 and 41 are the UDP checksum, which is absent.
            let at = 12 + at.index(length - 12);
            frame[at] ^= 1 << bit;
            let mut sink = Sink::new();
            sink.take(&frame);
            let found = sink.errors();
            prop_assert_eq!(found.corrupt + found.foreign, 1, "byte {}", at);
        }

        #[test]
        fn every_changed_length_is_noticed(length in 61usize..200, other in 60usize..200) {
            let mut frame = frames(7, length, 1).remove(0);
            frame.resize(other, 0);
            let mut sink = Sink::new();
            sink.take(&frame);
            prop_assert_eq!(sink.errors().corrupt, u64::from(length != other));
        }

        #[test]
        fn any_frames_in_any_order_add_up(order in prop::collection::vec(0usize..200, 0..300)) {
            let found = errors(&order);
            let distinct: std::collections::BTreeSet<_> = order.iter().collect();
            let newest = order.iter().max().map_or(0, |newest| newest + 1) as u64;
            prop_assert_eq!(found.gaps + distinct.len() as u64 >= newest, true);
            let repeated = (order.len() - distinct.len()) as u64;
            prop_assert!(found.duplicates <= repeated);
            prop_assert!(found.duplicates + found.late >= repeated);
        }

        #[test]
        fn many_at_once_are_as_many_as_one_by_one(
            order in prop::collection::vec((0usize..60, prop::option::of((0usize..60, any::<u8>()))), 0..200),
        ) {
            let intact = frames(5, 60, 60);
            let padded: Vec<ShortFrame> = (order.iter())
                .map(|&(number, flip)| {
                    let mut padded = [0; 64];
                    padded[..SHORT_FRAME].copy_from_slice(&intact[number]);
                    if let Some((at, mask)) = flip {
                        padded[at] ^= mask;
                    }
                    padded
                })
                .collect();
            let (mut single, mut burst) = (Sink::new(), Sink::new());
            // Known by its looks from the first frame on.
            single.take(&intact[0]);
            burst.take(&intact[0]);
            for frame in &padded {
                // The long way only.
                single.look(&frame[..SHORT_FRAME]);
            }
            burst.take_short(&padded);
            prop_assert_eq!(single.errors(), burst.errors());
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), marked in any::<bool>()) {
            let mut sink = Sink::new();
            let mut frame = frames(1, 100, 1).remove(0);
            if marked {
                let at = 48.min(bytes.len());
                frame.splice(48.., bytes[at..].iter().copied());
                sink.take(&frame);
            }
            sink.take(&bytes);
            prop_assert_eq!(sink.errors().foreign + sink.errors().corrupt >= 1, true);
        }
    }
}
