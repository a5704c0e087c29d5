//! What would be missed if a device went to another driver: the way out of the machine, its disks, a process
//! that has the device.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::interface::{device_of, with_default_route};
use super::{PciDevice, Tree};
use crate::spec::PciAddress;

/// Why the machine needs a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The default route goes through an interface of it.
    DefaultRoute {
        /// The interface.
        interface: String,
    },
    /// A disk of it holds a file system or swap.
    Disk {
        /// The disk or partition.
        disk: String,
        /// Where it is mounted; `swap`.
        place: String,
    },
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DefaultRoute { interface } => {
                write!(
                    f,
                    "the default route goes through its interface {interface}"
                )
            }
            Self::Disk { disk, place } => write!(f, "its disk {disk} is in use ({place})"),
        }
    }
}

/// What the machine needs a device for.
pub fn needs(tree: &Tree, device: &PciDevice) -> Vec<Need> {
    let routes = with_default_route(tree);
    let routes = device
        .interfaces
        .iter()
        .filter(|interface| routes.contains(&interface.name));
    let mut needs: Vec<Need> = routes
        .map(|interface| Need::DefaultRoute {
            interface: interface.name.clone(),
        })
        .collect();
    let is_below = |disk: &str| devices_of_disk(tree, disk).contains(&device.address);
    let disks = disks_in_use(tree).into_iter();
    let mut disks: Vec<Need> = disks
        .filter(|(disk, _)| is_below(disk))
        .map(|(disk, place)| Need::Disk { disk, place })
        .collect();
    if disks.is_empty() {
        let all = tree.names("sys/class/block").into_iter();
        let claimed = all.filter(|disk| is_below(disk) && is_claimed(tree, disk));
        disks.extend(claimed.map(|disk| Need::Disk {
            disk,
            place: "claimed by the kernel".to_owned(),
        }));
    }
    needs.append(&mut disks);
    needs
}

/// Whether the kernel lets nobody else have a disk: it is mounted somewhere, if not here, or part of a volume or
/// pool.
fn is_claimed(tree: &Tree, disk: &str) -> bool {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL | libc::O_NONBLOCK)
        .open(tree.path(Path::new("dev").join(disk)));
    file.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}

/// The devices a disk is reached through: the one on the way to it, or all controllers of its NVMe subsystem.
fn devices_of_disk(tree: &Tree, disk: &str) -> Vec<PciAddress> {
    let link = Path::new("sys/class/block").join(disk);
    if let Some(device) = device_of(tree, &link) {
        return vec![device];
    }
    let Ok(place) = fs::canonicalize(tree.path(link)) else {
        return Vec::new();
    };
    let named = |part: &Path| {
        part.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"nvme-subsys"))
    };
    // The innermost such folder is the subsystem's; controllers are links in it.
    let Some(subsystem) = place.ancestors().find(|part| named(part)) else {
        return Vec::new();
    };
    let controllers = tree.names(subsystem).into_iter();
    controllers
        .filter(|name| name.starts_with("nvme"))
        .filter_map(|name| device_of(tree, &subsystem.join(name)))
        .collect()
}

/// Disks and partitions that hold something mounted, or swap, with the place; also those below others (of an
/// encrypted volume, of LVM).
fn disks_in_use(tree: &Tree) -> BTreeSet<(String, String)> {
    let mounts = tree.text("proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts.lines().flat_map(|line| mounted(tree, line));
    let swaps = tree.text("proc/swaps").unwrap_or_default();
    let swaps = swaps.lines().filter_map(|line| {
        let disk = Path::new(line.split_whitespace().next()?).file_name()?;
        Some((disk.to_str()?.to_owned(), "swap".to_owned()))
    });
    let mut open: Vec<(String, String)> = mounts.chain(swaps).collect();
    let mut seen = BTreeSet::new();
    while let Some((disk, place)) = open.pop() {
        let below = tree.names(Path::new("sys/class/block").join(&disk).join("slaves"));
        if seen.insert((disk, place.clone())) {
            open.extend(below.into_iter().map(|disk| (disk, place.clone())));
        }
    }
    seen
}

/// The disks and partitions of a line of mountinfo, each with the mount point.
fn mounted(tree: &Tree, line: &str) -> Vec<(String, String)> {
    // ID, parent's ID, major:minor, root, mount point, options, .. - type, source, ..
    let mut fields = line.split_whitespace().skip(2);
    let (Some(number), Some(place)) = (fields.next(), fields.nth(1)) else {
        return Vec::new();
    };
    let disks = match tree.link_name(Path::new("sys/dev/block").join(number)) {
        Some(disk) => vec![disk],
        // Of file systems that span disks the number is nobody's: they name one of theirs.
        None => spanned(tree, fields.skip_while(|&field| field != "-").nth(2)),
    };
    let at_place = |disk| (disk, place.to_owned());
    disks.into_iter().map(at_place).collect()
}

/// All disks of the file system that is mounted from `source`.
fn spanned(tree: &Tree, source: Option<&str>) -> Vec<String> {
    let Some(source) = source.and_then(|source| source.strip_prefix("/dev/")) else {
        return Vec::new();
    };
    // A link of LVM's, or the disk itself.
    let dev = tree.path(Path::new("dev").join(source));
    let resolved = fs::canonicalize(&dev).unwrap_or(dev);
    let Some(disk) = resolved.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let pools = Path::new("sys/fs/btrfs");
    let members = tree.names(pools).into_iter();
    let mut members = members.map(|pool| tree.names(pools.join(pool).join("devices")));
    members
        .find(|disks| disks.iter().any(|member| member == disk))
        .unwrap_or_else(|| vec![disk.to_owned()])
}

/// A process that has a file open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub process: u32,
    /// What it calls itself.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.process, self.name)
    }
}

/// Which other processes have a device open through one of its files in `/dev`. Those of other users show only
/// to root.
pub fn holders(tree: &Tree, device: &PciDevice) -> Vec<Holder> {
    // Links to open files name them from the root of the machine.
    let files = device.files(tree).into_iter();
    let files: Vec<PathBuf> = files.map(|file| Path::new("/").join(file)).collect();
    let has_one = |process: &u32| {
        let folder = PathBuf::from(format!("proc/{process}/fd"));
        let links = tree.names(&folder).into_iter();
        links
            .filter_map(|link| fs::read_link(tree.path(folder.join(link))).ok())
            .any(|target| files.contains(&target))
    };
    if files.is_empty() {
        return Vec::new();
    }
    let processes = tree
        .names("proc")
        .into_iter()
        .filter_map(|name| name.parse().ok());
    processes
        .filter(|process| *process != std::process::id())
        .filter(has_one)
        .map(|process| Holder {
            process,
            name: tree
                .text(format!("proc/{process}/comm"))
                .unwrap_or_default(),
        })
        .collect()
}
