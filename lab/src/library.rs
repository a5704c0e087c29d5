//! The shared libraries that a program is loaded with, as its own dynamic loader finds them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::LabError;

/// A file that a program needs at run time.
#[derive(Debug, PartialEq, Eq)]
pub struct Library {
    /// The name it is looked for under, or for the loader itself its absolute path.
    pub name: String,
    /// Where it is on this machine.
    pub path: PathBuf,
}

/// What a program of this machine is loaded with; nothing if it is linked statically.
pub fn of_host(program: &Path) -> Result<Vec<Library>, LabError> {
    let mut ldd = Command::new("ldd");
    list(ldd.arg(program), program, None)
}

/// What a program of the guest's own file system `root` is loaded with.
pub fn of_root(root: &Path, program: &Path) -> Result<Vec<Library>, LabError> {
    let loader = root.join("usr/lib64/ld-linux-x86-64.so.2");
    let mut command = Command::new(&loader);
    command.arg("--library-path").arg(search_path(root));
    list(command.arg("--list").arg(program), program, Some(&loader))
}

/// The folders of libraries in a file system of Debian's.
pub fn search_path(root: &Path) -> String {
    let usr = root.join("usr/lib/x86_64-linux-gnu");
    usr.display().to_string()
}

fn list(
    command: &mut Command,
    program: &Path,
    loader: Option<&Path>,
) -> Result<Vec<Library>, LabError> {
    let failed = |said: String| LabError::Program {
        program: format!("the libraries of {}", program.display()),
        said,
    };
    let output = command
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains("not a dynamic executable") || said.contains("statically linked") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        return Err(failed(complaint.trim().to_owned()));
    }
    said.lines()
        .filter_map(|line| library(line, loader).transpose())
        .map(|found| found.map_err(failed))
        .collect()
}

/// One line: `libc.so.6 => /lib/libc.so.6 (0x...)`, `/lib64/ld-linux-x86-64.so.2 (0x...)`, or the kernel's own
/// `linux-vdso.so.1 (0x...)`, which is no file.
fn library(line: &str, loader: Option<&Path>) -> Result<Option<Library>, String> {
    let line = line.trim();
    let before_address = line.rsplit_once(" (0x").map_or(line, |(before, _)| before);
    match before_address.split_once(" => ") {
        Some((name, "not found")) => Err(format!("{name} not found")),
        // The guest's loader names itself under the path that programs ask for.
        Some((name, path)) => Ok(Some(Library {
            name: name.to_owned(),
            path: PathBuf::from(path),
        })),
        None if before_address.starts_with('/') => Ok(Some(Library {
            name: "/lib64/ld-linux-x86-64.so.2".to_owned(),
            path: loader.map_or_else(|| PathBuf::from(before_address), Path::to_owned),
        })),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_lines_of_the_loader() {
        let named = library("\tlibc.so.6 => /lib/libc.so.6 (0x00007f)", None);
        let libc = Library {
            name: "libc.so.6".to_owned(),
            path: "/lib/libc.so.6".into(),
        };
        assert_eq!(named, Ok(Some(libc)));
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007f)", None), Ok(None));
        assert!(library("\tlibx.so => not found", None).is_err());
        let loader = library("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)", None);
        assert!(loader.is_ok_and(|found| found.is_some_and(|l| l.name.starts_with('/'))));
    }
}
