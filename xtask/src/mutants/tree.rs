//! A copy of the tree in which mutants are made, with a target folder of its own that is kept.
//!
//! Invariant: a file is written only where it differs, so that cargo builds again what changed and no more.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folder;

/// The copy.
pub struct Tree {
    root: PathBuf,
    build: PathBuf,
}

impl Tree {
    /// Copies every file that git knows or would add.
    ///
    /// # Errors
    /// No git, or a file that cannot be copied.
    pub fn copy() -> Result<Self, String> {
        let folder = std::path::absolute(folder()).map_err(|e| format!("target: {e}"))?;
        let tree = Self {
            root: folder.join("tree"),
            build: folder.join("build"),
        };
        let wanted = files()?;
        for file in &wanted {
            let contents = fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
            tree.write(file, &contents)?;
        }
        tree.prune(&tree.root, &wanted)?;
        Ok(tree)
    }

    /// A file's text.
    ///
    /// # Errors
    /// What the system says.
    pub fn text(&self, file: &Path) -> Result<String, String> {
        let path = self.root.join(file);
        fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Changes a file; its text until now.
    ///
    /// # Errors
    /// What the system says.
    pub fn change(&self, file: &Path, text: &str) -> Result<String, String> {
        let before = self.text(file)?;
        self.write(file, text.as_bytes())?;
        Ok(before)
    }

    /// A cargo command in the copy, for loom or not. Nobody debugs what is built there.
    pub fn command(&self, mut command: Command, loom: bool) -> Command {
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.build)
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("RUST_BACKTRACE", "0");
        if loom {
            // Another build of everything; its search is slow without optimisation.
            command
                .env("CARGO_TARGET_DIR", self.build.join("loom"))
                .env("CARGO_PROFILE_DEV_OPT_LEVEL", "2")
                .env("RUSTFLAGS", "--cfg loom");
        }
        command
    }

    fn write(&self, file: &Path, contents: &[u8]) -> Result<(), String> {
        let path = self.root.join(file);
        if fs::read(&path).is_ok_and(|old| old == contents) {
            return Ok(());
        }
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, contents))
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Removes what an earlier copy left and the tree has no more.
    fn prune(&self, folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<(), String> {
        let error = |e: std::io::Error| format!("{}: {e}", folder.display());
        for entry in fs::read_dir(folder).map_err(error)? {
            let path = entry.map_err(error)?.path();
            let inside = path.strip_prefix(&self.root).unwrap_or(&path);
            if path.is_dir() {
                self.prune(&path, wanted)?;
            } else if !wanted.contains(inside) {
                fs::remove_file(&path).map_err(error)?;
            }
        }
        Ok(())
    }
}

/// The files of the tree that are there.
fn files() -> Result<BTreeSet<PathBuf>, String> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .map_err(|e| format!("git ls-files: {e}"))?;
    if !listed.status.success() {
        let said = String::from_utf8_lossy(&listed.stderr);
        return Err(format!("git ls-files: {}", said.trim()));
    }
    let paths = listed.stdout.split(|byte| *byte == 0);
    let paths = paths.map(|path| PathBuf::from(OsStr::from_bytes(path)));
    Ok(paths.filter(|path| path.is_file()).collect())
}
