//! Tells eventfds, and never waits.
//!
//! A write to an eventfd waits while its counter is full. O_NONBLOCK prevents that, but is the open file description's,
//! and so the other process's to clear at any instant. What never waits is the kernel's own way, which its VFIO takes:
//! a counter that is full stays full. It is reached by asynchronous I/O (`io_submit`), which tells an eventfd named in a
//! request that the request is done: here, to read nothing, which is done at once.
//!
//! Invariant: requests name no memory, so the kernel touches none of this process's but what a call gives it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};

/// `IOCB_CMD_PREAD` and `IOCB_FLAG_RESFD` of linux/aio_abi.h.
const READ: u16 = 0;
const TELL: u32 = 1;
/// Requests that are done, taken note of at a time.
const DONE: usize = 64;

/// `struct iocb` of linux/aio_abi.h.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    /// A key and flags, whose order depends on the processor's; both zero.
    key_and_flags: [u32; 2],
    operation: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event`.
type Event = [u64; 4];

const _: () = assert!(size_of::<Request>() == 64 && size_of::<Event>() == 32);

/// Tells eventfds.
pub(super) struct Teller {
    /// The kernel's name for its queue of requests that are done.
    queue: libc::c_ulong,
    /// A file to read nothing of.
    nothing: OwnedFd,
}

impl Teller {
    /// # Errors
    /// What the system says if it has no asynchronous I/O, or no more of it.
    pub fn new() -> io::Result<Self> {
        let nothing = memfd_create("sumac-nothing", MemfdFlags::CLOEXEC)?;
        let mut queue: libc::c_ulong = 0;
        // Of all there may be on the machine, this takes so many; the kernel makes room for some more.
        let requests: libc::c_long = 1;
        // SAFETY: the kernel writes one word, to `queue`, which is zero as it asks for.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, requests, &raw mut queue) };
        match result {
            0 => Ok(Self { queue, nothing }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Adds one to the counter of `eventfd`, if there is room.
    ///
    /// # Errors
    /// It is none.
    pub fn tell(&self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        let full = |error: &io::Error| error.raw_os_error() == Some(libc::EAGAIN);
        match self.submit(eventfd) {
            Err(error) if full(&error) => {
                self.forget_done();
                self.submit(eventfd)
            }
            result => result,
        }
    }

    fn submit(&self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        let mut request = Request {
            operation: READ,
            file: self.nothing.as_fd().as_raw_fd() as u32,
            flags: TELL,
            eventfd: eventfd.as_raw_fd() as u32,
            ..Request::default()
        };
        let mut requests = [&raw mut request];
        let count = requests.len() as libc::c_long;
        // SAFETY: one pointer to one request, which the kernel copies and writes a key to, both before the call
        // returns. The request reads no bytes, to nowhere; both descriptors are open meanwhile.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.queue,
                count,
                requests.as_mut_ptr(),
            )
        };
        match result {
            1 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Makes room in the queue.
    fn forget_done(&self) {
        let mut events = [Event::default(); DONE];
        let (least, most) = (0 as libc::c_long, DONE as libc::c_long);
        let at_once: [libc::c_long; 2] = [0, 0];
        // SAFETY: the kernel writes at most `most` events, for which there is room, and reads a time of two words.
        unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.queue,
                least,
                most,
                events.as_mut_ptr(),
                at_once.as_ptr(),
            )
        };
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        // SAFETY: this value's own queue, which nobody uses any more.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.queue) };
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn count(event: &OwnedFd) -> u64 {
        let mut count = [0; 8];
        rustix::io::read(event, &mut count).unwrap();
        u64::from_ne_bytes(count)
    }

    #[test]
    fn every_time_is_counted() {
        let teller = Teller::new().unwrap();
        let events = [0, 1].map(|_| eventfd(0, EventfdFlags::empty()).unwrap());
        // More than the queue holds.
        for _ in 0..10_000 {
            teller.tell(events[0].as_fd()).unwrap();
        }
        teller.tell(events[1].as_fd()).unwrap();
        assert_eq!(events.map(|event| count(&event)), [10_000, 1]);
    }

    #[test]
    fn what_is_no_eventfd_is_refused() {
        let teller = Teller::new().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let refused = teller.tell(file.as_fd()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }
}
