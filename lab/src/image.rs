//! A guest's first file system: busybox, modules, programs with their libraries, and the test's script.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cpio::Archive;
use crate::error::LabError;
use crate::library::{self, Library};
use crate::program::Program;
use crate::tools::{self, BUSYBOX, Lab};

const INIT: &str = include_str!("init.sh");
const SCRIPT: &str = include_str!("script.sh");
const BIND_VFIO: &str = include_str!("bind-vfio.sh");

const UNWINDER: &str = "usr/lib/x86_64-linux-gnu/libgcc_s.so.1";

/// Two users: whom tests run as, and an ordinary one.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n";
const GROUP: &str = "root:x:0:\nuser:x:1000:\n";

/// Folders of every guest; others follow from the files in them.
const FOLDERS: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "home",
    "home/user",
    "lib",
    "lib/modules",
    "mnt",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "var",
];

enum Content {
    Bytes(Vec<u8>),
    Copy(PathBuf),
    Link(String),
}

struct Entry {
    permissions: u32,
    content: Content,
}

/// What a guest consists of.
///
/// Methods panic when the lab lacks what they ask for: that is a mistake in the test.
pub struct Image<'lab> {
    lab: &'lab Lab,
    entries: BTreeMap<String, Entry>,
    modules: Vec<String>,
    script: String,
}

impl<'lab> Image<'lab> {
    /// A guest with busybox, two users, `bind-vfio ADDRESS...` and nothing to do. Scripts have `wait_until COMMAND...` and
    /// `wait_on PROCESS COMMAND...`, which end them where they wait in vain.
    pub fn new(lab: &'lab Lab) -> Self {
        let mut image = Self {
            lab,
            entries: BTreeMap::new(),
            modules: Vec::new(),
            script: String::new(),
        };
        image.file("etc/passwd", 0o644, PASSWD);
        image.file("etc/group", 0o644, GROUP);
        image.file("init", 0o755, INIT);
        image.file("lib/script.sh", 0o644, SCRIPT);
        image.link("var/run", "/run");
        image.file("bin/bind-vfio", 0o755, BIND_VFIO);
        image
    }

    /// What the guest runs, by `sh`, as root, with the console as its standard input. Its exit code is the test's.
    pub fn script(&mut self, script: &str) -> &mut Self {
        script.clone_into(&mut self.script);
        self
    }

    /// Kernel modules to insert at start, each after those it needs.
    pub fn modules(&mut self, names: &[&str]) -> &mut Self {
        self.modules
            .extend(names.iter().map(|&name| name.to_owned()));
        self
    }

    /// A file of these bytes, by its path from the root.
    pub fn file(&mut self, path: &str, permissions: u32, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.add(path, permissions, Content::Bytes(bytes.into()))
    }

    /// A copy of a file of this machine.
    pub fn copy(&mut self, path: &str, permissions: u32, from: impl AsRef<Path>) -> &mut Self {
        self.add(path, permissions, Content::Copy(from.as_ref().to_owned()))
    }

