//! What can go wrong outside a test's own subject.

use std::io;
use std::path::{Path, PathBuf};

/// Why the lab could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Packages cannot be had, or this machine cannot run the lab: tests are skipped.
    #[error("{0}")]
    Unavailable(String),
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A program did not do its work.
    #[error("{program}: {said}")]
    Program {
        /// Which, as one would type it.
        program: String,
        /// What it said, or how it ended.
        said: String,
    },
    /// The guest's kernel has no such module.
    #[error("the guest's kernel has no module {0}")]
    NoModule(String),
    /// Nothing the lab fetched has this file.
    #[error("none of the lab's packages has {0}")]
    NoFile(String),
    /// The monitor refused a command, or said something that is none of its answers.
    #[error("QEMU's monitor: {0}")]
    Monitor(String),
}

impl LabError {
    /// Wraps an error about a file.
    pub(crate) fn file(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |error| Self::File { path, error }
    }
}
