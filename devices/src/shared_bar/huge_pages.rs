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
        // Nothing is owed yet: what is dropped early gives nothing back.
        let mut reservation = Self { pages: 0, note };
        let debt = read_number(&reservation.note).unwrap_or(0);
        reservation.write_debt(debt + pages)?;
        let change = change(pages as i64);
        // The kernel may find fewer than it was asked for; only those are given back.
        reservation.pages = change
            .as_ref()
            .map_or(0, |gained| gained.max(&0).unsigned_abs());
        reservation.write_debt(debt + reservation.pages)?;
        change?;
        let free = read(FREE)?;
        if free < pages {
            return Err(SharedBarError::HugePages(format!(
                "asked for {pages} free 2 MiB pages, got {free}: free some memory, or reserve them after a restart"
            )));
        }
        Ok(reservation)
    }

    /// Notes what this process owes in all.
    fn write_debt(&self, debt: u64) -> Result<(), SharedBarError> {
        let written = match debt {
            0 if !self.note.exists() => Ok(()),
            0 => fs::remove_file(&self.note),
            debt => fs::write(&self.note, debt.to_string()),
        };
        written.map_err(|error| {
            let note = self.note.display();
            SharedBarError::HugePages(format!("cannot write {note}: {error}: run as root"))
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.pages == 0 || change(-(self.pages as i64)).is_err() {
            return;
        }
        let debt = read_number(&self.note).unwrap_or(0);
        // A note that stays makes the next reservation pay once more; there is nobody to tell here.
        let _ = self.write_debt(debt.saturating_sub(self.pages));
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

/// Reads and writes the reservation; others who do so by this function wait. Returns by how much it changed.
fn change(by: i64) -> Result<i64, SharedBarError> {
    let failed = |error: std::io::Error| {
        SharedBarError::HugePages(format!("{RESERVED}: {error}: run as root"))
    };
    let file = File::options().write(true).open(RESERVED).map_err(failed)?;
    // Held until the end of this function; the file of the kernel cannot be locked itself.
    let lock = File::create(Path::new(NOTES).join(LOCK)).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let before = read(RESERVED)?;
    let wanted = before.saturating_add_signed(by);
    (&file)
        .write_all(wanted.to_string().as_bytes())
        .map_err(failed)?;
    Ok(read(RESERVED)?.cast_signed() - before.cast_signed())
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
