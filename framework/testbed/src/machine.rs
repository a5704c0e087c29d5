//! A machine as its `/sys`, `/proc` and `/dev` show it: files and links in a folder of a test's own.
//!
//! Only what is written is there. Files stay as they are: nothing plays the kernel.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use nix::unistd::{Uid, setfsuid};
use tempfile::TempDir;

/// The user who owns nothing.
const NOBODY: Uid = Uid::from_raw(65534);

/// The folder, gone when this is dropped. Paths are the machine's, without the leading `/`.
///
/// Every method panics when the folder cannot be written: that is a failed test.
pub struct Machine(TempDir);

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine with a PCI bus and nothing on it.
    pub fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("a temporary folder"));
        machine.folder("sys/bus/pci/devices");
        machine
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// Makes a folder and those above it.
    pub fn folder(&self, path: &str) -> PathBuf {
        let folder = self.root().join(path);
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    /// Writes a file, with the line feed at its end that sysfs has.
    pub fn file(&self, path: &str, text: &str) -> PathBuf {
        self.above(path);
        let file = self.root().join(path);
        fs::write(&file, format!("{text}\n")).expect("a file");
        file
    }

    /// Takes away a file, a link or a folder with all that is in it.
    pub fn remove(&self, path: &str) {
        let path = self.root().join(path);
        let removed = match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.expect("it was there");
    }

    /// Makes a relative link at `path` to `target`, both of the machine; an older link goes.
    pub fn link(&self, path: &str, target: &str) {
        self.above(path);
        let up = "../".repeat(path.matches('/').count());
        let link = self.root().join(path);
        let _ = fs::remove_file(&link);
        symlink(format!("{up}{target}"), link).expect("a link");
    }

    fn above(&self, path: &str) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
    }

    /// Puts a device on the bus; `id` is vendor and device, as `lspci -n` has them.
    pub fn device(&self, address: &str, id: &str, class: u32) {
        let (vendor, device) = id.split_once(':').expect("VENDOR:DEVICE");
        let folder = format!("sys/devices/pci0000:00/{address}");
        self.file(&format!("{folder}/vendor"), &format!("0x{vendor}"));
        self.file(&format!("{folder}/device"), &format!("0x{device}"));
        self.file(&format!("{folder}/class"), &format!("{class:#08x}"));
        self.file(&format!("{folder}/driver_override"), "(null)");
        self.file(&format!("{folder}/numa_node"), "-1");
        self.link(&format!("sys/bus/pci/devices/{address}"), &folder);
    }

    /// Writes a file of a device.
    pub fn fact(&self, address: &str, name: &str, text: &str) {
        self.file(&format!("sys/devices/pci0000:00/{address}/{name}"), text);
    }

    /// Has a driver take a device.
    pub fn driver(&self, address: &str, driver: &str) {
        self.folder(&format!("sys/bus/pci/drivers/{driver}"));
        self.link(
            &format!("sys/devices/pci0000:00/{address}/driver"),
            &format!("sys/bus/pci/drivers/{driver}"),
        );
    }

    /// Puts a device into an IOMMU group.
    pub fn group(&self, address: &str, group: u32) {
        let device = format!("sys/devices/pci0000:00/{address}");
        let folder = format!("sys/kernel/iommu_groups/{group}");
        self.link(&format!("{folder}/devices/{address}"), &device);
        self.link(&format!("{device}/iommu_group"), &folder);
    }

    /// Gives a device a network interface, with nothing between the two.
    pub fn interface(&self, address: &str, name: &str) {
        let folder = format!("sys/devices/pci0000:00/{address}/net/{name}");
        self.file(&format!("{folder}/flags"), "0x1003");
        self.link(&format!("sys/class/net/{name}"), &folder);
    }

    /// What happens to somebody who may not open `file`, also where the tests run as root.
    pub fn denied<T: Send>(&self, file: &str, then: impl FnOnce() -> T + Send) -> T {
        let set = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("one's own file");
        };
        set(self.root(), 0o755);
        set(&self.root().join(file), 0o000);
        // Of this thread only, and gone with it.
        let as_nobody = || {
            setfsuid(NOBODY);
            then()
        };
        let outcome = thread::scope(|scope| scope.spawn(as_nobody).join());
        outcome.expect("it ends well")
    }

    /// Starts a process that has a file of the machine open.
    pub fn process(&self, number: u32, name: &str, file: &str) {
        self.file(&format!("proc/{number}/comm"), name);
        let link = self.folder(&format!("proc/{number}/fd")).join("3");
        // Links of open files name them from the root.
        symlink(format!("/{file}"), link).expect("a link");
    }
}
