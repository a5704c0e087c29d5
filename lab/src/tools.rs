//! What the lab is made of: [parts](Part) fetched once. QEMU is one of them, and all that is in guests another, which those
//! with a QEMU of their own use as well.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use crate::apt::{self, Apt};
use crate::error::LabError;
use crate::kernel;
use crate::library;
use crate::module::Modules;
use crate::part::{Part, remove};

/// First release with the device `vfio-user-pci`.
const QEMU_LEAST: (u32, u32) = (10, 1);
const QEMU: &[&str] = &["qemu-system-x86", "seabios"];
const KERNEL: &str = "linux-image-amd64";
/// What tests run in a guest that is not ours.
const GUEST: &[&str] = &["busybox-static", "ethtool", "iperf3", "iproute2"];
const DPDK: &[&str] = &["dpdk-dev"];
/// Raised when the way of fetching or unpacking changes.
const RECIPE: u32 = 2;

/// Names a kernel's image to boot guests with. What tests ask for has to be built in.
const OWN_KERNEL: &str = "SUMAC_LAB_KERNEL";

/// The lab's own folder.
pub fn folder() -> PathBuf {
    target().join("lab")
}

/// The folder cargo builds into.
pub(crate) fn target() -> PathBuf {
    let root = workspace();
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |named| root.join(named))
}

/// The repository.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// QEMU, a kernel and programs for guests.
pub struct Lab {
    test: String,
    /// A kernel that has built in what tests ask for; otherwise Debian's, with its modules.
    kernel: Option<PathBuf>,
}

impl Lab {
    /// The lab, for a test of this name; fetched if it is not there.
    ///
    /// `None`, with a line that says so, when it cannot be had here.
    ///
    /// # Panics
    /// When it can be had but not be set up, such as on a full disk.
    pub fn open(test: &str) -> Option<Self> {
        static READY: OnceLock<Result<(), String>> = OnceLock::new();
        let ready = READY.get_or_init(|| match fetch() {
            Ok(()) => Ok(()),
            Err(LabError::Unavailable(reason)) => Err(reason),
            Err(error) => panic!("{error}"),
        });
        match ready {
            Ok(()) => Some(Self {
                test: test.to_owned(),
                kernel: env::var_os(OWN_KERNEL).map(PathBuf::from),
            }),
            Err(reason) => {
                let _ = writeln!(io::stderr(), "SKIP {test}: no QEMU lab: {reason}");
                None
            }
        }
    }

    /// The lab with guests whose kernel has iommufd, which none of Debian's has.
    ///
    /// `None`, with a line that says so, where none was built.
    ///
    /// # Panics
    /// As [`open`](Self::open).
    pub fn with_iommufd(test: &str) -> Option<Self> {
        let lab = Self::open(test)?;
        let kernel = lab.kernel.or_else(kernel::built);
        if kernel.is_none() {
            let _ = writeln!(
                io::stderr(),
                "SKIP {test}: needs a kernel with iommufd: `cargo xtask lab kernel` builds one"
            );
        }
        kernel.map(|kernel| Self {
            test: lab.test,
            kernel: Some(kernel),
        })
    }

    /// The name of the test it was opened for.
    pub fn test(&self) -> &str {
        &self.test
    }

    /// A file of a Debian package, by its path in the guest's file system, such as `usr/sbin/ethtool`.
    ///
    /// # Errors
    /// [`LabError::NoFile`] when no package has it.
    pub fn guest_file(&self, path: &str) -> Result<PathBuf, LabError> {
        let file = guest_root().join(path);
        if file.exists() {
            Ok(file)
        } else {
            Err(LabError::NoFile(path.to_owned()))
        }
    }

    /// Whether the guest's kernel is none of Debian's.
    pub(crate) fn has_own_kernel(&self) -> bool {
        self.kernel.is_some()
    }

