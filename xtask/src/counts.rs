//! Reads what test programs print: libtest's result lines and our own skip lines.
//!
//! A test that finds it cannot run here (not root, a program missing) writes one line
//! `SKIP name: reason` to standard error and returns. libtest counts it as passed; [`Counts`] moves
//! it to the skipped ones, so that a skipped test is never shown as passed.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that ran and passed.
    pub passed: u64,
    /// Tests that ran and failed, and steps that failed as a whole.
    pub failed: u64,
    /// Tests that failed, and passed when they were run once more.
    pub unsteady: u64,
    /// Tests and steps that did not run.
    pub skipped: u64,
}

impl Counts {
    /// None at all.
    const NONE: Self = Self {
        passed: 0,
        failed: 0,
        unsteady: 0,
        skipped: 0,
    };
    /// One passed.
    pub const ONE_PASSED: Self = Self {
        passed: 1,
        ..Self::NONE
    };
    /// One failed.
    pub const ONE_FAILED: Self = Self {
        failed: 1,
        ..Self::NONE
    };
    /// One skipped.
    pub const ONE_SKIPPED: Self = Self {
        skipped: 1,
        ..Self::NONE
    };
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.unsteady += other.unsteady;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} unsteady, {} skipped",
            self.passed, self.failed, self.unsteady, self.skipped
        )
    }
}

/// The most lines kept of what one failed test said: a panic's message, and of a long run's books the beginning.
const SAID_AT_MOST: usize = 80;

/// A test that failed.
#[derive(Debug, PartialEq, Eq)]
pub struct FailedTest {
    /// Its path in its program.
    pub name: String,
    /// What it said, line by line, as far as libtest captured it.
    pub said: Vec<String>,
}

/// What a test run came to.
#[derive(Debug, Default)]
pub struct Totals {
    /// How many tests passed, failed and were skipped.
    pub counts: Counts,
    /// A `name: reason` for each skipped test.
    pub skips: Vec<String>,
    /// The tests that failed, in the order in which they were listed.
    pub failed: Vec<FailedTest>,
}

/// The part of a test program's output that a line belongs to.
#[derive(Clone, Copy, Debug, Default)]
enum Part {
    #[default]
    Tests,
    /// After the first `failures:`, what each failed test said.
    FailuresSaid,
    /// After the second, their names.
    FailureNames,
}

/// Gathers counts, reasons for skips and what failed tests said from the lines a test run prints.
#[derive(Debug, Default)]
pub struct Reader {
    totals: Totals,
    part: Part,
    self_skipped: u64,
}

impl Reader {
    /// Takes one line of output.
    pub fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.part = Part::Tests;
            if let Some(counts) = result_line(rest) {
                self.totals.counts += counts;
            }
        } else if line == "failures:" {
            self.part = match self.part {
                Part::Tests => Part::FailuresSaid,
                Part::FailuresSaid | Part::FailureNames => Part::FailureNames,
            };
        } else if let Some(reason) = skip_line(line) {
            // On standard error, and so anywhere among what is on standard output.
            self.totals.skips.push(reason.to_owned());
            self.self_skipped += 1;
        } else {
            match self.part {
                Part::Tests => self.totals.skips.extend(ignored_line(line)),
                Part::FailuresSaid => self.said_line(line),
                Part::FailureNames => self.name_line(line),
            }
        }
    }

    fn said_line(&mut self, line: &str) {
        let failed = &mut self.totals.failed;
        if let Some(name) = heading(line) {
            failed.push(FailedTest {
                name: name.to_owned(),
                said: Vec::new(),
            });
        } else if let Some(FailedTest { said, .. }) = failed.last_mut()
            && said.len() < SAID_AT_MOST
        {
            said.push(line.to_owned());
        }
    }

    /// A test whose output was not captured has no heading.
    fn name_line(&mut self, line: &str) {
        let Some(name) = line.strip_prefix("    ") else {
            return;
        };
        let failed = &mut self.totals.failed;
        if failed.iter().all(|test| test.name != name) {
            failed.push(FailedTest {
                name: name.to_owned(),
                said: Vec::new(),
            });
        }
    }

    /// What it came to.
    pub fn finish(self) -> Totals {
        let Self {
            mut totals,
            self_skipped,
            ..
        } = self;
        let moved = self_skipped.min(totals.counts.passed);
        totals.counts.passed -= moved;
        totals.counts.skipped += moved;
        totals
    }
}

