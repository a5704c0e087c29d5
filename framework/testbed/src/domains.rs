//! Domain files for tests, as users have them: built and signed by `cargo xtask domains`.
//!
//! Invariant: files, key and list of trusted keys lie in a folder of the test's own. Nothing is read from
//! or written to the configuration of whoever runs the tests.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Mutex;

use tempfile::TempDir;

/// Folders to take away when the process ends, and the process that made them.
static LEFT: Mutex<Vec<(u32, PathBuf)>> = Mutex::new(Vec::new());

/// Domain files and the configuration that trusts them, gone when this is dropped or the process ends: test
/// programs build them once and keep them in a static, which nothing drops.
pub struct BuiltDomains(TempDir);

impl BuiltDomains {
    /// Builds the domains of these names.
    ///
    /// # Panics
    /// When the build fails; with what it said.
    pub fn build(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        remove_at_exit(folder.path().to_owned());
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

/// Takes a folder away when this process ends by itself.
fn remove_at_exit(folder: PathBuf) {
    let mut left = LEFT.lock().expect("no thread panics with it");
    if left.is_empty() {
        // SAFETY: `remove_left` takes no arguments, does not unwind, and is there as long as the process.
        unsafe { libc::atexit(remove_left) };
    }
    left.push((process::id(), folder));
}

/// A child that was forked owns none of them.
extern "C" fn remove_left() {
    if let Ok(left) = LEFT.try_lock() {
        for (owner, folder) in left.iter() {
            if *owner == process::id() {
                let _ = fs::remove_dir_all(folder);
            }
        }
    }
}
