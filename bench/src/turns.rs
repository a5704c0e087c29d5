//! Has two peers take turns over the rows, and sees to it that a busy machine costs time and not results.
//!
//! Invariant: a round counts for a row only when both peers finished it, one right after the other; a
//! row that cannot be measured is named with its reason, and the others go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sumac_devices::ixgbe::{Violation, Violations};

use crate::control::Window;
use crate::plan::Row;
use crate::session::{DPDK, OURS, PEERS, SessionError};
use crate::statistics::Sample;
use crate::third_party::{KNOWN_OF_DPDK, UNSEEN, unexpected};

/// Fresh starts before bring-up is given up.
const STARTS: usize = 5;
/// Times a peer is asked for the same order.
const ASKED: usize = 2;
/// Sessions that may fail at one row before the row is left out.
const STRIKES: usize = 2;
/// Rounds that are measured however long they take.
const ROUNDS: usize = 3;

/// Two drivers that are up and take orders.
pub trait Pair: Sized {
    /// One order for one peer.
    ///
    /// # Errors
    /// [`SessionError::Stuck`] and [`SessionError::Interrupted`].
    fn run(&mut self, peer: usize, row: Row) -> Result<Vec<Window>, SessionError>;
    /// Ends both drivers in good order; what they did against the rules, by port.
    fn finish(self) -> Vec<[Violations; 2]>;
}

/// What came of taking turns.
#[derive(Default)]
pub struct Measured {
    /// For each row DPDK's sample and ours.
    pub samples: BTreeMap<Row, [Sample; 2]>,
    /// Rows that were given up, and why.
    pub left_out: BTreeMap<Row, String>,
    /// What was counted but cannot be judged here: peer, rule, how often.
    pub tolerated: BTreeMap<(&'static str, &'static str), u64>,
    /// What ended everything early.
    pub failure: Option<SessionError>,
}

/// Takes turns until `budget` is over, three rounds at least. `start` brings both peers up.
pub fn measure<P: Pair>(
    mut start: impl FnMut() -> Result<P, SessionError>,
    rows: &[Row],
    budget: Duration,
) -> Measured {
    let mut measured = Measured::default();
    let result = take_turns(&mut measured, &mut start, rows, budget);
    measured.failure = result.err();
    measured
}

fn take_turns<P: Pair>(
    measured: &mut Measured,
    start: &mut impl FnMut() -> Result<P, SessionError>,
    rows: &[Row],
    budget: Duration,
) -> Result<(), SessionError> {
    let mut strikes: BTreeMap<Row, usize> = BTreeMap::new();
    let mut pair = bring_up(start)?;
    let begin = Instant::now();
    let mut round = 0;
    while round < ROUNDS || begin.elapsed() < budget {
        for &row in rows {
            while !measured.left_out.contains_key(&row) {
                match one_round(&mut pair, row, round) {
                    Ok(windows) => {
                        let sample = measured.samples.entry(row).or_default();
                        for (sample, windows) in sample.iter_mut().zip(windows) {
                            sample.add(windows);
                        }
                        break;
                    }
                    Err(error) if error.is_late() => {
                        let strikes = strikes.entry(row).or_default();
                        *strikes += 1;
                        if *strikes >= STRIKES {
                            measured.left_out.insert(row, error.to_string());
                        }
                        eprintln!("{error}: starting both drivers afresh");
                        measured.end(pair)?;
                        pair = bring_up(start)?;
                    }
                    Err(error) => {
                        measured.end(pair)?;
                        return Err(error);
                    }
                }
            }
        }
        round += 1;
    }
    measured.end(pair)
}

/// Both peers' windows of a row; who is first changes from round to round.
fn one_round(
    pair: &mut impl Pair,
    row: Row,
    round: usize,
) -> Result<[Vec<Window>; 2], SessionError> {
    let mut windows = [Vec::new(), Vec::new()];
    let order = if round.is_multiple_of(2) {
        [DPDK, OURS]
    } else {
        [OURS, DPDK]
    };
    for peer in order {
        windows[peer] = asked_again(pair, peer, row)?;
    }
    Ok(windows)
}

/// One order, repeated if it takes too long and the peer still listens.
fn asked_again(pair: &mut impl Pair, peer: usize, row: Row) -> Result<Vec<Window>, SessionError> {
    let mut asked = 1;
    loop {
        match pair.run(peer, row) {
            Err(error @ SessionError::Stuck { usable: true, .. }) if asked < ASKED => {
                eprintln!("{error}: asking again");
                asked += 1;
            }
            result => return result,
        }
    }
}

