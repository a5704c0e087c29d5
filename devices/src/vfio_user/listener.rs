//! A socket at which clients find a function, one after another.
//!
//! Invariant: there is at most one client at a time; a second is told that the device is in use. The socket
//! is gone from the file system when the [`Listener`] is.

use std::io::{self, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::function::Function;
use super::session::{self, SessionReport};

/// How long a wait for clients lasts before it is looked whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there.
    #[error("{}: another process serves a device there; give another --socket", .0.display())]
    InUse(PathBuf),
    /// The system refuses.
    #[error("{}: {source}; give a --socket in a directory you may write to", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A listening socket.
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// The present client, to be parted from it.
    client: Mutex<Option<UnixStream>>,
    stopping: AtomicBool,
    clients: AtomicU64,
    refused: AtomicU64,
    messages: AtomicU64,
}

impl Listener {
    /// Makes the socket at `path`. One that a killed process has left there is replaced.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind {
            path: path.to_owned(),
            source,
        };
        let socket = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => match UnixStream::connect(path) {
                Ok(_) => return Err(ListenError::InUse(path.to_owned())),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed)?;
                    UnixListener::bind(path)
                }
                Err(_) => Err(error),
            },
            result => result,
        };
        let socket = socket.map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            client: Mutex::new(None),
            stopping: AtomicBool::new(false),
            clients: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            messages: AtomicU64::new(0),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many clients there have been.
    pub fn clients(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
    }

    /// Messages of clients that have left: how many, and how many of them were refused.
    pub fn messages(&self) -> SessionReport {
        SessionReport {
            messages: self.messages.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Whether there is a client.
    pub fn is_connected(&self) -> bool {
        self.lock_client().is_some()
    }

    /// Lets [`run`](Self::run) return, and parts from the client.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(client) = &*self.lock_client() {
            // One that has closed already is no failure.
            let _ = client.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Serves `function` to one client after another until [`stop`](Self::stop) is called. `ended` is told how
    /// each session ended.
    ///
    /// # Errors
    /// What the system says when it gives no more connections or threads.
    pub fn run(
        &self,
        function: &dyn Function,
        ended: &(dyn Fn(SessionReport, io::Result<()>) + Sync),
    ) -> io::Result<()> {
        std::thread::scope(|scope| {
            while !self.stopping.load(Ordering::Acquire) {
                let Some(stream) = self.accept()? else {
                    continue;
                };
                let mut client = self.lock_client();
                if client.is_some() {
                    drop(client);
                    // Whoever goes away before the answer does not need it.
                    let _ = session::refuse(stream, Errno::BUSY);
                    continue;
                }
                *client = Some(stream.try_clone()?);
                drop(client);
                self.clients.fetch_add(1, Ordering::Relaxed);
                let serve = move || {
                    let (report, end) = session::serve(function, stream);
                    self.messages.fetch_add(report.messages, Ordering::Relaxed);
                    self.refused.fetch_add(report.refused, Ordering::Relaxed);
                    *self.lock_client() = None;
                    ended(report, end);
                };
                (std::thread::Builder::new().name("sumac-client".into()))
                    .spawn_scoped(scope, serve)?;
                if self.stopping.load(Ordering::Acquire) {
                    self.stop();
                }
            }
            Ok(())
        })
    }

    /// A client, if one comes soon.
    fn accept(&self) -> io::Result<Option<UnixStream>> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let look = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(LOOK.subsec_nanos()),
        };
        match poll(&mut fds, Some(&look)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        match self.socket.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                Ok(Some(stream))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn lock_client(&self) -> std::sync::MutexGuard<'_, Option<UnixStream>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.path);
    }
}
