//! Writes that may never return: a driver that hangs keeps whoever wrote to it, beyond any signal.
//!
//! So each is a process of its own, which is left behind if need be. A thread would not do: a process is not over
//! before all its threads are.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// How long a write goes on between looks at it.
const LOOK: Duration = Duration::from_millis(1);

/// Why nothing was written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// What the kernel said.
    Refused(io::Error),
    /// It goes on, in a process of this number.
    Hangs(u32),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Refused(error)
    }
}

/// Writes `text` to a file that is there, in one call; gives up on it after `patience`.
///
/// # Errors
/// [`WriteError`].
pub(super) fn write(path: PathBuf, text: &str, patience: Duration) -> Result<(), WriteError> {
    let path = CString::new(path.into_os_string().into_vec()).map_err(io::Error::from)?;
    // SAFETY: the child makes system calls, and nothing else: other threads may have held locks.
    let child = match unsafe { fork() }.map_err(io::Error::from)? {
        ForkResult::Parent { child } => child,
        // SAFETY: this is the child.
        ForkResult::Child => unsafe { write_and_exit(&path, text.as_bytes()) },
    };
    let start = Instant::now();
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) if start.elapsed() < patience => thread::sleep(LOOK),
            Ok(WaitStatus::StillAlive) => return Err(WriteError::Hangs(number(child))),
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, errno)) => {
                return Err(io::Error::from_raw_os_error(errno).into());
            }
            Ok(ended) => return Err(io::Error::other(format!("the writer: {ended:?}")).into()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    }
}

fn number(process: Pid) -> u32 {
    process.as_raw().unsigned_abs()
}

/// Writes, and ends the process with the number of the error there was.
///
/// # Safety
/// The process is to do nothing else.
unsafe fn write_and_exit(path: &CStr, text: &[u8]) -> ! {
    // SAFETY: nobody in this process uses the descriptors any more, whose other ends may be waited for; path and
    // text are valid, and nothing is called but the kernel.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) != 0 {
            // Linux before 5.9: as many as a process has that says nothing else.
            (0..1024).for_each(|descriptor| _ = libc::close(descriptor));
        }
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        let written = match file {
            ..0 => -1,
            _ => libc::write(file, text.as_ptr().cast(), text.len()),
        };
        libc::_exit(match usize::try_from(written) {
            Ok(bytes) if bytes == text.len() => 0,
            Ok(_) => libc::EIO,
            Err(_) => *libc::__errno_location(),
        })
    }
}
