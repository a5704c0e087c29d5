//! What wires to the host's network interfaces have in common: how their errors are understood, and
//! what is reported of a frame.
//!
//! Invariant: an error that may pass is never a failure of the wire.

use std::io::{Error, ErrorKind};

use super::{WireError, WireReport};

/// Nanoseconds without a system call after one that had no frame: a device asks again far sooner
/// than an interface has anything new.
pub(super) const IDLE_NS: u64 = 5_000;
/// What the kernel can hand over at most.
pub(super) const BUFFER: usize = 65_536;

/// An error of set-up that has no special meaning.
pub(super) fn system_error(
    name: &str,
    action: &'static str,
    capability: &'static str,
    source: Error,
) -> WireError {
    let name = name.to_owned();
    match source.kind() {
        ErrorKind::PermissionDenied => WireError::Permission {
            name,
            action,
            capability,
        },
        _ => WireError::System {
            name,
            action,
            source,
        },
    }
}

/// What to do about a frame that the kernel did not take.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// No room now: try again.
    Retry,
    /// This frame is lost: too long for the interface, or the interface is down.
    Frame,
    /// Nothing will go any more.
    Interface,
}

impl Refusal {
    fn of(error: &Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR | libc::ENOMEM) => Self::Retry,
            Some(libc::ENODEV | libc::ENXIO | libc::EBADFD) => Self::Interface,
            _ => Self::Frame,
        }
    }
}

/// What the report of a wire to an interface says before anything has passed.
pub(super) fn new_report() -> WireReport {
    WireReport {
        has_input: true,
        ..WireReport::default()
    }
}

impl WireReport {
    /// The device took a frame of `bytes`.
    pub(super) fn consumed(&mut self, bytes: usize) {
        self.to_device_frames += 1;
        self.to_device_bytes += bytes as u64;
    }

    /// A frame of `bytes` was handed to the interface `name`. `false`: there was no room.
    pub(super) fn sent(&mut self, name: &str, bytes: usize, outcome: Result<usize, Error>) -> bool {
        let Err(error) = outcome else {
            self.from_device_frames += 1;
            self.from_device_bytes += bytes as u64;
            return true;
        };
        let refusal = Refusal::of(&error);
        if refusal == Refusal::Retry {
            return false;
        }
        self.errors.refused += 1;
        if refusal == Refusal::Interface {
            self.failed(name, "send", &error);
        }
        true
    }

    /// Nothing came from the interface `name`. That it is down may pass; that it is gone ends the
    /// input.
    pub(super) fn not_received(&mut self, name: &str, error: &Error) {
        if Refusal::of(error) == Refusal::Interface {
            self.failed(name, "receive", error);
            self.finished = true;
        }
    }

    /// The first failure is the one that tells.
    fn failed(&mut self, name: &str, action: &str, error: &Error) {
        let text = || format!("{name}: cannot {action}: {error}");
        self.failure.get_or_insert_with(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_interface_that_is_gone_is_a_failure() {
        let error = |code| Error::from_raw_os_error(code);
        let mut report = new_report();
        assert!(report.sent("a", 60, Ok(60)));
        assert!(!report.sent("a", 60, Err(error(libc::ENOBUFS))));
        assert!(report.sent("a", 60, Err(error(libc::ENETDOWN))));
        report.not_received("a", &error(libc::ENETDOWN));
        assert_eq!((report.from_device_frames, report.errors.refused), (1, 1));
        assert!(report.failure.is_none() && !report.finished);

        assert!(report.sent("a", 60, Err(error(libc::ENODEV))));
        report.not_received("a", &error(libc::ENXIO));
        assert_eq!(report.errors.refused, 2);
        assert!(report.finished);
        assert!(report.failure.unwrap().starts_with("a: cannot send: "));
    }
}
