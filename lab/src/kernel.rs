//! A kernel with iommufd, which none of Debian's has: built of Debian's source, a part of the lab as what is fetched.
//!
//! Building takes a C compiler; what else it takes and this machine lacks is fetched like everything else.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::apt::{self, Apt};
use crate::error::LabError;
use crate::library;
use crate::part::{Part, remove};

/// An empty package that names the source of the release's kernel.
const SOURCE: &str = "linux-source";
/// Programs that building takes beside those of a C compiler, each in a package of its name.
const TOOLS: &[&str] = &["bc", "bison", "flex", "m4", "make", "xz-utils"];
const CONFIG: &str = include_str!("iommufd.config");
/// Raised when the way of building changes.
const RECIPE: u32 = 1;
/// The kernel within its part.
const IMAGE: &str = "bzImage";

/// The kernel, if one was built by today's recipe.
pub(crate) fn built() -> Option<PathBuf> {
    let part = part();
    part.is_made().then(|| part.folder().join(IMAGE))
}

fn part() -> Part {
    let recipe = format!("{RECIPE} {} {SOURCE}\n{CONFIG}", apt::RELEASE);
    Part::new("kernel", recipe)
}

/// Builds the kernel if there is none, and returns its image.
///
/// # Errors
/// [`LabError::Unavailable`] where packages cannot be had; others when files cannot be written or the kernel does
/// not build.
pub fn build() -> Result<PathBuf, LabError> {
    let part = part();
    part.make(|new| {
        libelf()?;
        let start = Instant::now();
        let work = new.join("work");
        fs::create_dir(&work).map_err(LabError::file(&work))?;
        let image = make(&work)?;
        let place = new.join(IMAGE);
        fs::rename(&image, &place).map_err(LabError::file(&place))?;
        remove(&work)?;
        println!("built in {:.0} s", start.elapsed().as_secs_f64());
        Ok(())
    })?;
    Ok(part.folder().join(IMAGE))
}

/// Fetches the source and what it takes, and builds it below `work`.
fn make(work: &Path) -> Result<PathBuf, LabError> {
    let apt = Apt::new(&work.join("apt"))?;
    let programs = programs(&apt, work)?;
    let source = apt.behind(SOURCE)?;
    println!("building a kernel of {source} in {}", work.display());
    for package in apt.download_alone(&source)? {
        apt::unpack(&package, work)?;
    }
    let archive = work.join("usr/src").join(format!("{source}.tar.xz"));
    let mut tar = programs.command("tar");
    quietly(tar.arg("-xJf").arg(&archive).arg("-C").arg(work))?;
    let tree = work.join(&source);
    let config = work.join("config");
    fs::write(&config, CONFIG).map_err(LabError::file(&config))?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let make = |target: &str| {
        let mut make = programs.command("make");
        make.args(["-s", "-C"]).arg(&tree).arg(format!("-j{jobs}"));
        make.arg(format!("KCONFIG_ALLCONFIG={}", config.display()));
        quietly(make.arg(target))
    };
    make("allnoconfig")?;
    heeded(&tree.join(".config"))?;
    make("bzImage")?;
    Ok(tree.join("arch/x86/boot/bzImage"))
}

/// objtool, a part of the build, is made with libelf: one that fits this machine's own C library.
fn libelf() -> Result<(), LabError> {
    match Path::new("/usr/include/libelf.h").exists() {
        true => Ok(()),
        false => Err(LabError::Unavailable(
            "building a kernel takes libelf.h: run `apt-get install libelf-dev` as root".to_owned(),
        )),
    }
}

/// Asserts that each line of [`CONFIG`] is in the configuration that was made of it: names change, and what depends
/// on something that is missing is left out without a word.
fn heeded(config: &Path) -> Result<(), LabError> {
    let made = fs::read_to_string(config).map_err(LabError::file(config))?;
    match unheeded(&made) {
        None => Ok(()),
        Some(line) => Err(LabError::Program {
            program: "make allnoconfig".to_owned(),
            said: format!("this kernel does not take {line}"),
        }),
    }
}

