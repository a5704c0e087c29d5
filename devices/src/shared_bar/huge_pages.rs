//! Reserves 2 MiB pages for as long as a driver needs them, and gives them back.
//!
//! The reservation of the machine is one number. It is raised by what is asked for and lowered by as
//! much when the [`Reservation`] is dropped. A process that is killed cannot lower it, so each keeps a
//! note in `/run` of what it owes, and locks it: the kernel unlocks it when the process ends, however
//! it does. Whoever reserves or gives back next pays the debts of notes that nobody holds.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::SharedBarError;

/// The kernel's reservation of 2 MiB pages.
const RESERVED: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
/// Pages beyond the reservation, which the number above counts too: given back while they were in use,
/// they go when their users do.
const SURPLUS: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages";
/// Pages reserved and not in use.
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
/// Has the kernel move memory together, where it can.
const COMPACT: &str = "/proc/sys/vm/compact_memory";
/// How often it is asked for pages that are missing.
const ATTEMPTS: u32 = 3;
/// Where notes are kept: `NOTE_PREFIX` and a number, with the number of pages inside.
const NOTES: &str = "/run";
const NOTE_PREFIX: &str = "sumac-huge-pages.";
/// Held by whoever changes the reservation or the notes.
const LOCK: &str = "sumac-huge-pages.lock";

/// So many 2 MiB pages more than the machine had reserved before; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    pages: u64,
    note: PathBuf,
    /// The note, locked.
    held: File,
}

impl Reservation {
    /// Reserves `pages` 2 MiB pages more. What is free already is left to whoever it is meant for.
    ///
    /// # Errors
    /// [`SharedBarError::HugePages`] when the reservation may not be changed (needs root) or the
    /// kernel finds too little contiguous memory.
    pub fn new(pages: u64) -> Result<Self, SharedBarError> {
        let turn = turn()?;
        let notes = Path::new(NOTES);
        pay_debts(notes);
        let (note, held) = new_note(notes)?;
        // Nothing is owed yet: what is dropped early gives nothing back.
        let mut reservation = Self {
            pages: 0,
            note,
            held,
        };
        let free = reservation.raise_to(pages);
        // Before the reservation could end, which takes a turn too.
        drop(turn);
        let free = free?;
        if free < pages {
            return Err(SharedBarError::HugePages(format!(
                "asked for {pages} free 2 MiB pages, got {free}: free some memory, or reserve them after a restart"
            )));
        }
        Ok(reservation)
    }

    /// Raises the reservation by `pages`, and by as many as are missing then; says how many are free.
    fn raise_to(&mut self, pages: u64) -> Result<u64, SharedBarError> {
        self.raise(pages)?;
        let mut free = read(FREE)?;
        for _ in 0..ATTEMPTS {
            if free >= pages {
                break;
            }
            // Free memory may be in pieces, or somebody has taken of ours, who takes what is free.
            let _ = fs::write(COMPACT, "1");
            self.raise(pages - free)?;
            free = read(FREE)?;
        }
        Ok(free)
    }

    /// Raises the reservation by `more`, or as many as the kernel finds.
    fn raise(&mut self, more: u64) -> Result<(), SharedBarError> {
        write_debt(&self.held, self.pages + more)?;
        let change = change(more as i64);
        // The kernel may find fewer than it was asked for; only those are given back.
        self.pages += change
            .as_ref()
            .map_or(0, |gained| gained.max(&0).unsigned_abs());
        write_debt(&self.held, self.pages)?;
        change.map(|_| ())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // A note that stays is a debt that others pay; there is nobody to tell here.
        let Ok(_turn) = turn() else { return };
        pay_debts(Path::new(NOTES));
        if self.pages == 0 || change(-(self.pages as i64)).is_ok() {
            let _ = fs::remove_file(&self.note);
        }
    }
}

/// A new note, locked and still empty.
fn new_note(notes: &Path) -> Result<(PathBuf, File), SharedBarError> {
    let mut number = 0_u32;
    let note = loop {
        let note = notes.join(format!("{NOTE_PREFIX}{number}"));
        if !note.exists() {
            break note;
        }
        number += 1;
    };
    let file = File::create_new(&note).map_err(|error| unwritable(&note, &error))?;
    file.lock().map_err(|error| unwritable(&note, &error))?;
    Ok((note, file))
}

fn write_debt(note: &File, pages: u64) -> Result<(), SharedBarError> {
    // As wide as any, so that one write replaces it.
    let text = format!("{pages:<20}");
    note.write_all_at(text.as_bytes(), 0)
        .map_err(|error| unwritable(Path::new(NOTES), &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> SharedBarError {
    let path = path.display();
    SharedBarError::HugePages(format!("cannot write {path}: {error}: run as root"))
}

/// Gives back what processes reserved that are no more; in a turn. What their drivers, which may live
/// longer, still use is left to a later turn: the pages given back would be somebody else's.
fn pay_debts(notes: &Path) {
    for (note, pages) in debts(notes) {
        let unused = read(FREE).is_ok_and(|free| free >= pages);
        if unused && fs::remove_file(&note).is_ok() {
            let _ = change(-(pages as i64));
        }
    }
}

/// Notes that nobody holds, with their pages.
fn debts(notes: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = fs::read_dir(notes) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(NOTE_PREFIX)?;
            number.parse::<u32>().ok()?;
            let path = entry.path();
            File::open(&path).ok()?.try_lock().ok()?;
            let pages = read_number(&path).unwrap_or(0);
            Some((path, pages))
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

/// Waits until nobody else changes reservation or notes; a turn ends when it is dropped.
fn turn() -> Result<File, SharedBarError> {
    let path = Path::new(NOTES).join(LOCK);
    let failed = |error| unwritable(&path, &error);
    // The file of the kernel cannot be locked itself.
    let lock = File::create(&path).map_err(failed)?;
    lock.lock().map_err(failed)?;
    Ok(lock)
}

/// Changes the reservation, in a turn. Returns by how much it changed.
fn change(by: i64) -> Result<i64, SharedBarError> {
    let failed = |error: std::io::Error| {
        SharedBarError::HugePages(format!("{RESERVED}: {error}: run as root"))
    };
    let before = persistent(read(RESERVED)?, read(SURPLUS)?);
    let wanted = before.saturating_add_signed(by);
    let mut file = File::options().write(true).open(RESERVED).map_err(failed)?;
    file.write_all(wanted.to_string().as_bytes())
        .map_err(failed)?;
    let after = persistent(read(RESERVED)?, read(SURPLUS)?);
    Ok(after.cast_signed() - before.cast_signed())
}

/// The reservation of a machine that has `pages`: what may be written to [`RESERVED`] is without the
/// surplus. Counted in, pages that a killed driver still used would be reserved anew, and owed by nobody.
fn persistent(pages: u64, surplus: u64) -> u64 {
    pages.saturating_sub(surplus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_that_nobody_holds_are_debts() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        let (_, held) = new_note(directory).unwrap();
        write_debt(&held, 7).unwrap();
        let (note, killed) = new_note(directory).unwrap();
        write_debt(&killed, 12).unwrap();
        write_debt(&killed, 5).unwrap();
        fs::write(directory.join("other"), "3").unwrap();
        assert_eq!(debts(directory), []);
        // As the kernel does for a process that ends. Not by closing it: a process that another test starts just now
        // has it open as well for a moment.
        killed.unlock().unwrap();
        assert_eq!(debts(directory), [(note, 5)]);
    }
}
