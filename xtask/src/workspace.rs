//! Where the repository is and how cargo is called in it.
//!
//! Invariant: after [`enter`] the working directory is the repository root, so every path in this
//! program is relative to it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the repository root the working directory.
///
/// # Errors
/// A message if the root, known from when this program was built, is gone.
pub fn enter() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    env::set_current_dir(&root).map_err(|e| {
        format!(
            "{}: {e}; the repository was moved, run `cargo clean -p xtask`",
            root.display()
        )
    })
}

/// A cargo command by the same cargo that runs this program.
///
/// Flags of an outer build (`cargo run` exports none, a caller may) are kept apart by the callers
/// that set their own `RUSTFLAGS`: those also name a target directory of their own.
pub fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// The folder cargo builds into: `target`, unless the caller's environment says otherwise.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from)
}
