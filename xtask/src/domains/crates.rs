//! What a domain depends on: every crate that cargo would compile into its image, or run while it builds.
//!
//! Invariant: each of them is the framework's ([`allowed::FRAMEWORK`]), or a crate of this repository read
//! like the domain itself, or a crate from the registry on the list, as `Cargo.lock` has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::allowed;
use super::image::pinned;
use super::refusal::{Refusal, Rule};
use super::sources;

/// The one registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    root: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Package {
    fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }

    /// The target of a kind that cargo would compile.
    fn target(&self, kind: &str) -> Option<&Target> {
        let is = |target: &&Target| target.kind.iter().any(|k| k == kind);
        self.targets.iter().find(is)
    }
}

/// What is refused in the shell's dependencies, the domain first among them.
///
/// # Errors
/// Dependencies that cargo cannot resolve, or files that cannot be read.
pub fn check(shell: &Path, root: &Path, work: &Path) -> Result<Vec<Refusal>, String> {
    let metadata = metadata(shell, root, work)?;
    let packages: BTreeMap<&str, &Package> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package))
        .collect();
    let nodes: BTreeMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let start = metadata
        .resolve
        .root
        .as_deref()
        .ok_or("cargo metadata: no root package")?;
    let mut refusals = check_lock(shell, root)?;
    let (mut seen, mut pending) = (BTreeSet::from([start]), vec![start]);
    while let Some(id) = pending.pop() {
        let (node, user) = nodes
            .get(id)
            .zip(packages.get(id))
            .ok_or_else(|| format!("cargo metadata: no package {id}"))?;
        for edge in node.deps.iter().filter(|edge| compiled(edge)) {
            if !seen.insert(&edge.pkg) {
                continue;
            }
            let package = packages
                .get(edge.pkg.as_str())
                .ok_or_else(|| format!("cargo metadata: no package {}", edge.pkg))?;
            if check_package(package, user, root, &mut refusals)? {
                pending.push(&edge.pkg);
            }
        }
    }
    refusals.sort();
    Ok(refusals)
}

/// Whether a dependency is there when an image is built, not for tests only.
fn compiled(edge: &Edge) -> bool {
    edge.dep_kinds
        .iter()
        .any(|kind| kind.kind.as_deref() != Some("dev"))
}

/// Checks one crate; true if what it depends on is to be checked too.
fn check_package(
    package: &Package,
    user: &Package,
    root: &Path,
    refusals: &mut Vec<Refusal>,
) -> Result<bool, String> {
    let Package { name, version, .. } = package;
    let refuse = |rule, what: String| {
        let (file, line) = dependency_line(user, name);
        Refusal::new(rule, &file, line, what)
    };
    let known = |list: &[&str]| list.contains(&name.as_str());
    if let Some(source) = &package.source {
        if source == REGISTRY && (known(&allowed::IN_IMAGES) || known(&allowed::IN_BUILDS)) {
            return Ok(true);
        }
        let what = format!("{name} {version} is not on the list of what domains may depend on");
        let rule = match package.target("proc-macro") {
            Some(_) => Rule::ProcMacro,
            None => Rule::Dependency,
        };
        refusals.push(refuse(rule, what));
        return Ok(false);
    }
    let Ok(folder) = package.folder().strip_prefix(root) else {
        let what = format!(
            "{name} is at {}, outside the repository",
            package.folder().display()
        );
        refusals.push(refuse(Rule::Dependency, what));
        return Ok(false);
    };
    if folder
        .to_str()
        .is_some_and(|folder| allowed::FRAMEWORK.contains(&folder))
    {
        return Ok(true);
    }
    if package.target("proc-macro").is_some() {
        let what = format!("{name} is a macro's program, which runs while domains are built");
        refusals.push(refuse(Rule::ProcMacro, what));
        return Ok(false);
    }
    refusals.extend(check_own(package)?);
    Ok(true)
}