fn unheeded(made: &str) -> Option<&'static str> {
    let wanted = CONFIG.lines().filter(|line| line.starts_with("CONFIG_"));
    let mut unheeded = wanted.filter(|line| match line.strip_suffix("=n") {
        Some(name) => made.contains(&format!("{name}=")),
        None => !made.lines().any(|other| other == *line),
    });
    unheeded.next()
}

/// Programs that were fetched since this machine has none.
struct Programs {
    folder: PathBuf,
    root: PathBuf,
}

fn programs(apt: &Apt, work: &Path) -> Result<Programs, LabError> {
    let programs = Programs {
        folder: work.join("bin"),
        root: work.join("tools"),
    };
    let missing: Vec<&str> = (TOOLS.iter().copied())
        .filter(|package| !is_there(program(package)))
        .collect();
    fs::create_dir_all(&programs.folder).map_err(LabError::file(&programs.folder))?;
    if missing.is_empty() {
        return Ok(programs);
    }
    for package in apt.download(apt::RELEASE, &missing)? {
        apt::unpack(&package, &programs.root)?;
    }
    for package in missing {
        programs.wrap(program(package))?;
    }
    Ok(programs)
}

/// The program that is wanted of a package.
fn program(package: &str) -> &str {
    match package {
        "xz-utils" => "xz",
        package => package,
    }
}

/// Whether this machine has a program.
fn is_there(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

impl Programs {
    /// A command that finds them and their files, as if they were installed.
    fn command(&self, name: &str) -> Command {
        let path = env::var_os("PATH").unwrap_or_default();
        let all = [self.folder.clone()]
            .into_iter()
            .chain(env::split_paths(&path));
        let wrapped = self.folder.join(name);
        let mut command = match wrapped.exists() {
            true => Command::new(wrapped),
            false => Command::new(name),
        };
        if let Ok(path) = env::join_paths(all) {
            command.env("PATH", path);
        }
        // What these two open and start by paths of their own.
        if self.folder.join("bison").exists() {
            command.env("BISON_PKGDATADIR", self.root.join("usr/share/bison"));
        }
        if self.folder.join("m4").exists() {
            command.env("M4", self.folder.join("m4"));
        }
        command
    }

    /// Makes a script that starts a program with its own libraries.
    fn wrap(&self, name: &str) -> Result<(), LabError> {
        let root = self.root.display();
        let script = format!(
            "#!/bin/sh\nexec {root}/usr/lib64/ld-linux-x86-64.so.2 --library-path {} --argv0 \"$0\" {root}/usr/bin/{name} \"$@\"\n",
            library::search_path(&self.root),
        );
        let path = self.folder.join(name);
        fs::write(&path, script).map_err(LabError::file(&path))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(LabError::file(&path))
    }
}

/// Runs a command whose errors are shown as they come; it has to end well.
fn quietly(command: &mut Command) -> Result<(), LabError> {
    let program = format!("{command:?}");
    let failed = |said: String| LabError::Program {
        program: program.clone(),
        said,
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command
        .status()
        .map_err(|error| failed(error.to_string()))?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(status.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_a_line_that_is_not_taken_is_found() {
        let whole = CONFIG.replace(
            "CONFIG_CPU_MITIGATIONS=n",
            "# CONFIG_CPU_MITIGATIONS is not set",
        );
        assert_eq!(unheeded(&whole), None);
        assert_eq!(unheeded(CONFIG), Some("CONFIG_CPU_MITIGATIONS=n"));
        let less = whole.replace("CONFIG_IOMMUFD=y", "# CONFIG_IOMMUFD is not set");
        assert_eq!(unheeded(&less), Some("CONFIG_IOMMUFD=y"));
        assert_eq!(unheeded(""), Some("CONFIG_64BIT=y"));
    }
}
