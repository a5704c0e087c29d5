//! A round trip to another process, for scale: this program again, which answers on an eventfd.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::{fs::File, io};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::IsolationError;

/// The argument that makes the program answer.
pub const ECHO: &str = "--echo";

/// Another process that answers.
pub struct Echo {
    child: Child,
    to: File,
    from: File,
}

impl Echo {
    /// Starts this program again, to answer.
    ///
    /// # Errors
    /// [`IsolationError::Linux`].
    pub fn start() -> Result<Self, IsolationError> {
        let start = || {
            let event = || EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC);
            let (to, from) = (OwnedFd::from(event()?), OwnedFd::from(event()?));
            let child = Command::new(std::env::current_exe()?)
                .arg(ECHO)
                .stdin(Stdio::from(to.try_clone()?))
                .stdout(Stdio::from(from.try_clone()?))
                .spawn()?;
            Ok(Self {
                child,
                to: to.into(),
                from: from.into(),
            })
        };
        start().map_err(|source: io::Error| IsolationError::Linux {
            what: "another process",
            source,
        })
    }

    /// One round trip; false when the process is gone.
    pub fn round(&mut self) -> bool {
        let mut answer = [0; 8];
        self.to.write_all(&1_u64.to_ne_bytes()).is_ok() && self.from.read_exact(&mut answer).is_ok()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It is this process's own child, and may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers until the other end is gone.
pub fn echo() {
    let (mut from, mut to) = (io::stdin().lock(), io::stdout().lock());
    let mut question = [0; 8];
    while from.read_exact(&mut question).is_ok() {
        if to.write_all(&1_u64.to_ne_bytes()).is_err() || to.flush().is_err() {
            return;
        }
    }
}
