//! Reserves 2 MiB pages for as long as a driver needs them, and gives them back.
//!
//! The reservation of the machine is one number. It is raised by what is asked for and lowered by as
//! much when the [`Reservation`] is dropped. A process that is killed cannot lower it, so it leaves a
//! note in `/run`; the next reservation reads the notes of dead processes first and pays their debts.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::SharedBarError;

/// The kernel's reservation of 2 MiB pages.
const RESERVED: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
/// Pages reserved and not in use.
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
/// Where notes are kept: `PREFIX` + process id, with the number of pages inside.
const NOTES: &str = "/run";
const NOTE_PREFIX: &str = "sumac-huge-pages.";
/// Held by whoever changes the reservation.
const LOCK: &str = "sumac-huge-pages.lock";

/// So many 2 MiB pages more than the machine had reserved before; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    pages: u64,
    note: PathBuf,
}

impl Reservation {
    /// Reserves `pages` 2 MiB pages more. What is free already is left to whoever it is meant for.
    ///
    /// # Errors
    /// [`SharedBarError::HugePages`] when the reservation may not be changed (needs root) or the
    /// kernel finds too little contiguous memory.
    pub fn new(pages: u64) -> Result<Self, SharedBarError> {
        pay_debts(Path::new(NOTES));
        let note = Path::new(NOTES).join(format!("{NOTE_PREFIX}{}", std::process::id()));
        let reservation = Self { pages, note };
        let debt = read_number(&reservation.note).unwrap_or(0) + pages;
        fs::write(&reservation.note, debt.to_string()).map_err(|error| {
            let note = reservation.note.display();
            SharedBarError::HugePages(format!("cannot write {note}: {error}: run as root"))
        })?;
        change(pages as i64)?;
        let free = read(FREE)?;
        if free < pages {
            return Err(SharedBarError::HugePages(format!(
                "asked for {pages} free 2 MiB pages, got {free}: free some memory, or reserve them after a restart"
            )));
        }
        Ok(reservation)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.pages == 0 || change(-(self.pages as i64)).is_err() {
            return;
        }
        let debt = read_number(&self.note).unwrap_or(0);
        let _ = match debt.saturating_sub(self.pages) {
            0 => fs::remove_file(&self.note),
            rest => fs::write(&self.note, rest.to_string()),
        };
    }
}

/// Gives back what processes reserved that are no more.
fn pay_debts(notes: &Path) {
    for (note, pages) in debts(notes) {
        if fs::remove_file(&note).is_ok() {
            let _ = change(-(pages as i64));
        }
    }
}

/// Notes of dead processes, with their pages.
fn debts(notes: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = fs::read_dir(notes) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let process = name
                .to_str()?
                .strip_prefix(NOTE_PREFIX)?
                .parse::<u32>()
                .ok()?;
            let alive = Path::new("/proc").join(process.to_string()).exists();
            (!alive).then(|| (entry.path(), read_number(&entry.path()).unwrap_or(0)))
        })
        .collect()
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn read(path: &str) -> Result<u64, SharedBarError> {
    read_number(Path::new(path)).ok_or_else(|| {
        SharedBarError::HugePages(format!(
            "{path}: not a number: no huge page support in this kernel"
        ))
    })
}

/// Reads and writes the reservation; others who do so by this function wait.
fn change(by: i64) -> Result<(), SharedBarError> {
    let failed = |error: std::io::Error| {
        SharedBarError::HugePages(format!("{RESERVED}: {error}: run as root"))
    };
    let file = File::options().write(true).open(RESERVED).map_err(failed)?;
    // Held until the end of this function; the file of the kernel cannot be locked itself.
    let lock = File::create(Path::new(NOTES).join(LOCK)).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let wanted = read(RESERVED)?.saturating_add_signed(by);
    (&file)
        .write_all(wanted.to_string().as_bytes())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dead_are_in_debt() {
        let directory = std::env::temp_dir().join(format!("sumac-notes-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let note = |process: u32| directory.join(format!("{NOTE_PREFIX}{process}"));
        let beyond_any_process = 4_194_304 + 1; // PID_MAX_LIMIT is 4 Mi
        fs::write(note(std::process::id()), "7").unwrap();
        fs::write(note(beyond_any_process), "5\n").unwrap();
        fs::write(directory.join("other"), "3").unwrap();
        let found = debts(&directory);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found, [(note(beyond_any_process), 5)]);
    }
}
