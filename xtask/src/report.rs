//! Runs steps one after another, says what happens, and sums up at the end.
//!
//! Invariant: every step that was planned has exactly one row in the summary.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::counts::{Counts, FailedTest, Reader, Totals};
use crate::process;

/// What came of a step.
pub struct Outcome {
    counts: Counts,
    /// Why it failed, if it did.
    failure: Option<String>,
    /// `name: reason` for each part that did not run.
    skips: Vec<String>,
    failed_tests: Vec<FailedTest>,
}

impl Outcome {
    /// The whole step did not run, for this reason.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self {
            counts: Counts::ONE_SKIPPED,
            failure: None,
            skips: vec![reason.into()],
            failed_tests: Vec::new(),
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
    }
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
            "\n{:<12} {:>8} {:>8} {:>8} {:>9}",
            "step", "passed", "failed", "skipped", "time"
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
                skipped,
            } = counts;
            println!(
                "{name:<12} {passed:>8} {failed:>8} {skipped:>8} {:>9}",
                seconds(*elapsed)
            );
            totals += *counts;
        }
        self.list("skipped", |outcome| outcome.skips.iter().collect());
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
            for test in &outcome.failed_tests {
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