/// `---- name stdout ----`
fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`
fn result_line(rest: &str) -> Option<Counts> {
    let (_, numbers) = rest.split_once(". ")?;
    let mut counts = Counts::default();
    for part in numbers.split("; ") {
        let Some((number, what)) = part.split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        match what {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.skipped = number,
            _ => {}
        }
    }
    Some(counts)
}

/// `SKIP name: reason`. Tests run in parallel with a progress line on the same terminal, so the
/// mark may follow other text.
fn skip_line(line: &str) -> Option<&str> {
    let at = line.find("SKIP ")?;
    let rest = &line[at + "SKIP ".len()..];
    rest.contains(": ").then_some(rest)
}

/// `test name ... ignored, reason` or `test name ... ignored`
fn ignored_line(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = rest.strip_prefix(", ").unwrap_or("marked #[ignore]");
    Some(format!("{name}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Totals {
        let mut reader = Reader::default();
        lines.iter().for_each(|line| reader.line(line));
        reader.finish()
    }

    #[test]
    fn test_results_of_several_programs_add_up() {
        let Totals { counts, skips, .. } = read(&[
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1s",
        ]);
        assert_eq!(
            counts,
            Counts {
                passed: 4,
                failed: 2,
                unsteady: 0,
                skipped: 1
            }
        );
        assert!(skips.is_empty());
    }

    #[test]
    fn test_self_skipped_is_not_passed() {
        let Totals { counts, skips, .. } = read(&[
            "SKIP ping_flood: needs root",
            "test ping_flood ... ok",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ]);
        assert_eq!(
            counts,
            Counts {
                passed: 1,
                failed: 0,
                unsteady: 0,
                skipped: 1
            }
        );
        assert_eq!(skips, ["ping_flood: needs root"]);
    }

    #[test]
    fn test_ignored_reason_is_kept() {
        let Totals { counts, skips, .. } = read(&[
            "test forward ... ignored, needs DPDK",
            "test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
        ]);
        assert_eq!(counts.skipped, 1);
        assert_eq!(skips, ["forward: needs DPDK"]);
    }

    #[test]
    fn test_failed_tests_are_named_with_what_they_said() {
        let failed = read(&[
            "test a ... ok",
            "test b::c ... FAILED",
            "",
            "failures:",
            "",
            "---- b::c stdout ----",
            "",
            "thread 'b::c' panicked at src/b.rs:1:1:",
            "2 is not 3",
            "",
            "",
            "failures:",
            "    b::c",
            "    not_captured",
            "",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "    no name",
            "---- nothing stdout ----",
        ])
        .failed;
        let names: Vec<_> = failed.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(names, ["b::c", "not_captured"]);
        assert!(failed[0].said.contains(&"2 is not 3".to_owned()));
        assert!(failed[1].said.is_empty());
    }

    #[test]
    fn test_of_a_long_story_the_beginning_is_kept() {
        let mut reader = Reader::default();
        reader.line("failures:");
        reader.line("---- a stdout ----");
        (0..1000).for_each(|line| reader.line(&line.to_string()));
        let said = &reader.finish().failed[0].said;
        assert_eq!(said.len(), SAID_AT_MOST);
        assert_eq!(said[0], "0");
    }

    #[test]
    fn test_other_lines_count_nothing() {
        let Totals { counts, skips, .. } = read(&[
            "",
            "test a ... ok",
            "test result: ",
            "warning: x",
            "SKIPPED all",
            "SKIP",
        ]);
        assert_eq!(counts, Counts::default());
        assert!(skips.is_empty());
    }
}
