//! Domain files for tests, as users have them: built and signed by `cargo xtask domains`.
//!
//! Invariant: files, key and list of trusted keys lie in a folder of the test's own. Nothing is read from
//! or written to the configuration of whoever runs the tests.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Domain files and the configuration that trusts them, gone when this is dropped.
pub struct BuiltDomains(TempDir);

impl BuiltDomains {
    /// Builds the domains of these names.
    ///
    /// # Panics
    /// When the build fails; with what it said.
    pub fn build(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let build = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--package", "xtask", "--", "domains"])
            .args(names)
            .args([OsStr::new("--out"), folder.path().as_os_str()])
            .env("XDG_CONFIG_HOME", folder.path())
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .output()
            .expect("cargo runs");
        let said = String::from_utf8_lossy(&build.stderr);
        assert!(build.status.success(), "the trusted build: {said}");
        Self(folder)
    }

    /// Where the domain files are, and what `XDG_CONFIG_HOME` has to be for them to be trusted.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Where the file of a domain is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.domain"))
    }

    /// The bytes of a domain's file.
    ///
    /// # Panics
    /// When it was not built.
    pub fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("it was built")
    }
}