    /// The guest's kernel.
    pub(crate) fn kernel(&self) -> Result<PathBuf, LabError> {
        if let Some(kernel) = &self.kernel {
            return Ok(kernel.clone());
        }
        let boot = of_guests().folder().join("kernel/boot");
        let found = fs::read_dir(&boot).map_err(LabError::file(&boot))?;
        found
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(starts_with_vmlinuz))
            .ok_or_else(|| LabError::NoFile("boot/vmlinuz".to_owned()))
    }

    /// The kernel's modules; none where all that is asked for is built in.
    pub(crate) fn modules(&self) -> Result<Option<Modules>, LabError> {
        if self.kernel.is_some() {
            return Ok(None);
        }
        let versions = of_guests().folder().join("kernel/usr/lib/modules");
        let mut found = fs::read_dir(&versions).map_err(LabError::file(&versions))?;
        let version = found.next().and_then(Result::ok);
        let version = version.ok_or_else(|| LabError::NoFile("usr/lib/modules".to_owned()))?;
        Modules::new(&version.path(), &self.guest_file(BUSYBOX)?).map(Some)
    }
}

/// Where busybox is in the guest's packages.
pub(crate) const BUSYBOX: &str = "usr/bin/busybox";

fn starts_with_vmlinuz(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with("vmlinuz-")
}

/// QEMU with its libraries and firmware.
fn of_qemu() -> Part {
    Part::new("qemu", format!("{RECIPE} {} {QEMU:?}\n", apt::BACKPORTS))
}

/// Guests' kernel, and programs for guests.
fn of_guests() -> Part {
    let release = apt::RELEASE;
    Part::new(
        "guest",
        format!("{RECIPE} {release} {KERNEL} {GUEST:?} {DPDK:?}\n"),
    )
}

/// The parts that guests take.
fn parts() -> Vec<Part> {
    match own_qemu() {
        Some(_) => vec![of_guests()],
        None => vec![of_qemu(), of_guests()],
    }
}

/// The file system made of the guest's Debian packages.
pub(crate) fn guest_root() -> PathBuf {
    of_guests().folder().join("root")
}

/// QEMU's command, before its arguments: one's own by `SUMAC_QEMU`, or the fetched one with its own libraries.
pub(crate) fn qemu() -> Command {
    if let Some(own) = own_qemu() {
        return Command::new(own);
    }
    let root = of_qemu().folder().join("root");
    let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(library::search_path(&root));
    command.args(["--argv0", "qemu-system-x86_64"]);
    command.arg(root.join("usr/bin/qemu-system-x86_64"));
    for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        command.arg("-L").arg(root.join(data));
    }
    command
}

/// Fetches what is missing; nothing if all is there.
///
/// # Errors
/// [`LabError::Unavailable`] where packages cannot be had or QEMU is too old; others when files cannot be written.
pub fn fetch() -> Result<(), LabError> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        let reason = "guests are x86-64 and so are their tools";
        return Err(LabError::Unavailable(reason.to_owned()));
    }
    let start = Instant::now();
    let missing = parts().iter().any(|part| !part.is_made());
    if missing {
        println!("fetching the QEMU lab into {}", folder().display());
    }
    if own_qemu().is_none() {
        of_qemu().make(fill_qemu)?;
    }
    of_guests().make(fill_guests)?;
    let version = qemu_version()?;
    if missing {
        let seconds = start.elapsed().as_secs_f64();
        println!("{version}; fetched in {seconds:.1} s");
    }
    enough(&version)
}

/// The fetched packages with their versions, a line each.
///
/// # Errors
/// When nothing was fetched.
pub fn packages() -> Result<String, LabError> {
    let mut all = String::new();
    for part in parts() {
        let path = part.folder().join(PACKAGES);
        all += &fs::read_to_string(&path).map_err(LabError::file(&path))?;
    }
    Ok(all)
}

/// One's own QEMU.
fn own_qemu() -> Option<OsString> {
    env::var_os("SUMAC_QEMU")
}

