//! Runs a command in a mount namespace of its own, in which a [`plan`](super::sysfs::plan) has
//! been carried out.
//!
//! The namespace and everything mounted in it end with the last process inside: no tree, no huge-page
//! file and no lock file outlives the driver, however it ends. The driver itself is killed when the
//! thread that started it ends.

use std::ffi::CStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use super::SharedBarError;
use super::sysfs::Step;

/// Starts `command` with `plan` carried out before it, in a private mount namespace.
pub(super) fn spawn(command: &mut Command, plan: Vec<Step>) -> Result<Child, SharedBarError> {
    let parent = std::process::id() as libc::pid_t;
    // SAFETY: the closure runs in a forked child of a process that may have other threads, so it
    // may only make async-signal-safe calls. It makes system calls only, on names built before the
    // fork; it neither allocates nor locks, and its errors are plain numbers.
    unsafe {
        command.pre_exec(move || enter(parent, &plan));
    }
    command.spawn().map_err(|source| SharedBarError::Spawn {
        command: command.get_program().to_string_lossy().into_owned(),
        source,
    })
}

/// What the forked child does before it becomes the driver.
fn enter(parent: libc::pid_t, plan: &[Step]) -> io::Result<()> {
    // SAFETY: plain system calls with constant or NUL-terminated arguments.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        if libc::getppid() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        check(libc::unshare(libc::CLONE_NEWNS))?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let root = c"/".as_ptr();
        check(libc::mount(
            c"none".as_ptr(),
            root,
            std::ptr::null(),
            private,
            std::ptr::null(),
        ))?;
    }
    for step in plan {
        if let Err(error) = carry_out(step) {
            complain(step.path());
            return Err(error);
        }
    }
    Ok(())
}

/// One step, by one or two system calls.
fn carry_out(step: &Step) -> io::Result<()> {
    // SAFETY: every pointer is a NUL-terminated string or a buffer with its length, alive for the
    // call.
    unsafe {
        match step {
            Step::Mount {
                target,
                kind,
                options,
            } => check(libc::mount(
                kind.as_ptr(),
                target.as_ptr(),
                kind.as_ptr(),
                libc::MS_NOSUID | libc::MS_NOEXEC,
                options.as_ptr().cast(),
            )),
            Step::Directory(path) => check(libc::mkdir(path.as_ptr(), 0o755)),
            Step::Link(path, to) => check(libc::symlink(to.as_ptr(), path.as_ptr())),
            Step::Fifo(path) => check(libc::mkfifo(path.as_ptr(), 0o600)),
            Step::Device(path, major, minor) => check(libc::mknod(
                path.as_ptr(),
                libc::S_IFCHR | 0o666,
                libc::makedev(*major, *minor),
            )),
            Step::File(path, content) => write_file(path, content),
        }
    }
}

fn write_file(path: &CStr, content: &[u8]) -> io::Result<()> {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: `path` is NUL-terminated; `content` is a buffer with its length; `file` is ours.
    unsafe {
        let file = libc::open(path.as_ptr(), flags, 0o644);
        check(file)?;
        let written = libc::write(file, content.as_ptr().cast(), content.len());
        libc::close(file);
        if written == content.len() as isize {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
    }
}

/// Says on standard error which path could not be made: the parent gets only a number.
fn complain(path: &CStr) {
    for text in [c"cannot set up ", path, c" for the driver\n"] {
        let bytes = text.to_bytes();
        // SAFETY: a buffer with its length; nothing can be done about a failure.
        unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
