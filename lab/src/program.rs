//! Programs of this machine that go into a guest, or run beside it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::tools;

/// A program with its path.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// A program of this workspace, built in release mode: its package has the same name.
    ///
    /// # Panics
    /// When it does not build.
    pub fn built(name: &str) -> Self {
        static DONE: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let mut done = DONE.lock().unwrap_or_else(|broken| broken.into_inner());
        if !done.iter().any(|known| known == name) {
            build(name);
            done.push(name.to_owned());
        }
        Self::at(tools::target().join("release").join(name))
    }

    /// Any program.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// A command that runs it on this machine.
    pub fn command(&self) -> Command {
        Command::new(&self.path)
    }
}

fn build(name: &str) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", name])
        .args(["--bin", name])
        .current_dir(tools::workspace())
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "building {name}: {said}");
}
