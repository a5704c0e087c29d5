//! Building a shell into an image, with pinned flags.
//!
//! Invariant: no flag, wrapper or setting of the caller's environment reaches the compiler.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::shell::Domain;
use crate::process;
use crate::workspace::cargo;

const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Variables by which a caller would change how code is compiled.
const UNPINNED: [&str; 12] = [
    "RUSTFLAGS",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_BOOTSTRAP",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_INCREMENTAL",
    "CARGO_UNSTABLE_BUILD_STD",
    "CARGO_TARGET_DIR",
];

/// A built image and what its root interface looks like.
pub struct Image {
    /// The ELF file.
    pub elf: Vec<u8>,
    /// The root interface in words.
    pub description: Vec<u8>,
}

/// Builds a domain's shell.
///
/// # Errors
/// What the compiler or the linker said is on the terminal; this says which of them failed.
pub fn build(domain: &Domain, shell: &Path, root: &Path, into: &Path) -> Result<Image, String> {
    for package in [
        format!("{}-shell", domain.name),
        format!("{}-describe", domain.name),
    ] {
        let mut build = pinned(["build", "--release", "--quiet", "--locked"], shell, root);
        build
            .args(["--package", &package, "--target-dir"])
            .arg(into);
        process::run(&mut build, LIMIT, |_| {}).map_err(|e| format!("{}: {e}", domain.name))?;
    }
    let library = format!("lib{}_shell.so", domain.name.replace('-', "_"));
    let built = into.join("release");
    let elf = read(&built.join(library))?;
    let describe = built.join(format!("{}-describe", domain.name));
    let told = Command::new(&describe)
        .output()
        .map_err(|e| format!("{}: {e}", describe.display()))?;
    if !told.status.success() {
        return Err(format!("{}: {}", describe.display(), told.status));
    }
    Ok(Image {
        elf,
        description: told.stdout,
    })
}

/// A cargo command in the shell, that compiles as it did yesterday and elsewhere.
pub fn pinned<const N: usize>(arguments: [&str; N], shell: &Path, root: &Path) -> Command {
    let mut command = cargo(arguments);
    for name in UNPINNED {
        command.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PROFILE_") || text.starts_with("CARGO_TARGET_X86_64") {
            command.env_remove(name);
        }
    }
    // Where the sources lie is not to be told by panic messages. Flags given this way win over all
    // configuration files.
    let mut flags = vec![format!("--remap-path-prefix={}=/sumac", root.display())];
    if let Some(home) = cargo_home() {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    command
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .arg("--manifest-path")
        .arg(shell.join("Cargo.toml"));
    command
}

fn cargo_home() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}
