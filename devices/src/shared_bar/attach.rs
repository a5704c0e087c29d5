//! Finds the process that drives the device, and its memory.
//!
//! A driver under `uio` tells nobody which memory it will have the device reach: it looks up the
//! physical addresses of its huge pages and writes them into descriptors. So the device looks, too:
//! at who maps its BAR (`/proc/PID/maps`), and at that process's huge pages (`/proc/PID/map_files`,
//! which opens unlinked files also, and `/proc/PID/pagemap`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};

use super::SharedBarError;
use crate::memory::{CHUNK, GuestMemory};

/// One mapping of a process, from `/proc/PID/maps`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    shared: bool,
    file: FileIdentity,
}

/// Device and inode number of a file: what stays the same whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let offset = fields.next()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let (major, minor) = (
        u32::from_str_radix(major, 16).ok()?,
        u32::from_str_radix(minor, 16).ok()?,
    );
    let inode = fields.next()?.parse().ok()?;
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        shared: permissions.ends_with('s'),
        file: FileIdentity {
            device: libc::makedev(major, minor),
            inode,
        },
    })
}

fn mappings(process: u32) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

/// Whether `process` maps one of the BARs of these files.
pub(super) fn maps_bar(process: u32, bars: &[FileIdentity]) -> bool {
    mappings(process)
        .iter()
        .any(|mapping| mapping.shared && bars.contains(&mapping.file))
}

/// The first process but this one that maps one of the BARs.
pub(super) fn find_driver(bars: &[FileIdentity]) -> Option<u32> {
    fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&process| process != std::process::id())
        .find(|&process| maps_bar(process, bars))
}

/// Shows the device every huge page of `process` that is not among `known`, by physical addresses, and
/// adds it there. A page stays the driver's as long as the device maps it, so an address once known
/// stays right until the driver is gone.
///
/// # Errors
/// [`SharedBarError::Attach`] when the kernel does not let us look (needs root), and
/// [`SharedBarError::Window`] when a page cannot be mapped.
pub(super) fn map_huge_pages(
    process: u32,
    window: &GuestMemory,
    known: &mut BTreeSet<u64>,
) -> Result<(), SharedBarError> {
    let refused = |source| SharedBarError::Attach { process, source };
    let pagemap = File::open(format!("/proc/{process}/pagemap")).map_err(refused)?;
    for mapping in mappings(process) {
        let aligned = mapping.start.is_multiple_of(CHUNK);
        if !mapping.shared || !aligned || mapping.end - mapping.start < CHUNK {
            continue;
        }
        let Some(file) = open_huge(process, &mapping).map_err(refused)? else {
            continue;
        };
        for at in (mapping.start..mapping.end).step_by(CHUNK as usize) {
            let Some(physical) = physical_address(&pagemap, at).map_err(refused)? else {
                continue;
            };
            if !known.contains(&physical) {
                window.map(
                    physical,
                    CHUNK,
                    &file,
                    mapping.offset + (at - mapping.start),
                )?;
                known.insert(physical);
            }
        }
    }
    Ok(())
}

/// Opens the file behind a mapping if it consists of huge pages. `None` if not, or if the mapping is
/// gone by now.
fn open_huge(process: u32, mapping: &Mapping) -> std::io::Result<Option<File>> {
    let name = format!(
        "/proc/{process}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    );
    let path = PathBuf::from(name);
    // Only regular files are opened: opening a device node could have effects.
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() && FileIdentity::of(&metadata) == mapping.file => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let file = match File::options().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    let huge = fstatfs(&file)?.filesystem_type() == HUGETLBFS_MAGIC;
    Ok(huge.then_some(file))
}

/// The physical address of the page at `at`, if it is present (Linux, pagemap.rst: bits 0-54 the
/// frame, bit 63 present).
fn physical_address(pagemap: &File, at: u64) -> std::io::Result<Option<u64>> {
    let mut entry = [0; 8];
    pagemap.read_exact_at(&mut entry, at / 4096 * 8)?;
    let entry = u64::from_le_bytes(entry);
    let frame = entry & ((1 << 55) - 1);
    Ok((entry >> 63 == 1 && frame != 0).then_some(frame * 4096))
}

/// One above the highest address of memory (1 TiB where the machine does not tell).
pub(super) fn physical_end() -> u64 {
    let text = fs::read_to_string("/proc/iomem").unwrap_or_default();
    memory_end(&text).unwrap_or(1 << 40)
}

fn memory_end(iomem: &str) -> Option<u64> {
    iomem
        .lines()
        .filter_map(|line| line.split_once(" : "))
        .filter(|(_, what)| *what == "System RAM")
        .filter_map(|(range, _)| u64::from_str_radix(range.trim().split_once('-')?.1, 16).ok())
        .filter(|&last| last > 0)
        .max()
        .map(|last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_memory() {
        let text = "00001000-0009fbff : System RAM\n00100000-7fffffff : System RAM\n  01000000-01ffffff : Kernel code\nfee00000-fee00fff : Local APIC\n";
        assert_eq!(memory_end(text), Some(0x8000_0000));
        assert_eq!(memory_end("00000000-00000000 : System RAM\n"), None);
    }

    #[test]
    fn a_line_of_maps() {
        let line = "100200000-100400000 rw-s 00200000 00:19 4711      /dev/hugepages/rtemap_1";
        let mapping = Mapping {
            start: 0x1_0020_0000,
            end: 0x1_0040_0000,
            offset: 0x20_0000,
            shared: true,
            file: FileIdentity {
                device: libc::makedev(0, 0x19),
                inode: 4711,
            },
        };
        assert_eq!(parse(line), Some(mapping));
        assert_eq!(
            parse("7f00-7f10 r-xp 0 00:00 0").map(|m| m.shared),
            Some(false)
        );
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn this_process_maps_no_bar() {
        let nowhere = FileIdentity {
            device: u64::MAX,
            inode: u64::MAX,
        };
        assert!(!maps_bar(std::process::id(), &[nowhere]));
        assert_eq!(find_driver(&[nowhere]), None);
    }
}
