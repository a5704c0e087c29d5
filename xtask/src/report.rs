//! Runs steps one after another, says what happens, and sums up at the end.
//!
//! Invariant: every step that was planned has exactly one row in the summary.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::counts::{Counts, FailedTest, Reader, Totals};
use crate::process;

/// The most tests of a step that are run once more when they have failed: more fail for a reason.
const FEW: usize = 3;

/// What came of a step.
pub struct Outcome {
    counts: Counts,
    /// Why it failed, if it did.
    failure: Option<String>,
    /// `name: reason` for each part that did not run.
    skips: Vec<String>,
    failed_tests: Vec<FailedTest>,
    /// Those that passed when they were run once more, with what they said the first time.
    unsteady_tests: Vec<FailedTest>,
}

impl Outcome {
    /// The whole step did not run, for this reason.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self {
            counts: Counts::ONE_SKIPPED,
            failure: None,
            skips: vec![reason.into()],
            failed_tests: Vec::new(),
            unsteady_tests: Vec::new(),
        }
    }

    /// A step that is one check: it passed, or failed for this reason.
    pub fn single(result: Result<(), String>) -> Self {
        let counts = if result.is_ok() {
            Counts::ONE_PASSED
        } else {
            Counts::ONE_FAILED
        };
        Self {
            counts,
            failure: result.err(),
            skips: Vec::new(),
            failed_tests: Vec::new(),
            unsteady_tests: Vec::new(),
        }
    }

    /// True if anything in it failed.
    pub fn failed(&self) -> bool {
        self.counts.failed > 0
    }

    /// Adds another part of the same step.
    pub fn and(mut self, other: Self) -> Self {
        self.counts += other.counts;
        self.failure = self.failure.or(other.failure);
        self.skips.extend(other.skips);
        self.failed_tests.extend(other.failed_tests);
        self.unsteady_tests.extend(other.unsteady_tests);
        self
    }

    /// Whether it may be that its tests failed for what else the machine did: each that failed is known, and they are few.
    fn may_be_unsteady(&self) -> bool {
        let failed = self.failed_tests.len();
        (1..=FEW).contains(&failed) && self.counts.failed == failed as u64
    }

    /// What it comes to, its failed tests having been run once more by themselves.
    fn after(mut self, again: &Self) -> Self {
        // A test that skips itself has not passed.
        let ran = again.counts.passed + again.counts.failed;
        let known = again.may_be_unsteady() || !again.failed();
        if known && ran >= self.counts.failed {
            let failed_again =
                |test: &FailedTest| again.failed_tests.iter().any(|a| a.name == test.name);
            let (failed, unsteady) = self.failed_tests.into_iter().partition(failed_again);
            (self.failed_tests, self.unsteady_tests) = (failed, unsteady);
            self.counts.failed = self.failed_tests.len() as u64;
            self.counts.unsteady = self.unsteady_tests.len() as u64;
            self.failure = self.failure.filter(|_| self.counts.failed > 0);
        }
        self
    }
}

/// Runs a command that is one check.
pub fn command(command: &mut Command, limit: Duration) -> Outcome {
    announce(command);
    Outcome::single(process::run(command, limit, |_| {}))
}

/// Runs test programs and counts their tests.
///
/// A run that fails without one failed test (it did not build, or was stopped) counts as one
/// failure, and so does one in which there was no test at all.
pub fn tests(command: &mut Command, limit: Duration) -> Outcome {
    announce(command);
    let mut reader = Reader::default();
    let mut result = process::run(command, limit, |line| reader.line(line));
    let Totals {
        mut counts,
        skips,
        failed,
    } = reader.finish();
    if result.is_ok() && counts == Counts::default() {
        result = Err(format!("{}: no test ran", process::shown(command)));
    }
    if result.is_err() && counts.failed == 0 {
        counts += Counts::ONE_FAILED;
    }
    Outcome {
        counts,
        failure: result.err(),
        skips,
        failed_tests: failed,
        unsteady_tests: Vec::new(),
    }
}