/// Checks a crate of this repository that is not the framework's: the domain, a driver, an interface.
fn check_own(package: &Package) -> Result<Vec<Refusal>, String> {
    let mut refusals = Vec::new();
    if let Some(script) = package.target("custom-build") {
        let what = "a program that runs when the crate is built";
        refusals.push(Refusal::new(Rule::BuildScript, &script.src_path, 1, what));
    }
    match package.target("lib") {
        Some(library) => refusals.extend(sources::check(package.folder(), &library.src_path)?),
        None => {
            let what = "no plain library: a domain's crate, and what it depends on, is one";
            refusals.push(Refusal::new(
                Rule::Dependency,
                &package.manifest_path,
                1,
                what,
            ));
        }
    }
    Ok(refusals)
}

/// Where a manifest names a dependency.
fn dependency_line(user: &Package, name: &str) -> (PathBuf, usize) {
    let text = fs::read_to_string(&user.manifest_path).unwrap_or_default();
    let quoted = format!("\"{name}\"");
    let names = |line: &str| {
        let key = line.split(['=', '.']).next().unwrap_or_default().trim();
        key.trim_matches('"') == name || line.contains(&quoted)
    };
    let mut in_dependencies = false;
    for (at, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
            if in_dependencies && line.ends_with(&format!(".{name}]")) {
                return (user.manifest_path.clone(), at + 1);
            }
        } else if in_dependencies && names(line) {
            return (user.manifest_path.clone(), at + 1);
        }
    }
    (user.manifest_path.clone(), 1)
}

fn metadata(shell: &Path, root: &Path, work: &Path) -> Result<Metadata, String> {
    let mut command = pinned(
        [
            "metadata",
            "--quiet",
            "--format-version=1",
            "--filter-platform=x86_64-unknown-linux-gnu",
        ],
        shell,
        root,
    );
    let output = command
        .current_dir(work)
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo metadata: {}", text.trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))
}

/// Every locked crate from outside is locked like that in the repository.
fn check_lock(shell: &Path, root: &Path) -> Result<Vec<Refusal>, String> {
    let read =
        |path: &Path| fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let ours = shell.join("Cargo.lock");
    let known = locked(&read(&root.join("Cargo.lock"))?);
    let unknown = locked(&read(&ours)?)
        .into_iter()
        .filter(|(krate, _)| !known.contains_key(krate))
        .map(|(krate, line)| {
            let what = format!("{krate} is not what the repository's Cargo.lock has");
            Refusal::new(Rule::Dependency, &ours, line, what)
        });
    Ok(unknown.collect())
}

/// Crates from outside in a lock file, as name, version, source and checksum, with the line they begin at.
fn locked(lock: &str) -> BTreeMap<String, usize> {
    let mut crates = BTreeMap::new();
    let lines: Vec<&str> = lock.lines().collect();
    for (at, _) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| **line == "[[package]]")
    {
        let fields = lines
            .iter()
            .skip(at + 1)
            .take_while(|line| !line.is_empty());
        let told: Vec<&str> = fields
            .filter_map(|line| line.split_once(" = "))
            .filter(|(key, _)| ["name", "version", "source", "checksum"].contains(key))
            .map(|(_, value)| value.trim_matches('"'))
            .collect();
        if told.len() > 2 {
            crates.insert(told.join(" "), at + 1);
        }
    }
    crates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_lock_files_are_compared_by_checksum() {
        let lock = |checksum: &str| {
            format!(
                "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry\"\n\
                 checksum = \"{checksum}\"\ndependencies = [\n \"b\",\n]\n\n\
                 [[package]]\nname = \"own\"\nversion = \"0.1.0\"\n"
            )
        };
        let (one, two) = (locked(&lock("12")), locked(&lock("13")));
        assert_eq!(one.keys().collect::<Vec<_>>(), ["a 1.0.0 registry 12"]);
        assert_ne!(one, two);
    }
}
