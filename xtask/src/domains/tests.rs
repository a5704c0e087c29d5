//! Every rule of the trusted build has a crate in `tests/refused` that breaks it, and it alone.
//!
//! What the checker lets through and the compiler must not is in `tests/beyond`: authority that no domain has.
//!
//! A crate marks the lines where it does with `//~ RULE` (`#~ RULE` in a manifest). The checker must name
//! those files, lines and rules, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::refusal::Rule;
use super::{crates, domain, image};
use crate::workspace::target_dir;

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

/// Compiles a crate of `tests/beyond` as for an image; what the compiler says, which is not to be nothing.
fn beyond(name: &str) -> (PathBuf, String) {
    let folder = root().join("xtask/tests/beyond").join(name);
    assert_eq!(
        check(&folder),
        Marks::new(),
        "the checker is not what holds this"
    );
    let work = root().join(target_dir()).join("domains/beyond");
    let domain = domain(name, &folder).expect("a manifest");
    let shell = domain.write_shell(&root(), &work).expect("a shell");
    let mut command = image::pinned(
        ["check", "--release", "--quiet", "--message-format=short"],
        &shell,
        &root(),
    );
    command.arg("--target-dir").arg(work.join("build"));
    let output = command.output().expect("cargo runs");
    assert!(!output.status.success(), "{name} compiles");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (folder.join("src/lib.rs"), said)
}

#[test]
fn test_what_only_hosts_and_gates_may_do_does_not_compile_into_images() {
    for name in ["hosts_part", "gates_part", "application"] {
        let (file, said) = beyond(name);
        let text = fs::read_to_string(&file).expect("a file");
        let marked = (1..)
            .zip(text.lines())
            .filter(|(_, line)| line.contains("//~"))
            .map(|(at, _)| at);
        let refused: BTreeSet<usize> = said
            .lines()
            .filter(|line| line.contains(": error"))
            .filter_map(|line| {
                line.split_once("lib.rs:")?
                    .1
                    .split(':')
                    .next()?
                    .parse()
                    .ok()
            })
            .collect();
        assert_eq!(refused, marked.collect(), "{name}: {said}");
    }
}

#[test]
fn test_a_root_of_another_interface_does_not_compile() {
    let (_, said) = beyond("another_root");
    assert!(said.contains("error[E0308]"), "{said}");
}