/// Runs test programs whose tests share the clock of a machine with others: guests, servers, processes.
///
/// Where a [`FEW`] of them fail, those are run once more by themselves. Who passes then is told as unsteady, which is not
/// passed, with what it said the first time. One who fails again has failed.
pub fn tests_once_more(command: &mut Command, limit: Duration) -> Outcome {
    let first = tests(command, limit);
    if !first.may_be_unsteady() {
        return first;
    }
    println!("\nfailed tests once more, by themselves:");
    let again = tests(&mut by_themselves(command, &first.failed_tests), limit);
    first.after(&again)
}

/// The command that runs these of its tests, one at a time.
fn by_themselves(command: &Command, failed: &[FailedTest]) -> Command {
    const ONE_AT_A_TIME: &str = "--test-threads=1";
    let mut alone = Command::new(command.get_program());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => alone.env(key, value),
            None => alone.env_remove(key),
        };
    }
    command
        .get_current_dir()
        .map(|folder| alone.current_dir(folder));
    let given = command.get_args().take_while(|&argument| argument != "--");
    alone.args(given).args(["--", ONE_AT_A_TIME, "--exact"]);
    alone.args(failed.iter().map(|test| &test.name));
    alone
}

/// Prints lines that were asked for, as far as somebody reads them.
pub fn list(lines: impl IntoIterator<Item = impl Display>) {
    let mut out = io::stdout();
    for line in lines {
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
}

/// Says which command runs: with its environment, so that it can be repeated by hand.
fn announce(command: &Command) {
    let environment: String = command
        .get_envs()
        .filter_map(|(key, value)| Some((key.to_string_lossy(), value?.to_string_lossy())))
        .map(|(key, value)| format!("{key}='{value}' "))
        .collect();
    println!("$ {environment}{}", process::shown(command));
}

struct Row {
    name: &'static str,
    outcome: Outcome,
    elapsed: Duration,
}

/// The steps run so far.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    planned: usize,
}

impl Report {
    /// A report over `planned` steps.
    pub fn new(planned: usize) -> Self {
        Self {
            rows: Vec::new(),
            planned,
        }
    }

    /// Runs one step and tells its result.
    pub fn step(&mut self, name: &'static str, about: &str, work: impl FnOnce() -> Outcome) {
        println!(
            "\n== {}/{} {name}: {about}",
            self.rows.len() + 1,
            self.planned
        );
        let start = Instant::now();
        let outcome = work();
        let row = Row {
            name,
            outcome,
            elapsed: start.elapsed(),
        };
        println!(
            "== {name}: {} in {}",
            row.outcome.counts,
            seconds(row.elapsed)
        );
        self.rows.push(row);
    }

    /// Prints what failed tests said once more, the table, the skipped parts with their reasons, the failures, and
    /// as the very last line the totals alone. True if nothing failed.
    pub fn finish(self) -> bool {
        self.tell_failures();
        println!(
            "\n{:<12} {:>8} {:>8} {:>8} {:>8} {:>9}",
            "step", "passed", "failed", "unsteady", "skipped", "time"
        );
        let mut totals = Counts::default();
        for Row {
            name,
            outcome: Outcome { counts, .. },
            elapsed,
        } in &self.rows
        {
            let Counts {
                passed,
                failed,
                unsteady,
                skipped,
            } = counts;
            println!(
                "{name:<12} {passed:>8} {failed:>8} {unsteady:>8} {skipped:>8} {:>9}",
                seconds(*elapsed)
            );
            totals += *counts;
        }
        self.list("skipped", |outcome| outcome.skips.iter().collect());
        self.list(
            "unsteady (failed, and passed when run once more)",
            |outcome| {
                outcome
                    .unsteady_tests
                    .iter()
                    .map(|test| &test.name)
                    .collect()
            },
        );
        self.list("failed", |outcome| {
            let names = outcome.failed_tests.iter().map(|test| &test.name);
            outcome.failure.iter().chain(names).collect()
        });
        println!("\n{totals}");
        totals.failed == 0
    }

