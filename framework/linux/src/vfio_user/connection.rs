//! One connection to a server: questions and answers, one at a time.
//!
//! Invariant: after anything unexpected (an answer too late, too short, to another question) the connection is
//! closed, and every later question fails at once. So nobody waits twice for a server that hangs.
//!
//! What counts is time in which somebody looked ([`Patience`]) and the server was not stopped: if this machine was paused,
//! or a debugger holds the server, no answer is no sign that it hangs. There is an end to that too ([`Limits`]).

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use sumac_device::{Clock, Patience};
use sumac_devices::vfio_user::Socket;
use sumac_devices::vfio_user::message::{Command, Header};

use super::peer::{Peer, Stopped};
use crate::signals;
use crate::time::LinuxClock;

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// While the server runs.
    pub answer: Duration,
    /// While it is stopped, besides; not once this process is to end itself.
    pub stopped: Duration,
}

impl Limits {
    /// What is usual.
    pub const USUAL: Self = Self {
        answer: Duration::from_secs(5),
        stopped: Duration::from_secs(60),
    };
}

/// Requests of the server's own that are turned down while an answer is waited for.
const MOST_REQUESTS: usize = 64;

/// A connection to a server.
pub(super) struct Connection {
    open: Mutex<Open>,
}

struct Open {
    socket: Socket,
    peer: Peer,
    limits: Limits,
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
    /// The server has been stopped for too long; the connection is of no more use.
    Stopped(Stopped),
    /// The connection is of no more use.
    Broken(io::Error),
}

impl From<Unanswered> for io::Error {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Refused(errno) => Errno::from_raw(errno as i32).into(),
            Unanswered::Stopped(server) => io::Error::new(ErrorKind::TimedOut, server.to_string()),
            Unanswered::Broken(error) => error,
        }
    }
}

impl Connection {
    /// A connection over `stream`, on which an answer takes no longer than `limits`.
    pub fn new(stream: UnixStream, limits: Limits) -> io::Result<Self> {
        let peer = Peer::of(&stream);
        let socket = Socket::from(stream);
        socket.set_timeout(limits.answer)?;
        Ok(Self {
            open: Mutex::new(Open {
                socket,
                peer,
                limits,
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
    pub fn set_limits_for_test(&self, limits: Limits) {
        self.open().limits = limits;
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
            match open.peer.stopped() {
                Some(server) if error.kind() == ErrorKind::TimedOut => {
                    let socket = open.peer.socket();
                    log::warn!(
                        "vfio-user:{socket}: {server}, and was for too long: taken for gone"
                    );
                    Unanswered::Stopped(server)
                }
                _ => Unanswered::Broken(error),
            }
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
        let mut waiting = Waiting::new(&self.peer, self.limits);
        let mut wait = || waiting.go_on();
        for _ in 0..=MOST_REQUESTS {
            let message = self.socket.receive_while(&mut self.body, &mut wait)?;
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

/// A wait for an answer.
struct Waiting<'a> {
    peer: &'a Peer,
    answer: Patience,
    stopped: Patience,
    /// When it was last seen whether the server is stopped, and how soon that is worth another look: most answers
    /// come at once.
    seen_ns: u64,
    again_ns: u64,
    /// The user was told that the server is stopped.
    told: bool,
}

impl<'a> Waiting<'a> {
    fn new(peer: &'a Peer, limits: Limits) -> Self {
        let now = LinuxClock.now_ns();
        let mut answer = Patience::new(limits.answer.as_nanos() as u64, now);
        Self {
            peer,
            again_ns: answer.look(now).unwrap_or_default(),
            answer,
            stopped: Patience::new(limits.stopped.as_nanos() as u64, now),
            seen_ns: now,
            told: false,
        }
    }

    /// How long to wait until this is asked again; `None`: no longer.
    fn go_on(&mut self) -> Option<Duration> {
        let now = LinuxClock.now_ns();
        if now.saturating_sub(self.seen_ns) >= self.again_ns {
            self.seen_ns = now;
            match self.is_excused(now) {
                true => self.answer.pass_over(now),
                false => self.stopped.pass_over(now),
            }
        }
        self.answer.look(now).map(Duration::from_nanos)
    }

    /// Whether the server could not have answered since the last look.
    fn is_excused(&mut self, now: u64) -> bool {
        let Some(server) = self.peer.stopped() else {
            return false;
        };
        if signals::stop_requested() || self.stopped.look(now).is_none() {
            return false;
        }
        if !std::mem::replace(&mut self.told, true) {
            log::warn!("vfio-user:{}: {server}: waiting for it", self.peer.socket());
        }
        true
    }
}

fn nonsense(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
