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
    /// Tests and steps that did not run.
    pub skipped: u64,
}

impl Counts {
    /// One passed.
    pub const ONE_PASSED: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    /// One failed.
    pub const ONE_FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    /// One skipped.
    pub const ONE_SKIPPED: Self = Self {
        passed: 0,
        failed: 0,
        skipped: 1,
    };
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Gathers counts and reasons for skips from the lines a test run prints.
#[derive(Debug, Default)]
pub struct Reader {
    totals: Counts,
    skips: Vec<String>,
    self_skipped: u64,
}

impl Reader {
    /// Takes one line of output.
    pub fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            if let Some(counts) = result_line(rest) {
                self.totals += counts;
            }
        } else if let Some(reason) = skip_line(line) {
            self.skips.push(reason.to_owned());
            self.self_skipped += 1;
        } else if let Some(reason) = ignored_line(line) {
            self.skips.push(reason);
        }
    }

    /// The totals, and a `name: reason` for each skipped test.
    pub fn finish(self) -> (Counts, Vec<String>) {
        let moved = self.self_skipped.min(self.totals.passed);
        let totals = Counts {
            passed: self.totals.passed - moved,
            skipped: self.totals.skipped + moved,
            failed: self.totals.failed,
        };
        (totals, self.skips)
    }
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

    fn read(lines: &[&str]) -> (Counts, Vec<String>) {
        let mut reader = Reader::default();
        lines.iter().for_each(|line| reader.line(line));
        reader.finish()
    }

    #[test]
    fn test_results_of_several_programs_add_up() {
        let (counts, skips) = read(&[
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1s",
        ]);
        assert_eq!(
            counts,
            Counts {
                passed: 4,
                failed: 2,
                skipped: 1
            }
        );
        assert!(skips.is_empty());
    }

    #[test]
    fn test_self_skipped_is_not_passed() {
        let (counts, skips) = read(&[
            "SKIP ping_flood: needs root",
            "test ping_flood ... ok",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ]);
        assert_eq!(
            counts,
            Counts {
                passed: 1,
                failed: 0,
                skipped: 1
            }
        );
        assert_eq!(skips, ["ping_flood: needs root"]);
    }

    #[test]
    fn test_ignored_reason_is_kept() {
        let (counts, skips) = read(&[
            "test forward ... ignored, needs DPDK",
            "test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
        ]);
        assert_eq!(counts.skipped, 1);
        assert_eq!(skips, ["forward: needs DPDK"]);
    }

    #[test]
    fn test_other_lines_count_nothing() {
        let (counts, skips) = read(&[
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
