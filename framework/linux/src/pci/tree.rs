//! Linux's file systems, and how their small files are read.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest file read: those of sysfs are a page, `/proc/interrupts` of a large machine some hundred KiB.
const LONGEST: u64 = 4 << 20;

/// Where `/sys`, `/proc`, `/dev` and the rest are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(PathBuf);

impl Default for Tree {
    /// The machine's own.
    fn default() -> Self {
        Self("/".into())
    }
}

impl Tree {
    /// The file systems below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// A path of the machine, such as `sys/bus/pci`, in this tree.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.0.join(below)
    }

    /// The text of a file, without white space at its ends; `None` where there is none to read.
    pub fn text(&self, below: impl AsRef<Path>) -> Option<String> {
        read(&self.path(below)).ok()
    }

    /// The names in a folder, sorted; none where there is no folder.
    pub fn names(&self, below: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(below)) else {
            return Vec::new();
        };
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let mut names: Vec<String> = entries.filter_map(name).collect();
        names.sort();
        names
    }

    /// The last part of what a link points to: how sysfs names a driver or a group.
    pub fn link_name(&self, below: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.path(below)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }
}

/// The text of a file, without white space at its ends.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(LONGEST)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A number as sysfs writes it: `0x8086`.
pub(super) fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
