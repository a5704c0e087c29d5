//! One connection to a server: questions and answers, one at a time.
//!
//! Invariant: after anything unexpected (an answer too late, too short, to another question) the connection is
//! closed, and every later question fails at once. So nobody waits twice for a server that hangs.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use sumac_devices::vfio_user::Socket;
use sumac_devices::vfio_user::message::{Command, Header};

/// An answer takes no longer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Requests of the server's own that are turned down while an answer is waited for.
const MOST_REQUESTS: usize = 64;

/// A connection to a server.
pub(super) struct Connection {
    open: Mutex<Open>,
}

struct Open {
    socket: Socket,
    timeout: Duration,
    next_id: u16,
    /// Of the last message.
    body: Vec<u8>,
    alive: bool,
    /// The server closed the connection.
    hung_up: bool,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The server says no: an errno.
    Refused(u32),
    /// The connection is of no more use.
    Broken(io::Error),
}

impl From<Unanswered> for io::Error {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Refused(errno) => Errno::from_raw(errno as i32).into(),
            Unanswered::Broken(error) => error,
        }
    }
}

impl Connection {
    /// A connection over `stream`, on which an answer takes no longer than `timeout`.
    pub fn new(stream: UnixStream, timeout: Duration) -> io::Result<Self> {
        let socket = Socket::from(stream);
        socket.set_timeout(timeout)?;
        Ok(Self {
            open: Mutex::new(Open {
                socket,
                timeout,
                next_id: 0,
                body: Vec::new(),
                alive: true,
                hung_up: false,
            }),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn stream_for_test(&self) -> UnixStream {
        self.open()
            .socket
            .stream()
            .try_clone()
            .expect("a descriptor")
    }

    #[cfg(test)]
    pub fn set_timeout_for_test(&self, timeout: Duration) {
        self.open().timeout = timeout;
    }

    /// Whether the server closed the connection, or ended: not so if it only said nothing, or nonsense.
    pub fn has_hung_up(&self) -> bool {
        self.open().hung_up
    }

    /// Asks, and hands the answer's body and descriptors to `take`. An answer that `take` makes nothing of
    /// breaks the connection.
    pub fn ask<T>(
        &self,
        command: Command,
        request: &[u8],
        fds: &[BorrowedFd<'_>],
        take: impl FnOnce(&[u8], Vec<OwnedFd>) -> Option<T>,
    ) -> Result<T, Unanswered> {
        let mut open = self.open();
        if !open.alive {
            return Err(Unanswered::Broken(ErrorKind::NotConnected.into()));
        }
        let answer = match open.exchange(command, request, fds) {
            Ok(Answer::Refused(errno)) => return Err(Unanswered::Refused(errno)),
            Ok(Answer::Given(fds)) => {
                take(&open.body, fds).ok_or_else(|| nonsense("an answer that makes no sense"))
            }
            Err(error) => Err(error),
        };
        answer.map_err(|error| {
            open.alive = false;
            open.hung_up = matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            );
            // Whether or not the other side is still there to be told.
            let _ = open.socket.stream().shutdown(Shutdown::Both);
            Unanswered::Broken(error)
        })
    }
}

enum Answer {
    /// With these descriptors; the body is in the buffer.
    Given(Vec<OwnedFd>),
    Refused(u32),
}

impl Open {
    fn exchange(
        &mut self,
        command: Command,
        request: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<Answer> {
        self.next_id = self.next_id.wrapping_add(1);
        let question = Header::request(self.next_id, command, request.len());
        self.socket.send(&question, request, fds)?;
        let deadline = Instant::now() + self.timeout;
        for _ in 0..=MOST_REQUESTS {
            let message = self.socket.receive_by(&mut self.body, deadline)?;
            let message = message.ok_or(ErrorKind::UnexpectedEof)?;
            let header = message.header;
            if header.is_request() {
                // Memory that the server has no descriptor of does not exist.
                if !header.is_posted() {
                    self.socket
                        .send(&header.refusal(libc::EINVAL as u32), &[], &[])?;
                }
                continue;
            }
            if (header.id, header.command) != (question.id, question.command) {
                return Err(nonsense("an answer to another question"));
            }
            if message.oversize || message.lost_fds {
                return Err(nonsense("an answer that is too long"));
            }
            return Ok(match header.refused() {
                Some(errno) => Answer::Refused(errno),
                None => Answer::Given(message.fds),
            });
        }
        Err(nonsense("questions instead of an answer"))
    }
}

fn nonsense(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
