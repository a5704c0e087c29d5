//! Makes sure a program is there, installing its Debian package where that is possible.
//!
//! Invariant: nothing is installed that is already there, and nothing is installed unless this
//! process is root on a machine with `apt-get`; otherwise the caller gets a reason to show.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process;

const INSTALL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// A file a step needs, and the Debian package that has it.
pub struct Need {
    /// A program's name, looked up in the search path, or the absolute path of a file.
    pub file: &'static str,
    /// The package's name.
    pub package: &'static str,
}

/// True if this process is root: /proc entries belong to the effective user.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Installs what is missing.
///
/// # Errors
/// What is missing and how to get it, or how the installation failed.
pub fn ensure(needs: &[Need]) -> Result<(), String> {
    let missing: Vec<&Need> = needs
        .iter()
        .filter(|need| find(need.file).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let files: Vec<&str> = missing.iter().map(|need| need.file).collect();
    let remedy = format!(
        "{} missing: apt-get install {}",
        files.join(", "),
        packages.join(" ")
    );
    if !is_root() || find("apt-get").is_none() {
        return Err(remedy);
    }
    println!("installing {}", packages.join(" "));
    update()?;
    let mut install = apt();
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(&packages);
    process::run(&mut install, INSTALL_LIMIT, |_| {})?;
    match needs.iter().find(|need| find(need.file).is_none()) {
        None => Ok(()),
        Some(need) => Err(format!(
            "{} still missing after installing {}",
            need.file, need.package
        )),
    }
}

/// Reads the package lists once a run.
fn update() -> Result<(), String> {
    static UPDATED: OnceLock<Result<(), String>> = OnceLock::new();
    UPDATED
        .get_or_init(|| process::run(apt().arg("update"), INSTALL_LIMIT, |_| {}))
        .clone()
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .arg("--quiet=2")
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Looks in the search path and in the administrator's folders, which a user's path often lacks.
fn find(file: &str) -> Option<PathBuf> {
    if file.starts_with('/') {
        return Path::new(file).exists().then(|| PathBuf::from(file));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(file))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_what_is_there_needs_no_installation() {
        let there = [
            Need {
                file: "sh",
                package: "no-such-package",
            },
            Need {
                file: "/proc/self",
                package: "no-such-package",
            },
        ];
        assert_eq!(ensure(&there), Ok(()));
    }

    #[test]
    fn test_find_knows_paths_and_programs() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-here").is_none());
        assert!(find("/no/such/file").is_none());
    }
}
