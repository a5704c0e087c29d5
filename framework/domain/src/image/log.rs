//! The `log` crate's records, formatted here and handed to the host as text.
//!
//! Invariant: a record longer than a line is cut, never grown on the heap.

use core::fmt::Write;

use log::{LevelFilter, Log, Metadata, Record};

use super::line::Line;

struct HostLog;

impl Log for HostLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        super::host().is_some()
    }

    fn log(&self, record: &Record<'_>) {
        let Some(host) = super::host() else {
            return;
        };
        let mut line = Line::new();
        // A line that is full is cut: no error to anyone.
        let _ = write!(line, "{}: {}", record.target(), record.args());
        let text = line.as_str();
        // SAFETY: the text's bytes, valid for the call.
        unsafe { (host.log)(record.level() as u32, text.as_ptr(), text.len()) };
    }

    fn flush(&self) {}
}

/// Sends every record to the host, which knows what to keep.
pub(super) fn install() {
    // An error means that there is a logger: this one, of an earlier entry.
    let _ = log::set_logger(&HostLog);
    log::set_max_level(LevelFilter::Info);
}
