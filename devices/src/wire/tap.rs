//! `tap=NAME`: a TAP interface, created if there is none.
//!
//! Whoever uses the interface sees a network card with the software port at the other end of the
//! cable. The kernel hands over whole frames with their checksums filled in, since the interface
//! promises no offloads. Its MTU is the user's to set. Frames wait in the interface's queue for descriptors, but not
//! for a port that does not receive.

use std::fs::File;
use std::io::{Read, Write};

use super::interface::{BUFFER, IDLE_NS, new_report, system_error};
use super::sys::{self, interface_name};
use super::{LinkSwitch, MAX_FRAME, Wire, WireError, WireReport};

/// A TAP interface.
#[derive(Debug)]
pub struct TapWire {
    link: LinkSwitch,
    name: String,
    file: File,
    buffer: Box<[u8]>,
    /// Bytes of the frame at the port; 0 is none.
    length: usize,
    idle_until_ns: u64,
    report: WireReport,
}

impl TapWire {
    /// Attaches to the TAP interface `name`, creating it if there is none, and sets it up.
    ///
    /// # Errors
    /// No permission, the interface is something else, or somebody else has it.
    pub fn open(name: &str) -> Result<Self, WireError> {
        let checked =
            interface_name(name).ok_or_else(|| WireError::InterfaceName(name.to_owned()))?;
        let file = sys::open_tap(&checked).map_err(|error| attach_error(name, error))?;
        sys::set_up(&checked)
            .map_err(|error| system_error(name, "set it up", "CAP_NET_ADMIN", error))?;
        Ok(Self {
            link: LinkSwitch::new(),
            name: name.to_owned(),
            file,
            buffer: vec![0; BUFFER].into(),
            length: 0,
            idle_until_ns: 0,
            report: new_report(),
        })
    }
}

fn attach_error(name: &str, error: std::io::Error) -> WireError {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => WireError::NoTun(name.to_owned()),
        Some(libc::EINVAL) => WireError::NotTap(name.to_owned()),
        Some(libc::EBUSY) => WireError::Busy(name.to_owned()),
        _ => system_error(name, "attach to a TAP interface", "CAP_NET_ADMIN", error),
    }
}

impl Wire for TapWire {
    fn peek(&mut self, now_ns: u64) -> Option<&[u8]> {
        if !self.link.is_up() || (self.length == 0 && now_ns < self.idle_until_ns) {
            return None;
        }
        while self.length == 0 {
            match self.file.read(&mut self.buffer) {
                Ok(length) if length > MAX_FRAME => self.report.errors.oversize += 1,
                Ok(0) => return None,
                Ok(length) => self.length = length,
                Err(error) => {
                    self.idle_until_ns = now_ns + IDLE_NS;
                    // EIO: the interface is down, and may come up again.
                    self.report.not_received(&self.name, &error);
                    return None;
                }
            }
        }
        self.buffer.get(..self.length)
    }

    fn consume(&mut self) {
        if self.length > 0 {
            self.report.consumed(self.length);
            self.length = 0;
        }
    }

    fn transmit(&mut self, _now_ns: u64, frame: &[u8]) -> bool {
        let outcome = self.file.write(frame);
        self.report.sent(&self.name, frame.len(), outcome)
    }

    fn drops_when_full(&self) -> bool {
        false
    }

    fn pass_by(&mut self, now_ns: u64, limit: usize) -> usize {
        let mut passed = 0;
        while passed < limit && self.peek(now_ns).is_some() {
            self.length = 0;
            self.report.passed_by += 1;
            passed += 1;
        }
        passed
    }

    fn link(&self) -> &LinkSwitch {
        &self.link
    }

    fn report(&self) -> WireReport {
        self.report.clone()
    }
}