    /// Copies of the files in a folder of this machine and in its folders.
    pub fn folder(&mut self, path: &str, from: impl AsRef<Path>) -> &mut Self {
        let from = from.as_ref();
        let entries = found(fs::read_dir(from).map_err(LabError::file(from)));
        for entry in entries.flatten() {
            let inner = format!("{path}/{}", entry.file_name().to_string_lossy());
            match entry.path() {
                folder if folder.is_dir() => self.folder(&inner, folder),
                file => self.copy(&inner, 0o644, file),
            };
        }
        self
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path, 0o777, Content::Link(target.to_owned()))
    }

    /// A program of this machine, in `/bin`, with the libraries it is loaded with here.
    pub fn program(&mut self, program: &Program) -> &mut Self {
        let libraries = found(library::of_host(program.path()));
        self.copy(&format!("bin/{}", program.name()), 0o755, program.path());
        self.libraries(libraries, false)
    }

    /// Programs of Debian packages, in `/bin`, with their libraries: `ethtool`, `iperf3`, `ip`, `dpdk-testpmd`.
    pub fn tools(&mut self, names: &[&str]) -> &mut Self {
        // libc opens it by name when a thread is cancelled.
        let unwinder = found(self.lab.guest_file(UNWINDER));
        self.copy("lib/libgcc_s.so.1", 0o755, &unwinder);
        for name in names {
            let path = ["usr/bin", "usr/sbin", "bin", "sbin"]
                .iter()
                .find_map(|folder| self.lab.guest_file(&format!("{folder}/{name}")).ok());
            let path = path.unwrap_or_else(|| panic!("{}", LabError::NoFile((*name).to_owned())));
            self.copy(&format!("bin/{name}"), 0o755, &path);
            self.needed_by(&path);
        }
        self
    }

    /// A shared object of a Debian package at its own path, with the libraries it needs: what a program opens
    /// by name at run time.
    pub fn plugin(&mut self, path: &str) -> &mut Self {
        let from = found(self.lab.guest_file(path));
        self.copy(path, 0o644, &from);
        self.needed_by(&from)
    }

    fn needed_by(&mut self, program: &Path) -> &mut Self {
        let libraries = found(library::of_root(&tools::guest_root(), program));
        self.libraries(libraries, true)
    }

    /// Adds libraries under the names they are looked for. Where this machine and the guest's packages both have
    /// one, the guest's is taken: it is the newer one, and libraries keep what older programs need.
    fn libraries(&mut self, libraries: Vec<Library>, of_guest: bool) -> &mut Self {
        for Library { name, path } in libraries {
            let place = match name.strip_prefix('/') {
                Some(absolute) => absolute.to_owned(),
                None => format!("lib/{name}"),
            };
            if of_guest || !self.entries.contains_key(&place) {
                self.copy(&place, 0o755, path);
            }
        }
        self
    }

    fn add(&mut self, path: &str, permissions: u32, content: Content) -> &mut Self {
        let path = path.trim_start_matches('/').to_owned();
        let entry = Entry {
            permissions,
            content,
        };
        self.entries.insert(path, entry);
        self
    }

    /// The archive that the kernel unpacks.
    pub(crate) fn archive(&self) -> Result<Vec<u8>, LabError> {
        let mut archive = Archive::default();
        self.folders().for_each(|folder| archive.directory(&folder));
        archive.character_device("dev/console", 5, 1);
        let commands = self.busybox(&mut archive)?;
        archive.file("test", 0o755, self.whole_script(&commands).as_bytes());
        let modules = match self.lab.modules()? {
            Some(modules) => modules.with_needed(&self.modules)?,
            None => Vec::new(),
        };
        let mut order = String::new();
        for module in modules {
            archive.file(
                &format!("lib/modules/{}.ko", module.name),
                0o644,
                &module.object,
            );
            order += &module.name;
            order.push('\n');
        }
        archive.file("lib/modules/order", 0o644, order.as_bytes());
        for (path, entry) in &self.entries {
            match &entry.content {
                Content::Bytes(bytes) => archive.file(path, entry.permissions, bytes),
                Content::Link(target) => archive.link(path, target),
                Content::Copy(from) => {
                    let bytes = fs::read(from).map_err(LabError::file(from))?;
                    archive.file(path, entry.permissions, &bytes);
                }
            }
        }
        Ok(archive.finish())
    }

    /// Every folder, each after the one it is in.
    fn folders(&self) -> impl Iterator<Item = String> {
        let of_files = self.entries.keys().flat_map(|path| {
            path.match_indices('/')
                .map(|(end, _)| path[..end].to_owned())
        });
        let fixed = FOLDERS.iter().map(|&folder| folder.to_owned());
        let all: std::collections::BTreeSet<String> = fixed.chain(of_files).collect();
        all.into_iter()
    }

    /// The test's script after what it waits with, and a line for each program that busybox has a command of the same
    /// name for: its shell would run its own.
    fn whole_script(&self, own_commands: &[String]) -> String {
        let ours = own_commands
            .iter()
            .filter(|name| self.entries.contains_key(&format!("bin/{name}")));
        let functions = ours.map(|name| format!("{name}() {{ /bin/{name} \"$@\"; }}\n"));
        format!(
            ". /lib/script.sh\n{}{}",
            functions.collect::<String>(),
            self.script
        )
    }

    /// busybox, and a link for each of its commands that no other program stands for.
    /// Returns the names of its commands.
    fn busybox(&self, archive: &mut Archive) -> Result<Vec<String>, LabError> {
        let path = self.lab.guest_file(BUSYBOX)?;
        let bytes = fs::read(&path).map_err(LabError::file(&path))?;
        archive.file("bin/busybox", 0o4755, &bytes);
        let list = Command::new(&path).arg("--list").output();
        let list = list.map_err(LabError::file(&path))?.stdout;
        let list = String::from_utf8_lossy(&list);
        let names = list.lines().filter(|&name| name != "busybox");
        let names: Vec<String> = names.map(str::to_owned).collect();
        for name in &names {
            let place = format!("bin/{name}");
            if !self.entries.contains_key(&place) {
                archive.link(&place, "busybox");
            }
        }
        Ok(names)
    }
}

fn found<T>(result: Result<T, LabError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
