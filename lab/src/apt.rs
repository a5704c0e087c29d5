//! Debian packages, fetched by this machine's `apt-get` into a folder, without being installed.
//!
//! The mirror is the one that this machine's own apt configuration names, with the machine's proxies and other
//! settings. What apt knows of installed packages is replaced by an empty list, so that dependencies are fetched
//! too. apt checks every package against the signed index: its size and its SHA-256.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::LabError;

/// The Debian release that guests are made of.
pub const RELEASE: &str = "trixie";
/// Where its newer versions of QEMU are.
pub const BACKPORTS: &str = "trixie-backports";

/// Releases a Debian mirror is recognised by: the machine may run any of them.
const DEBIAN: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];
/// Debian's keys: they sign every release.
const KEYRINGS: &[&str] = &[
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// apt with state of its own below a folder.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Prepares apt's folders and reads the lists of packages.
    ///
    /// # Errors
    /// [`LabError::Unavailable`] when this machine has no apt, knows no Debian mirror or cannot reach it.
    pub fn new(folder: &Path) -> Result<Self, LabError> {
        let folder = std::path::absolute(folder).map_err(LabError::file(folder))?;
        let apt = Self { folder };
        let mirror = mirror()?;
        for name in ["state/lists/partial", "cache/archives/partial"] {
            let path = apt.folder.join(name);
            fs::create_dir_all(&path).map_err(LabError::file(&path))?;
        }
        let options = KEYRINGS
            .iter()
            .find(|path| Path::new(path).exists())
            .map_or_else(String::new, |path| format!(" signed-by={path}"));
        let line = |suite| format!("deb [target=Packages{options}] {mirror} {suite} main\n");
        apt.write("sources.list", &(line(RELEASE) + &line(BACKPORTS)))?;
        apt.write("status", "")?;
        apt.run(apt.get().arg("update"))?;
        Ok(apt)
    }

    /// Downloads packages and all they depend on; returns their files.
    ///
    /// # Errors
    /// [`LabError::Unavailable`] with what apt said.
    pub fn download(&self, suite: &str, packages: &[&str]) -> Result<Vec<PathBuf>, LabError> {
        let archives = self.folder.join("archives").join(packages[0]);
        let partial = archives.join("partial");
        fs::create_dir_all(&partial).map_err(LabError::file(&partial))?;
        let mut get = self.get();
        get.arg("-o")
            .arg(format!("Dir::Cache::archives={}", archives.display()))
            .args(["--yes", "--download-only", "--no-install-recommends", "-t"])
            .args([suite, "install"])
            .args(packages);
        self.run(&mut get)?;
        archives_in(&archives)
    }

    /// Downloads one package without what it depends on.
    ///
    /// # Errors
    /// [`LabError::Unavailable`] with what apt said.
    pub fn download_alone(&self, package: &str) -> Result<Vec<PathBuf>, LabError> {
        let archives = self.folder.join("archives").join(package);
        fs::create_dir_all(&archives).map_err(LabError::file(&archives))?;
        let mut get = self.get();
        get.args(["download", package]).current_dir(&archives);
        self.run(&mut get)?;
        archives_in(&archives)
    }

    /// The package that an empty one, which only names the current version, depends on.
    ///
    /// # Errors
    /// [`LabError::Unavailable`] when there is none.
    pub fn behind(&self, package: &str) -> Result<String, LabError> {
        let mut cache = self.command("apt-cache");
        let said = self.run(cache.args(["depends", package]))?;
        said.lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .map(str::to_owned)
            .ok_or_else(|| LabError::Unavailable(format!("{package} depends on no package")))
    }

    fn get(&self) -> Command {
        let mut get = self.command("apt-get");
        get.arg("--quiet=2");
        get
    }

    /// A command of apt's with the machine's settings, but sources and state of the lab's own.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let sources = self.folder.join("sources.list");
        let state = self.folder.join("state");
        let cache = self.folder.join("cache");
        let status = self.folder.join("status");
        for (option, value) in [
            ("Dir::Etc::SourceList", sources.as_path()),
            ("Dir::Etc::SourceParts", Path::new("/dev/null")),
            ("Dir::Etc::Preferences", Path::new("/dev/null")),
            ("Dir::Etc::PreferencesParts", Path::new("/dev/null")),
            ("Dir::State", &state),
            ("Dir::State::Status", &status),
            ("Dir::Cache", &cache),
            ("APT::Architecture", Path::new("amd64")),
            ("APT::Sandbox::User", Path::new("root")),
            ("Acquire::Languages", Path::new("none")),
            ("Acquire::Retries", Path::new("3")),
        ] {
            command
                .arg("-o")
                .arg(format!("{option}={}", value.display()));
        }
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, command: &mut Command) -> Result<String, LabError> {
        output(command).map_err(LabError::Unavailable)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(LabError::file(&path))
    }
}

/// Unpacks a package below `to`.
///
/// # Errors
/// [`LabError::Unavailable`] with what dpkg-deb said.
pub fn unpack(package: &Path, to: &Path) -> Result<(), LabError> {
    fs::create_dir_all(to).map_err(LabError::file(to))?;
    let mut dpkg = Command::new("dpkg-deb");
    output(dpkg.arg("--extract").arg(package).arg(to))
        .map(drop)
        .map_err(LabError::Unavailable)
}

/// The first Debian mirror that apt takes this machine's own packages from.
fn mirror() -> Result<String, LabError> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format"]);
    targets.args([
        "$(RELEASE) $(COMPONENT) $(REPO_URI)",
        "Created-By: Packages",
    ]);
    let said = output(&mut targets).map_err(LabError::Unavailable)?;
    debian_mirror(&said)
        .ok_or_else(|| LabError::Unavailable("apt's sources here name no Debian mirror".to_owned()))
}

fn debian_mirror(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (release, component, uri) = (words.next()?, words.next()?, words.next()?);
        (DEBIAN.contains(&release) && component == "main").then(|| uri.to_owned())
    })
}

fn archives_in(folder: &Path) -> Result<Vec<PathBuf>, LabError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(LabError::file(folder))? {
        let path = entry.map_err(LabError::file(folder))?.path();
        if path.extension().is_some_and(|ending| ending == "deb") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Standard output of a command that must end well; otherwise its last words.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(format!(
        "{program}: {}",
        last.unwrap_or("ended without a word")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_mirror_is_a_debian_release() {
        let targets = "stable main http://elsewhere.example/apt/\n\
                       nodistro main http://other.example/\n\
                       bookworm-security main http://security.example/\n\
                       bookworm contrib http://contrib.example/\n\
                       bookworm main http://mirror.example/debian/\n";
        let after_first = targets.split_once('\n').map(|(_, rest)| rest);
        assert_eq!(
            after_first.and_then(debian_mirror).as_deref(),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(debian_mirror("jammy main http://u.example/"), None);
        assert_eq!(debian_mirror(""), None);
    }
}
