//! A round trip to another process, for scale: this program again, which answers through a page that both
//! map and a futex, or through two eventfds.
// UNSAFETY: mapping a page and waiting on a futex have no safe form.
#![expect(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::IsolationError;

/// The argument that makes the program answer.
pub const ECHO: &str = "--echo";

/// How the two processes wake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// By a futex in shared memory.
    Futex,
    /// By writing to eventfds and reading from them.
    EventFd,
}

impl Wake {
    fn name(self) -> &'static str {
        match self {
            Self::Futex => "futex",
            Self::EventFd => "eventfd",
        }
    }
}

/// Another process that answers.
pub struct Echo {
    child: Child,
    line: Line,
}

/// The ways there and back.
enum Line {
    Futex(&'static AtomicU32),
    EventFd { to: File, from: File },
}

impl Echo {
    /// Starts this program again, to answer.
    ///
    /// # Errors
    /// [`IsolationError::Linux`].
    pub fn start(wake: Wake) -> Result<Self, IsolationError> {
        let started = match wake {
            Wake::Futex => by_futex(),
            Wake::EventFd => by_eventfd(),
        };
        started.map_err(|source| IsolationError::Linux {
            what: "another process",
            source,
        })
    }

    /// One round trip; false when the process is gone.
    pub fn round(&mut self) -> bool {
        match &mut self.line {
            Line::Futex(word) => {
                give(word, THEIRS);
                while word.load(Ordering::Acquire) == THEIRS {
                    let mut gone = || !matches!(self.child.try_wait(), Ok(None));
                    if !wait(word, THEIRS) && gone() {
                        return false;
                    }
                }
                true
            }
            Line::EventFd { to, from } => {
                let mut answer = [0; 8];
                to.write_all(&1_u64.to_ne_bytes()).is_ok() && from.read_exact(&mut answer).is_ok()
            }
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It is this process's own child, and may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn by_futex() -> io::Result<Echo> {
    let page = memfd_create("echo", MFdFlags::MFD_CLOEXEC)?;
    let page = File::from(page);
    page.set_len(PAGE as u64)?;
    let word = map(&page)?;
    Ok(Echo {
        child: again(Wake::Futex, page.into(), None)?,
        line: Line::Futex(word),
    })
}

fn by_eventfd() -> io::Result<Echo> {
    let event = || EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC);
    let (to, from) = (OwnedFd::from(event()?), OwnedFd::from(event()?));
    let child = again(Wake::EventFd, to.try_clone()?, Some(from.try_clone()?))?;
    let (to, from) = (to.into(), from.into());
    Ok(Echo {
        child,
        line: Line::EventFd { to, from },
    })
}

/// This program as the one that answers.
fn again(wake: Wake, input: OwnedFd, output: Option<OwnedFd>) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args([ECHO, wake.name()])
        .stdin(Stdio::from(input))
        .stdout(output.map_or_else(Stdio::null, Stdio::from))
        .spawn()
}

/// Answers until the other end is gone, and ends with it.
///
/// # Errors
/// What Linux does not give.
pub fn echo(wake: &str) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    if wake == Wake::Futex.name() {
        let word = map(&input)?;
        loop {
            while word.load(Ordering::Acquire) != THEIRS {
                wait(word, OURS);
            }
            give(word, OURS);
        }
    }
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut question = [0; 8];
    loop {
        input.read_exact(&mut question)?;
        output.write_all(&1_u64.to_ne_bytes())?;
    }
}

const PAGE: usize = 4096;
/// Whose turn it is.
const OURS: u32 = 0;
const THEIRS: u32 = 1;

/// The first word of the file, shared by all who map it.
fn map(file: &File) -> io::Result<&'static AtomicU32> {
    let len = NonZeroUsize::new(PAGE).expect("a page is not empty");
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a mapping of its own, at an address the kernel chooses.
    let page: NonNull<_> = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, file, 0)? };
    // SAFETY: the page stays mapped for the life of the process, and is used as atomics only.
    Ok(unsafe { page.cast::<AtomicU32>().as_ref() })
}

/// Makes it the other one's turn.
fn give(word: &AtomicU32, turn: u32) {
    word.store(turn, Ordering::Release);
    // SAFETY: a wake reads nothing but the address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// Sleeps while it is `turn`, for a second at most; whether that came to an end before.
fn wait(word: &AtomicU32, turn: u32) -> bool {
    let second = libc::timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    // SAFETY: the word and the time are valid for the call.
    let result = unsafe {
        let (word, second) = (word.as_ptr(), &raw const second);
        libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, turn, second)
    };
    // It may have been the other one's turn already.
    result == 0 || Errno::last() == Errno::EAGAIN
}
