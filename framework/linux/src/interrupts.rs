//! Interrupts as something a thread can sleep on: a [`Bell`] that devices ring.
//!
//! One bell can be rung by many vectors of many devices, so that a thread that serves several queues sleeps on
//! one. A bell that was rung while nobody slept stays rung, so none is missed: whoever sleeps next wakes at once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// What a thread sleeps on until a device, or another thread, rings it.
#[derive(Debug)]
pub struct Bell(EventFd);

impl Bell {
    /// A bell that has not been rung.
    ///
    /// # Errors
    /// What Linux says when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(EventFd::from_value_and_flags(0, flags)?))
    }

    /// Wakes whoever sleeps, or will sleep next.
    pub fn ring(&self) {
        // A bell that was rung 2^64 - 2 times is as good as one more.
        let _ = self.0.write(1);
    }

    /// Sleeps until it is rung, no longer than `timeout`; whether it was.
    pub fn wait(&self, timeout: Duration) -> bool {
        if self.take() {
            return true;
        }
        // Whole milliseconds, rounded up: no timeout is none.
        let ms = timeout.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        // A signal wakes as well: its handler may have something to say.
        let _ = poll(&mut fds, timeout);
        self.take()
    }

    /// Whether it was rung since it was last looked at.
    fn take(&self) -> bool {
        match self.0.read() {
            Ok(_) => true,
            Err(error) => error != Errno::EAGAIN,
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A device's message-signalled interrupts (MSI-X).
pub trait Interrupts: Send + Sync {
    /// How many vectors the device has.
    ///
    /// # Errors
    /// The device is gone, or its host says no.
    fn vectors(&self) -> io::Result<u32>;

    /// From now on each vector, from the first on, rings its bell; those without one are lost. No bells turn
    /// interrupts off.
    ///
    /// # Errors
    /// There are not so many, the device is gone, or its host says no.
    fn connect(&self, bells: &[Arc<Bell>]) -> io::Result<()>;

    /// Rings `bell` when the device is about to go: its host wants it back.
    ///
    /// # Errors
    /// The device's host does not say so beforehand.
    fn on_removal(&self, bell: &Bell) -> io::Result<()>;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_bell_rung_before_anybody_slept_wakes_once() {
        let bell = Bell::new().unwrap();
        bell.ring();
        bell.ring();
        assert!(bell.wait(Duration::from_secs(60)));
        assert!(!bell.wait(Duration::ZERO));
    }

    #[test]
    fn a_sleeper_wakes_when_it_is_rung() {
        let bell = Arc::new(Bell::new().unwrap());
        let ringer = Arc::clone(&bell);
        let thread = std::thread::spawn(move || ringer.ring());
        assert!(bell.wait(Duration::from_secs(60)));
        thread.join().unwrap();
        let start = Instant::now();
        assert!(!bell.wait(Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