/// Downloads and unpacks QEMU below `new`.
fn fill_qemu(new: &Path) -> Result<(), LabError> {
    let downloads = new.join("apt");
    let apt = Apt::new(&downloads)?;
    let files = apt.download(apt::BACKPORTS, QEMU)?;
    let list = unpack_all(&files, &new.join("root"))?;
    write_list(new, list)?;
    remove(&downloads)
}

/// Downloads and unpacks all that is in guests below `new`.
fn fill_guests(new: &Path) -> Result<(), LabError> {
    let downloads = new.join("apt");
    let apt = Apt::new(&downloads)?;
    let kernel = apt.behind(KERNEL)?;
    let mut list = unpack_all(&apt.download_alone(&kernel)?, &new.join("kernel"))?;
    for packages in [GUEST, DPDK] {
        let files = apt.download(apt::RELEASE, packages)?;
        let wanted: Vec<_> = files
            .into_iter()
            .filter(|file| is_wanted(&package_name(file), packages))
            .collect();
        list.extend(unpack_all(&wanted, &new.join("root"))?);
    }
    write_list(new, list)?;
    remove(&downloads)
}

/// A part's packages, a line each.
const PACKAGES: &str = "packages";

fn write_list(new: &Path, mut list: Vec<String>) -> Result<(), LabError> {
    list.sort();
    // Some are in several of the guest's parts.
    list.dedup();
    let path = new.join(PACKAGES);
    fs::write(&path, list.join("\n") + "\n").map_err(LabError::file(&path))
}

/// Of what packages depend on, only shared libraries: no scripts, headers or documentation.
fn is_wanted(package: &str, asked_for: &[&str]) -> bool {
    let name = package.split('_').next().unwrap_or(package);
    asked_for.contains(&name) || (name.starts_with("lib") && !name.ends_with("-dev"))
}

/// Unpacks packages; returns what they are.
fn unpack_all(packages: &[PathBuf], to: &Path) -> Result<Vec<String>, LabError> {
    for package in packages {
        apt::unpack(package, to)?;
    }
    Ok(packages.iter().map(|file| package_name(file)).collect())
}

/// `name_version_architecture`.
fn package_name(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .replace("%3a", ":")
}

/// QEMU's first line about itself.
fn qemu_version() -> Result<String, LabError> {
    let mut command = qemu();
    let failed = |said: String| LabError::Unavailable(format!("QEMU does not run: {said}"));
    let output = command
        .arg("--version")
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

/// Refuses a QEMU that cannot plug in a device by vfio-user.
fn enough(version: &str) -> Result<(), LabError> {
    let (major, minor) = QEMU_LEAST;
    match numbers(version) {
        Some(found) if found >= QEMU_LEAST => Ok(()),
        _ => Err(LabError::Unavailable(format!(
            "{version}: {major}.{minor} or later is needed"
        ))),
    }
}

/// `QEMU emulator version 11.1.3 (Debian ...)`
fn numbers(version: &str) -> Option<(u32, u32)> {
    let (_, rest) = version.split_once("version ")?;
    let mut parts = rest.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_old_qemu_is_refused() {
        assert!(enough("QEMU emulator version 11.1.3 (Debian 1:11.1.3)").is_ok());
        assert!(enough("QEMU emulator version 10.1.0").is_ok());
        assert!(enough("QEMU emulator version 7.2.22 (Debian)").is_err());
        assert!(enough("").is_err());
    }

    #[test]
    fn test_only_libraries_come_along() {
        let asked = ["dpdk-dev"];
        assert!(is_wanted("dpdk-dev_24.11_amd64", &asked));
        assert!(is_wanted("librte-ethdev25_24.11_amd64", &asked));
        assert!(!is_wanted("libdpdk-dev_24.11_amd64", &asked));
        assert!(!is_wanted("python3_3.13_amd64", &asked));
    }
}
