//! Verifies generated frames: contents, and the sequence of each flow of each generator.
//!
//! Flows are told apart because a forwarder with several queues keeps order only within a flow.
//! Behind the newest number of a flow the last 64 are remembered, so that a late frame is known to
//! be reordered or a duplicate.

use super::WireErrors;
use super::stamp::{Mark, Pattern};

/// Numbers remembered behind the newest.
const WINDOW: u64 = 64;

/// What came of each flow, and what was wrong.
#[derive(Debug)]
pub(super) struct Sink {
    pattern: Pattern,
    generators: Vec<Generator>,
    /// Where in `generators` the last frame's is.
    last: usize,
    errors: WireErrors,
}

#[derive(Debug)]
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
}

impl Sink {
    pub(super) fn new() -> Self {
        let errors = WireErrors::default();
        Self {
            pattern: Pattern::new(),
            generators: Vec::new(),
            last: 0,
            errors,
        }
    }

    pub(super) fn errors(&self) -> WireErrors {
        self.errors
    }

    /// Verifies one frame.
    #[inline]
    pub(super) fn take(&mut self, frame: &[u8]) {
        match self.pattern.inspect(frame) {
            Mark::Intact {
                generator,
                flow,
                sequence,
            } => {
                let known = match self.generators.get_mut(self.last) {
                    Some(last) if last.id == generator => last.flows.get_mut(usize::from(flow)),
                    _ => None,
                };
                let seen = match known {
                    Some(known) => known,
                    None => find(&mut self.generators, &mut self.last, generator, flow),
                };
                if seen.next == sequence {
                    seen.next += 1;
                    seen.seen = seen.seen << 1 | 1;
                } else {
                    seen.out_of_order(sequence, &mut self.errors);
                }
            }
            Mark::Corrupt => self.errors.corrupt += 1,
            Mark::Foreign => self.errors.foreign += 1,
        }
    }
}

/// The flow's entry, made if it is new.
#[cold]
fn find<'g>(
    generators: &'g mut Vec<Generator>,
    last: &mut usize,
    id: u16,
    flow: u16,
) -> &'g mut Sequence {
    *last = generators
        .iter()
        .position(|generator| generator.id == id)
        .unwrap_or_else(|| {
            generators.push(Generator {
                id,
                flows: Vec::new(),
            });
            generators.len() - 1
        });
    let flows = &mut generators[*last].flows;
    let flow = usize::from(flow);
    if flows.len() <= flow {
        flows.resize(flow + 1, Sequence::default());
    }
    &mut flows[flow]
}

impl Sequence {
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