    /// They have been said long before, among the lines of other tests and steps.
    fn tell_failures(&self) {
        for Row { name, outcome, .. } in &self.rows {
            let unsteady = outcome.unsteady_tests.iter();
            for test in unsteady.chain(&outcome.failed_tests) {
                println!("\n---- {name}: {} ----", test.name);
                test.said.iter().for_each(|line| println!("{line}"));
            }
        }
    }

    fn list(&self, title: &str, of: impl Fn(&Outcome) -> Vec<&String>) {
        let lines: Vec<_> = self
            .rows
            .iter()
            .flat_map(|row| {
                of(&row.outcome)
                    .into_iter()
                    .map(|text| (row.name, text.as_str()))
            })
            .collect();
        if !lines.is_empty() {
            println!("\n{title}:");
            lines
                .iter()
                .for_each(|(name, text)| println!("  {name}: {text}"));
        }
    }
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(names: &[&str]) -> Vec<FailedTest> {
        let test = |name: &&str| FailedTest {
            name: (*name).to_owned(),
            said: Vec::new(),
        };
        names.iter().map(test).collect()
    }

    fn outcome(passed: u64, names: &[&str]) -> Outcome {
        Outcome {
            counts: Counts {
                passed,
                failed: names.len() as u64,
                ..Counts::default()
            },
            failure: (!names.is_empty()).then(|| "exit code 101".to_owned()),
            failed_tests: failed(names),
            ..Outcome::single(Ok(()))
        }
    }

    #[test]
    fn test_who_passes_the_second_time_is_unsteady() {
        let after = outcome(5, &["a", "b"]).after(&outcome(1, &["b"]));
        let expected = Counts {
            passed: 5,
            failed: 1,
            unsteady: 1,
            skipped: 0,
        };
        assert_eq!(after.counts, expected);
        assert!(after.failed() && after.failure.is_some());
        assert_eq!(after.failed_tests, failed(&["b"]));
        assert_eq!(after.unsteady_tests, failed(&["a"]));

        let after = outcome(5, &["a", "b"]).after(&outcome(2, &[]));
        assert!(!after.failed() && after.failure.is_none());
        assert_eq!(after.counts.unsteady, 2);
    }

    #[test]
    fn test_a_second_time_that_says_nothing_of_a_test_changes_nothing() {
        let did_not_build = Outcome::single(Err("exit code 101".to_owned()));
        let mut skipped = outcome(1, &[]);
        skipped.counts.skipped = 1;
        for again in [&did_not_build, &outcome(1, &[]), &skipped] {
            let after = outcome(5, &["a", "b"]).after(again);
            assert_eq!(after.counts.failed, 2);
            assert_eq!(after.failed_tests, failed(&["a", "b"]));
        }
    }

    #[test]
    fn test_only_a_few_that_are_known_are_run_once_more() {
        assert!(!outcome(5, &[]).may_be_unsteady());
        assert!(outcome(5, &["a", "b", "c"]).may_be_unsteady());
        assert!(!outcome(5, &["a", "b", "c", "d"]).may_be_unsteady());
        assert!(!Outcome::single(Err("stopped after its limit".to_owned())).may_be_unsteady());
    }

    #[test]
    fn test_failed_tests_run_as_they_did_but_alone() {
        let mut command = Command::new("cargo");
        command.args(["test", "-p", "l2fwd", "--", "--test-threads=1"]);
        command.env("SUMAC_PINGS", "5");
        let alone = by_themselves(&command, &failed(&["a::b", "c"]));
        assert_eq!(
            process::shown(&alone),
            "cargo test -p l2fwd -- --test-threads=1 --exact a::b c"
        );
        assert_eq!(alone.get_envs().count(), 1);
    }
}
