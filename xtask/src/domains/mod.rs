//! `cargo xtask domains`: the trusted build, from a safe crate of `domains/` to a signed domain file.
//!
//! A domain is isolated because its code is safe. This build is what vouches for that, so it refuses first
//! and compiles after: [`sources`] reads every line that goes into the image and is not the framework's,
//! [`crates`] knows what may be depended on. Then a generated [`shell`] is compiled with pinned flags
//! ([`image`]) and the result is signed ([`sign`]).
//!
//! Invariant: a file is signed only if all of that passed in this run.

mod allowed;
mod crates;
mod image;
mod refusal;
mod shell;
mod sign;
mod sources;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::Args;

use self::shell::Domain;
use self::sign::Key;
use crate::workspace::target_dir;

/// Which domains to build, and who signs them.
#[derive(Args)]
pub struct Options {
    /// Domains by name (a folder of domains/); all of them if none is named.
    names: Vec<String>,
    /// The file of the key to sign with: 64 hexadecimal digits, mode 600. Without it a development key is
    /// used, which is made on first use in the configuration folder (~/.config/sumac).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where domain files go [default: target/domains].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Options {
    /// All domains, signed with the development key.
    pub fn all() -> Self {
        Self {
            names: Vec::new(),
            key: None,
            out: None,
        }
    }
}

/// Builds what was asked for; true if all of it was built and signed.
pub fn run(options: &Options) -> bool {
    match build_all(options) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("xtask: {error}");
            false
        }
    }
}

fn build_all(options: &Options) -> Result<(), String> {
    let root = fs::canonicalize(".").map_err(|e| format!("the repository: {e}"))?;
    let target = std::path::absolute(target_dir()).map_err(|e| format!("target: {e}"))?;
    let work = target.join("domains");
    let out = options.out.as_deref().unwrap_or(&work);
    let known = names(&root.join("domains"))?;
    if let Some(unknown) = options.names.iter().find(|name| !known.contains(name)) {
        return Err(format!(
            "no domain {unknown}; there are: {}",
            known.join(", ")
        ));
    }
    let wanted = if options.names.is_empty() {
        &known
    } else {
        &options.names
    };
    let _alone = alone(&work)?;
    let key = Key::open(options.key.as_deref())?;
    for name in wanted {
        let folder = root.join("domains").join(name);
        let file = build_one(name, &folder, &root, &work, &key)?;
        let path = out.join(format!("{name}.domain"));
        write(&path, &file)?;
        println!(
            "{}: {} bytes, signed by {}",
            path.display(),
            file.len(),
            key.public()
        );
    }
    Ok(())
}

/// Waits until no other process builds domains in `work`; none does until this is dropped. Cargo's own lock is not
/// enough: shells are written and checked before it is asked.
fn alone(work: &Path) -> Result<File, String> {
    // Programs that have domains built hold `lock` meanwhile.
    let path = work.join("build.lock");
    let locked = || {
        fs::create_dir_all(work)?;
        let file = File::create(&path)?;
        file.lock()?;
        Ok(file)
    };
    locked().map_err(|e: std::io::Error| format!("{}: {e}", path.display()))
}

/// A domain file's bytes.
fn build_one(
    name: &str,
    folder: &Path,
    root: &Path,
    work: &Path,
    key: &Key,
) -> Result<Vec<u8>, String> {
    let domain = domain(name, folder)?;
    let shell = domain.write_shell(root, &work.join("shell"))?;
    let refusals = crates::check(&shell, root, work)?;
    if !refusals.is_empty() {
        let shown: Vec<String> = refusals
            .into_iter()
            .map(|mut refusal| {
                if let Ok(inside) = refusal.file.strip_prefix(root) {
                    refusal.file = inside.to_owned();
                }
                refusal.to_string()
            })
            .collect();
        return Err(format!(
            "domain {name} is refused:\n  {}",
            shown.join("\n  ")
        ));
    }
    let image = image::build(&domain, &shell, root, &work.join("build"))?;
    key.sign(&image.elf, &image.description)
}

/// The domain of a folder.
fn domain(name: &str, folder: &Path) -> Result<Domain, String> {
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
    let package = text
        .lines()
        .skip_while(|line| line.trim() != "[package]")
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == "name")
        .map(|(_, name)| name.trim().trim_matches('"').to_owned())
        .ok_or_else(|| format!("{}: the package has no name", manifest.display()))?;
    Ok(Domain {
        name: name.to_owned(),
        package,
        folder: folder.to_owned(),
    })
}

/// Every folder of `domains/` with a manifest.
fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Writes a file whole or not at all: a host may be reading the old one.
fn write(path: &Path, contents: &[u8]) -> Result<(), String> {
    let error = |e: std::io::Error| format!("{}: {e}", path.display());
    let new = path.with_extension("domain.new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(error)?;
    }
    fs::write(&new, contents).map_err(error)?;
    fs::rename(&new, path).map_err(error)
}

#[cfg(test)]
mod tests;
