//! A clean stop on SIGINT and SIGTERM; a second signal ends the process at once.
//!
//! The handler does three things, all allowed in one (signal-safety(7)): it sets a flag, it writes
//! to an eventfd so that [`Stop::wait`] returns, and at the second signal it leaves.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Whether a stop was asked for.
static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Whether a signal asked: the next one ends the process.
static SIGNALLED: AtomicBool = AtomicBool::new(false);
/// [`EVENT`]'s number, for the handler.
static EVENT_FD: AtomicI32 = AtomicI32::new(-1);
/// Readable as soon as a stop was asked for; never read, never closed.
static EVENT: OnceLock<EventFd> = OnceLock::new();

/// The process's wish to stop, from a signal or from [`request`](Self::request). There is one; all
/// values of this type are it.
#[derive(Clone, Copy, Debug)]
pub struct Stop(());

impl Stop {
    /// Handles SIGINT and SIGTERM from now on. Once is enough, more do no harm.
    ///
    /// # Errors
    /// What Linux says if it gives no eventfd or handler.
    pub fn install() -> io::Result<Self> {
        if EVENT.get().is_none() {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            // Another thread may have been faster; then its eventfd stays and this one closes.
            let _ = EVENT.set(EventFd::from_flags(flags)?);
        }
        if let Some(event) = EVENT.get() {
            EVENT_FD.store(event.as_raw_fd(), Ordering::Release);
        }
        let handler = SigHandler::Handler(on_signal);
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            // SAFETY: `on_signal` calls only async-signal-safe functions and touches only atomics.
            unsafe { sigaction(signal, &action) }?;
        }
        Ok(Self(()))
    }

    /// Whether it is time to stop: one relaxed load, fit for a packet loop.
    #[inline(always)]
    pub fn requested(self) -> bool {
        stop_requested()
    }

    /// Asks for a stop, as a signal does: the duration is over, the input is at its end.
    pub fn request(self) {
        request();
    }

    /// Sleeps until a stop is asked for or `timeout` is over; says which (`true`: stop).
    pub fn wait(self, timeout: Duration) -> bool {
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            if self.requested() || left.is_zero() {
                return self.requested();
            }
            // Rounded up, so that the last turn does not spin.
            let left = left.saturating_add(Duration::from_millis(1));
            let slice = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let Some(event) = EVENT.get() else {
                return self.requested();
            };
            let mut fds = [PollFd::new(event.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, slice) {
                Ok(_) | Err(Errno::EINTR) => {}
                // Without poll there is still the flag, looked at every so often.
                Err(_) => std::thread::sleep(left.min(Duration::from_millis(10))),
            }
        }
    }
}

/// Whether it is time to stop, for those who wait inside this crate.
#[inline(always)]
pub(crate) fn stop_requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Sets the flag and wakes sleepers. Async-signal-safe.
fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
    let one = 1u64.to_ne_bytes();
    // SAFETY: write(2) is async-signal-safe and reads eight bytes of `one`, which lives. A bad
    // descriptor, or an eventfd already at its limit, is an error that changes nothing.
    unsafe {
        libc::write(
            EVENT_FD.load(Ordering::Acquire),
            one.as_ptr().cast(),
            one.len(),
        )
    };
}

/// The handler of both signals.
extern "C" fn on_signal(signal: libc::c_int) {
    if SIGNALLED.swap(true, Ordering::Relaxed) {
        // SAFETY: _exit(2) is async-signal-safe. 128 + number is what a shell reports for it.
        unsafe { libc::_exit(128 + signal) };
    }
    // SAFETY: errno belongs to this thread; the code it interrupted may be about to read it.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above: the pointer is valid for as long as the thread runs.
    let before = unsafe { *errno };
    request();
    // SAFETY: as above.
    unsafe { *errno = before };
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    use super::*;

    const CHILD: &str = "SUMAC_TEST_STOP_CHILD";

    /// Not a test by itself: what the child processes of the others run. It says when it listens,
    /// when it was asked to stop, and then takes its time.
    #[test]
    fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let stop = Stop::install().unwrap();
        assert!(!stop.wait(Duration::from_millis(5)));
        println!("\nlistening");
        while !stop.wait(Duration::from_secs(60)) {}
        println!("stopping");
        std::thread::sleep(Duration::from_secs(60));
    }

    fn start() -> (Child, impl Iterator<Item = String>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signals::tests::child", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        (child, output.lines().map_while(Result::ok))
    }

    fn send(child: &Child, signal: Signal) {
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    }

    #[test]
    fn the_first_signal_stops_and_the_second_ends() {
        let pairs = [
            (Signal::SIGINT, Signal::SIGINT, 130),
            (Signal::SIGINT, Signal::SIGTERM, 143),
            (Signal::SIGTERM, Signal::SIGINT, 130),
        ];
        for (first, second, code) in pairs {
            let (mut child, mut lines) = start();
            assert!(lines.any(|line| line == "listening"));
            send(&child, first);
            assert!(lines.any(|line| line == "stopping"));
            send(&child, second);
            let status = child.wait().unwrap();
            assert_eq!((status.code(), status.signal()), (Some(code), None));
        }
    }
}
