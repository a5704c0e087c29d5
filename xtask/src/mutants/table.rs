//! The table of mutants: what is taken away where, and the test that is to notice.
//!
//! `xtask/mutants.txt` has them one after another:
//!
//! ```text
//! 13 the callee is found alive as it is entered
//!   in framework/runtime/src/gate.rs
//!   fails sumac-linux domains calls::arguments_of_a_call_that_is_refused_are_dropped
//!   - if !self.is_live() {
//!   + if false {
//! ```
//!
//! The row is that of docs/isolation.md. `fails` names package, target (`lib` and `bin` for unit tests, `loom`) and test;
//! `limit SECONDS` may say how long a test may take that takes longer, or ends never. Lines with `-` are the
//! text, which is in the file once, lines with `+` what takes its place.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tree::Tree;

const TABLE: &str = "xtask/mutants.txt";
/// How long a test may take that says nothing else.
const LIMIT: Duration = Duration::from_secs(120);

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suite {
    package: String,
    /// `lib`, `bin`, `loom` (of the library, as loom needs it), or a file or folder of `tests`.
    target: String,
}

impl Suite {
    /// Whether it is built with loom's atomics.
    pub fn is_loom(&self) -> bool {
        self.target == "loom"
    }

    /// What cargo needs to know.
    pub fn arguments(&self) -> Vec<&str> {
        let mut arguments = vec!["--package", &self.package];
        match self.target.as_str() {
            "lib" | "loom" => arguments.push("--lib"),
            "bin" => arguments.push("--bins"),
            test => arguments.extend(["--test", test]),
        }
        arguments
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.target)
    }
}

/// A mechanism taken away.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The row of docs/isolation.md.
    pub row: u8,
    /// What is taken away, in words.
    pub mechanism: String,
    /// Where.
    pub file: PathBuf,
    text: String,
    becomes: String,
    /// Where the test is.
    pub suite: Suite,
    /// The test that is to fail.
    pub test: String,
    /// How long it may take.
    pub limit: Duration,
}

impl Mutant {
    /// The file's text without the mechanism.
    ///
    /// # Errors
    /// The text is not there once.
    pub fn applied(&self, tree: &Tree) -> Result<String, String> {
        self.replaced(&tree.text(&self.file)?)
    }

    fn replaced(&self, text: &str) -> Result<String, String> {
        match text.matches(&self.text).count() {
            1 => Ok(text.replacen(&self.text, &self.becomes, 1)),
            found => Err(format!(
                "{TABLE}: row {}, {}: the text is {found} times in {}, not once",
                self.row,
                self.mechanism,
                self.file.display()
            )),
        }
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            row,
            mechanism,
            suite,
            test,
            ..
        } = self;
        write!(f, "{row:>2} {mechanism} ({suite} {test})")
    }
}

/// Reads the table.
///
/// # Errors
/// Where it is malformed.
pub fn read() -> Result<Vec<Mutant>, String> {
    let text = fs::read_to_string(TABLE).map_err(|e| format!("{TABLE}: {e}"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Mutant>, String> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let malformed = || format!("{TABLE}:{}: {line}", at + 1);
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let Some(part) = line.strip_prefix("  ") else {
            mutants.push(begin(line).ok_or_else(malformed)?);
            continue;
        };
        let mutant = mutants.last_mut().ok_or_else(malformed)?;
        // An empty line of code has no space behind its sign.
        let (key, rest) = part.split_once(' ').unwrap_or((part, ""));
        take(mutant, key, rest).ok_or_else(malformed)?;
    }
    let whole = |mutant: &Mutant| !mutant.text.is_empty() && !mutant.test.is_empty();
    match mutants.iter().find(|mutant| !whole(mutant)) {
        Some(mutant) => Err(format!("{TABLE}: `{}` is not whole", mutant.mechanism)),
        None => Ok(mutants),
    }
}

fn begin(line: &str) -> Option<Mutant> {
    let (row, mechanism) = line.split_once(' ')?;
    Some(Mutant {
        row: row.parse().ok()?,
        mechanism: mechanism.to_owned(),
        file: PathBuf::new(),
        text: String::new(),
        becomes: String::new(),
        suite: Suite {
            package: String::new(),
            target: String::new(),
        },
        test: String::new(),
        limit: LIMIT,
    })
}

fn take(mutant: &mut Mutant, key: &str, rest: &str) -> Option<()> {
    let add = |text: &mut String| {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(rest);
    };
    match key {
        "in" => mutant.file = Path::new(rest).to_owned(),
        "limit" => mutant.limit = Duration::from_secs(rest.parse().ok()?),
        "fails" => {
            let [package, target, test] = rest.split(' ').collect::<Vec<_>>()[..] else {
                return None;
            };
            mutant.suite = Suite {
                package: package.to_owned(),
                target: target.to_owned(),
            };
            mutant.test = test.to_owned();
        }
        "-" => add(&mut mutant.text),
        "+" => add(&mut mutant.becomes),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_root(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    }

    fn table() -> Vec<Mutant> {
        let text = fs::read_to_string(at_root(TABLE)).expect("the table");
        parse(&text).expect("a table")
    }

    #[test]
    fn test_every_text_is_in_its_file_once_and_changes_it() {
        let wrong: Vec<String> = table()
            .iter()
            .filter_map(|mutant| {
                let path = at_root(mutant.file.to_str().expect("a plain name"));
                let text = fs::read_to_string(&path).expect("a file of the tree");
                match mutant.replaced(&text) {
                    Ok(changed) => {
                        (changed == text).then(|| format!("{}: no change", mutant.mechanism))
                    }
                    Err(error) => Some(error),
                }
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn test_every_row_with_a_mechanism_has_a_mutant() {
        // 28 and 29 are measurements.
        let rows = (1..=24).chain([37, 38]);
        let table = table();
        let missing: Vec<u8> = rows
            .filter(|row| !table.iter().any(|mutant| mutant.row == *row))
            .collect();
        assert!(missing.is_empty(), "no mutant for rows {missing:?}");
    }

    #[test]
    fn test_a_table_is_read() {
        let text = "# note\n\n7 owners\n  in a.rs\n  limit 7\n  fails p t m::n\n  - one\n  -     two\n  -\n  + three\n";
        let table = parse(text).expect("a table");
        let [mutant] = &table[..] else {
            panic!("one mutant");
        };
        assert_eq!(mutant.text, "one\n    two\n");
        assert_eq!(mutant.suite.arguments(), ["--package", "p", "--test", "t"]);
        assert_eq!(
            (mutant.row, mutant.limit, mutant.test.as_str()),
            (7, Duration::from_secs(7), "m::n")
        );
        let changed = mutant.replaced("zero\none\n    two\n\nfour");
        assert_eq!(changed.as_deref(), Ok("zero\nthree\nfour"));
        for wrong in ["x y", "7 a\n  in", "7 a\n  fails one two\n", "  - a"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