/// A start that fails because somebody else had the core is tried again.
fn bring_up<P>(start: &mut impl FnMut() -> Result<P, SessionError>) -> Result<P, SessionError> {
    for attempt in 1..STARTS {
        match start() {
            Err(error) if error.is_late() => {
                eprintln!("start {attempt} of {STARTS} failed: {error}");
            }
            result => return result,
        }
    }
    start().map_err(|error| match error.is_late() {
        true => SessionError::Busy {
            starts: STARTS,
            last: error.to_string(),
        },
        false => error,
    })
}

impl Measured {
    /// Ends a session and judges what both did.
    fn end(&mut self, pair: impl Pair) -> Result<(), SessionError> {
        let mut result = Ok(());
        for ports in pair.finish() {
            let known = [KNOWN_OF_DPDK, UNSEEN];
            for ((peer, violations), known) in PEERS.into_iter().zip(&ports).zip(known) {
                self.tolerate(peer, violations, known);
                if let Some(violations) = unexpected(violations, known) {
                    result = Err(SessionError::Violations { peer, violations });
                }
            }
        }
        if result.is_err() {
            // The figures of a driver that breaks the rules mean nothing.
            self.samples.clear();
        }
        result
    }

    fn tolerate(&mut self, peer: &'static str, violations: &Violations, known: &[Violation]) {
        for &rule in known {
            let count = violations.count(rule);
            if count != 0 {
                *self.tolerated.entry((peer, rule.name())).or_default() += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Kind, Mode};

    const GOOD: Row = row(8);
    const BAD: Row = row(32);

    const fn row(batch: u32) -> Row {
        Row {
            mode: Mode::Transmit,
            kind: Kind::Stream,
            batch,
        }
    }

    /// Never finishes [`BAD`] in time.
    struct Fake {
        usable: bool,
    }

    impl Pair for Fake {
        fn run(&mut self, peer: usize, row: Row) -> Result<Vec<Window>, SessionError> {
            if row == BAD && peer == DPDK {
                return Err(SessionError::Stuck {
                    peer: PEERS[peer],
                    row: row.name(),
                    usable: self.usable,
                });
            }
            Ok(vec![Window::default()])
        }

        fn finish(self) -> Vec<[Violations; 2]> {
            Vec::new()
        }
    }

    fn late() -> SessionError {
        SessionError::Ours("no reset".to_owned())
    }

    #[test]
    fn a_row_that_cannot_be_measured_is_left_out_and_the_others_go_on() {
        for usable in [true, false] {
            let mut starts = 0;
            let measured = measure(
                || {
                    starts += 1;
                    Ok(Fake { usable })
                },
                &[BAD, GOOD],
                Duration::ZERO,
            );
            assert!(measured.failure.is_none());
            assert_eq!(measured.left_out.keys().copied().collect::<Vec<_>>(), [BAD]);
            assert_eq!(measured.samples.keys().copied().collect::<Vec<_>>(), [GOOD]);
            assert_eq!(measured.samples[&GOOD][OURS].taken(), ROUNDS);
            assert_eq!(starts, 1 + STRIKES);
        }
    }

    #[test]
    fn a_late_start_is_repeated_and_then_given_up() {
        let mut starts = 0;
        let measured = measure(
            || {
                starts += 1;
                if starts < STARTS {
                    return Err(late());
                }
                Ok(Fake { usable: true })
            },
            &[GOOD],
            Duration::ZERO,
        );
        assert!(measured.failure.is_none() && measured.samples.len() == 1);
        let mut starts = 0;
        let start = || {
            starts += 1;
            Err::<Fake, _>(late())
        };
        let measured = measure(start, &[GOOD], Duration::ZERO);
        assert!(matches!(
            measured.failure,
            Some(SessionError::Busy { starts: STARTS, .. })
        ));
        assert_eq!(starts, STARTS);
    }

    #[test]
    fn an_interruption_keeps_what_there_is() {
        struct Interrupted(u32);
        impl Pair for Interrupted {
            fn run(&mut self, _: usize, _: Row) -> Result<Vec<Window>, SessionError> {
                self.0 += 1;
                if self.0 > 2 {
                    return Err(SessionError::Interrupted);
                }
                Ok(vec![Window::default()])
            }
            fn finish(self) -> Vec<[Violations; 2]> {
                Vec::new()
            }
        }
        let measured = measure(|| Ok(Interrupted(0)), &[GOOD], Duration::ZERO);
        assert!(matches!(measured.failure, Some(SessionError::Interrupted)));
        assert_eq!(measured.samples[&GOOD][DPDK].taken(), 1);
    }
}
