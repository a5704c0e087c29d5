//! `cargo xtask mutants`: takes each isolation mechanism away in turn, and shows the test that then fails.
//!
//! What is taken away and which test is to notice is data: `xtask/mutants.txt`, read by [`table`]. Each is
//! made in a copy of the tree ([`tree`]), built there, and its test run. A test that fails, a test program
//! that dies and one that never ends are all a mechanism that was missed; a test that passes is a mechanism
//! that nothing holds.
//!
//! Invariant: a test counts only if it passed in the same run on the tree as it is, and a mutant that does
//! not build counts as one that was not noticed.

mod table;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use self::table::{Mutant, Suite};
use self::tree::Tree;
use crate::workspace::cargo;
use crate::{process, report};

/// Building a crate and all that depends on it on two slow cores, and the trusted build where a test needs it.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);
/// What tests may take that pass.
const BASELINE_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Which mechanisms to take away.
#[derive(Args)]
pub struct Options {
    /// Rows of docs/isolation.md; all of them if none is named.
    #[arg(long, value_name = "ROW")]
    only: Vec<u8>,
    /// Mechanisms whose names contain this.
    #[arg(long, value_name = "WORDS")]
    named: Option<String>,
    /// List the mechanisms and the tests that hold them, and stop.
    #[arg(long)]
    list: bool,
}

/// Runs the mutants asked for; true if each was noticed.
pub fn run(options: &Options) -> bool {
    match run_all(options) {
        Ok(passed) => passed,
        Err(error) => {
            eprintln!("xtask: {error}");
            false
        }
    }
}

fn run_all(options: &Options) -> Result<bool, String> {
    let mutants: Vec<Mutant> = table::read()?
        .into_iter()
        .filter(|mutant| options.only.is_empty() || options.only.contains(&mutant.row))
        .filter(|mutant| {
            let words = options.named.as_ref();
            words.is_none_or(|words| mutant.mechanism.contains(words))
        })
        .collect();
    if mutants.is_empty() {
        return Err("no such mechanism; --list shows them".to_owned());
    }
    if options.list {
        report::list(mutants);
        return Ok(true);
    }
    let tree = Tree::copy()?;
    for mutant in &mutants {
        mutant.applied(&tree)?;
    }
    baseline(&mutants, &tree)?;
    let mut lines = Vec::new();
    let mut missed = 0;
    for mutant in &mutants {
        let start = Instant::now();
        let found = try_one(mutant, &tree).unwrap_or_else(|error| {
            eprintln!("{error}");
            Found::NotTried
        });
        missed += u32::from(!found.noticed());
        let seconds = start.elapsed().as_secs_f64();
        let line = format!(
            "| {} | {} | `{}` | {} | {seconds:.0} |",
            mutant.row,
            mutant.mechanism,
            mutant.test,
            found.words()
        );
        println!("{line}");
        lines.push(line);
    }
    println!("\n| row | mechanism taken away | test | it | seconds |\n|---|---|---|---|--:|");
    lines.iter().for_each(|line| println!("{line}"));
    println!(
        "\n{} mechanisms taken away, {missed} not noticed",
        mutants.len()
    );
    Ok(missed == 0)
}

/// What became of a test.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Passed,
    Failed,
    /// Its program ended by a signal, or without a word.
    Died,
    Hung,
    /// It does not build, or its test is not there: nothing is known of it.
    NotTried,
}

impl Found {
    fn noticed(self) -> bool {
        !matches!(self, Self::Passed | Self::NotTried)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Passed => "PASSES: nothing holds it",
            Self::Failed => "fails",
            Self::Died => "dies",
            Self::Hung => "never ends",
            Self::NotTried => "NOT TRIED: it does not build",
        }
    }
}

/// Every test passes on the tree as it is.
fn baseline(mutants: &[Mutant], tree: &Tree) -> Result<(), String> {
    let mut suites = BTreeMap::<_, Vec<&str>>::new();
    for mutant in mutants {
        let tests = suites.entry(&mutant.suite).or_default();
        if !tests.contains(&mutant.test.as_str()) {
            tests.push(&mutant.test);
        }
    }
    for (suite, tests) in suites {
        build(suite, tree)?;
        let found = test(suite, &tests, tree, BASELINE_LIMIT)?;
        if found != Found::Passed {
            let words = found.words();
            return Err(format!("{suite} {words} as it is: {}", tests.join(", ")));
        }
        println!("{suite}: {} tests pass as it is", tests.len());
    }
    Ok(())
}

fn try_one(mutant: &Mutant, tree: &Tree) -> Result<Found, String> {
    let changed = mutant.applied(tree)?;
    let original = tree.change(&mutant.file, &changed)?;
    let suite = &mutant.suite;
    let found = build(suite, tree).and_then(|()| test(suite, &[&mutant.test], tree, mutant.limit));
    tree.change(&mutant.file, &original)?;
    found.map_err(|error| format!("{mutant}: {error}"))
}

fn build(suite: &Suite, tree: &Tree) -> Result<(), String> {
    let mut build = tree.command(cargo(["test", "--quiet", "--no-run"]), suite.is_loom());
    build.args(suite.arguments());
    let mut said = Vec::new();
    process::listen(&mut build, BUILD_LIMIT, |line| said.push(line.to_owned()))
        .map_err(|error| format!("it does not build: {error}\n{}", said.join("\n")))
}

/// Runs tests by their whole names, all of which must be there.
fn test(suite: &Suite, names: &[&str], tree: &Tree, limit: Duration) -> Result<Found, String> {
    let mut test = tree.command(cargo(["test"]), suite.is_loom());
    test.args(suite.arguments()).arg("--").arg("--exact");
    test.args(names);
    let (mut begun, mut failed, mut said) = (0, false, Vec::new());
    let start = Instant::now();
    let result = process::listen(&mut test, limit, |line| {
        begun += running(line);
        failed |= line.ends_with(" ... FAILED") || line.starts_with("test result: FAILED");
        said.push(line.to_owned());
    });
    if begun != names.len() {
        return Err(format!(
            "{begun} of {} tests were found: {}\n{}",
            names.len(),
            names.join(", "),
            said.join("\n")
        ));
    }
    Ok(match result {
        Ok(()) => Found::Passed,
        Err(_) if failed => Found::Failed,
        Err(_) if start.elapsed() >= limit => Found::Hung,
        Err(_) => Found::Died,
    })
}

/// The number in `running 3 tests`.
fn running(line: &str) -> usize {
    line.strip_prefix("running ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Where the copy and what is built of it are.
fn folder() -> PathBuf {
    crate::workspace::target_dir().join("mutants")
}
