//! Every rule of the trusted build has a crate in `tests/refused` that breaks it, and it alone.
//!
//! A crate marks the lines where it does with `//~ RULE` (`#~ RULE` in a manifest). The checker must name
//! those files, lines and rules, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::refusal::Rule;
use super::{crates, domain};

type Marks = BTreeSet<(PathBuf, usize, String)>;

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository")
}

/// What the checker says of a crate.
fn check(folder: &Path) -> Marks {
    let work = tempfile::tempdir().expect("a temporary folder");
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a plain name");
    let domain = domain(name, folder).expect("a manifest");
    let shell = domain.write_shell(&root(), work.path()).expect("a shell");
    let refusals = crates::check(&shell, &root(), work.path()).expect("cargo resolves it");
    refusals
        .into_iter()
        .map(|refusal| {
            let text = refusal.to_string();
            let place = format!(
                "{}:{}: {}: ",
                refusal.file.display(),
                refusal.line,
                refusal.rule.name()
            );
            assert!(text.starts_with(&place), "{text}");
            (refusal.file, refusal.line, refusal.rule.name().to_owned())
        })
        .collect()
}

/// The marks in the files of a folder and its folders.
fn marks(folder: &Path) -> Marks {
    let mut marks = Marks::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            marks.extend(self::marks(&path));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        for (at, line) in text.lines().enumerate() {
            let told = line.split_once("//~ ").or(line.split_once("#~ "));
            let told = told.map_or("", |(_, rules)| rules);
            for rule in told.split(", ").filter(|rule| !rule.is_empty()) {
                marks.insert((path.clone(), at + 1, rule.to_owned()));
            }
        }
    }
    marks
}

#[test]
fn test_each_rule_refuses_its_crate_by_file_and_line() {
    let folder = root().join("xtask/tests/refused");
    let mut rules = BTreeSet::new();
    for entry in fs::read_dir(&folder).expect("the crates").flatten() {
        let krate = entry.path();
        let expected = marks(&krate);
        assert!(!expected.is_empty(), "{}: no mark", krate.display());
        assert_eq!(check(&krate), expected, "{}", krate.display());
        rules.extend(expected.into_iter().map(|(_, _, rule)| rule));
    }
    let missing: Vec<&str> = Rule::ALL
        .iter()
        .map(|rule| rule.name())
        .filter(|name| !rules.contains(*name))
        .collect();
    assert!(missing.is_empty(), "no crate breaks {missing:?}");
}

#[test]
fn test_domains_of_the_repository_pass() {
    for entry in fs::read_dir(root().join("domains"))
        .expect("the domains")
        .flatten()
    {
        if entry.path().join("Cargo.toml").is_file() {
            assert_eq!(
                check(&entry.path()),
                Marks::new(),
                "{}",
                entry.path().display()
            );
        }
    }
}
