//! Interrupts as something a thread can sleep on: a [`Bell`] that devices ring.
//!
//! One bell can be rung by many vectors of many devices, so that a thread that serves several queues sleeps on
//! one. A bell that was rung while nobody slept stays rung, so none is missed: whoever sleeps next wakes at once.
//!
//! Invariant: no other process can have a thread of this one wait. What is shared with one is read without waiting
//! whatever its flags say, which belong to both, and never written; nor is it another device's.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rustix::io::{ReadWriteFlags, preadv2};

/// What a thread sleeps on until a device, or another thread, rings it.
#[derive(Debug)]
pub struct Bell {
    own: EventFd,
    /// What other processes ring it by.
    cords: Mutex<Vec<Weak<Cord>>>,
}

/// What one other process rings a bell by, as long as it is kept here.
#[derive(Debug)]
pub struct Cord(OwnedFd);

impl AsFd for Cord {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn event() -> io::Result<EventFd> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Ok(EventFd::from_value_and_flags(0, flags)?)
}

impl Bell {
    /// A bell that has not been rung.
    ///
    /// # Errors
    /// What Linux says when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            own: event()?,
            cords: Mutex::default(),
        })
    }

    /// Something to hand to another process, which rings the bell as long as what is returned is kept.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn cord(&self) -> io::Result<Arc<Cord>> {
        let cord = Arc::new(Cord(event()?.into()));
        let mut cords = self.cords();
        cords.retain(|cord| cord.strong_count() > 0);
        cords.push(Arc::downgrade(&cord));
        Ok(cord)
    }

    fn cords(&self) -> MutexGuard<'_, Vec<Weak<Cord>>> {
        self.cords.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever sleeps, or will sleep next.
    pub fn ring(&self) {
        // A bell that was rung 2^64 - 2 times is as good as one more.
        let _ = self.own.write(1);
    }

    /// Sleeps until it is rung, no longer than `timeout`; whether it was.
    pub fn wait(&self, timeout: Duration) -> bool {
        let cords: Vec<_> = self.cords().iter().filter_map(Weak::upgrade).collect();
        if self.take(&cords) {
            return true;
        }
        // Whole milliseconds, rounded up: no timeout is none.
        let ms = timeout.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
        let all = std::iter::once(self.own.as_fd()).chain(cords.iter().map(|cord| cord.as_fd()));
        let mut fds: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // A signal wakes as well: its handler may have something to say.
        let _ = poll(&mut fds, timeout);
        self.take(&cords)
    }

    /// Whether it was rung since it was last looked at.
    fn take(&self, cords: &[Arc<Cord>]) -> bool {
        let own = !matches!(self.own.read(), Err(Errno::EAGAIN));
        // Each is looked at: one that stays rung would wake again.
        cords.iter().fold(own, |rung, cord| cord.take() || rung)
    }
}

impl Cord {
    fn take(&self) -> bool {
        let mut count = [0; 8];
        // No position: that of a file that has none.
        let read = preadv2(
            &self.0,
            &mut [IoSliceMut::new(&mut count)],
            u64::MAX,
            ReadWriteFlags::NOWAIT,
        );
        read.is_ok()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
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

    /// The flags of a descriptor that was sent are the receiver's as well, and so is what it counts.
    #[test]
    fn whoever_has_a_cord_can_ring_and_nothing_else() {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let bell = Bell::new().unwrap();
        let (one, other) = (bell.cord().unwrap(), bell.cord().unwrap());
        let theirs = one.as_fd().try_clone_to_owned().unwrap();
        let ring = |fd: &OwnedFd| nix::unistd::write(fd, &1_u64.to_ne_bytes());
        ring(&theirs).unwrap();
        assert!(bell.wait(Duration::from_secs(60)));
        assert!(!bell.wait(Duration::ZERO));
        fcntl(&theirs, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        assert!(!bell.wait(Duration::ZERO), "it does not wait for a count");
        nix::unistd::write(&theirs, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        bell.ring();
        assert!(bell.wait(Duration::ZERO));
        assert!(!bell.wait(Duration::ZERO));
        // What one drains is not the others'.
        ring(&other.as_fd().try_clone_to_owned().unwrap()).unwrap();
        fcntl(&theirs, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        assert!(nix::unistd::read(&theirs, &mut [0; 8]).is_err());
        assert!(bell.wait(Duration::ZERO));
        // A device that is gone rings no more.
        drop(one);
        ring(&theirs).unwrap();
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
