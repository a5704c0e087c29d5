//! A socket at which clients find a function, one after another.
//!
//! Invariant: there is at most one client at a time; a second is told that the device is in use, as soon as it says
//! something, which nobody waits for. The socket is gone from the file system when the [`Listener`] is.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::function::Function;
use super::session::{self, SessionReport};

/// How long a wait for clients lasts before it is looked whether to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Clients that came too many and have said nothing yet; of more the first have to go.
const MOST_SILENT: usize = 16;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there.
    #[error("{}: another process serves a device there; give another --socket", .0.display())]
    InUse(PathBuf),
    /// Something lies there that is no socket.
    #[error("{}: there is something that is no socket; give another --socket", .0.display())]
    Occupied(PathBuf),
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
                // A file of another kind refuses connections as well.
                Err(_) if !is_socket(path) => return Err(ListenError::Occupied(path.to_owned())),
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
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many clients have come and left again. Whoever left without a word is none: another server that wants the
    /// path looks so whether somebody listens there.
    pub fn clients(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
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
    /// each client's session ended.
    ///
    /// # Errors
    /// What the system says when it gives no more connections or threads.
    pub fn run(
        &self,
        function: &dyn Function,
        ended: &(dyn Fn(SessionReport, io::Result<()>) + Sync),
    ) -> io::Result<()> {
        std::thread::scope(|scope| {
            let served = self.serve(scope, function, ended);
            if served.is_err() {
                // Or this would wait for a client to leave of its own accord.
                self.stop();
            }
            served
        })
    }

    fn serve<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        function: &'scope dyn Function,
        ended: &'scope (dyn Fn(SessionReport, io::Result<()>) + Sync),
    ) -> io::Result<()> {
        let mut silent = Silent::default();
        while !self.stopping.load(Ordering::Acquire) {
            let Some(stream) = self.accept(&mut silent)? else {
                continue;
            };
            let mut client = self.lock_client();
            if client.is_some() {
                silent.add(stream);
                continue;
            }
            *client = Some(stream.try_clone()?);
            drop(client);
            let serve = move || {
                let (report, end) = session::serve(function, stream);
                *self.lock_client() = None;
                if report.messages > 0 || end.is_err() {
                    self.clients.fetch_add(1, Ordering::Relaxed);
                    ended(report, end);
                }
            };
            (std::thread::Builder::new().name("sumac-client".into())).spawn_scoped(scope, serve)?;
            if self.stopping.load(Ordering::Acquire) {
                self.stop();
            }
        }
        Ok(())
    }

    /// A client, if one comes soon. Whoever of the `silent` says something meanwhile is refused.
    fn accept(&self, silent: &mut Silent) -> io::Result<Option<UnixStream>> {
        let clients = silent.0.iter().map(|stream| stream.as_fd());
        let all = std::iter::once(self.socket.as_fd()).chain(clients);
        let mut fds: Vec<_> = (all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))).collect();
        let look = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(LOOK.subsec_nanos()),
        };
        match poll(&mut fds, Some(&look)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let speaks: Vec<_> = (fds[1..].iter().map(|fd| !fd.revents().is_empty())).collect();
        silent.refuse(&speaks);
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

/// Clients that came while there was one already. What they are told answers what they say first.
#[derive(Default)]
struct Silent(VecDeque<UnixStream>);

impl Silent {
    fn add(&mut self, client: UnixStream) {
        self.0.push_back(client);
        if self.0.len() > MOST_SILENT {
            self.0.pop_front();
        }
    }

    /// Refuses those that have said something.
    fn refuse(&mut self, speaks: &[bool]) {
        for (client, speaks) in std::mem::take(&mut self.0).into_iter().zip(speaks) {
            match speaks {
                // Whoever goes away before the answer does not need it.
                true => _ = session::refuse(client, Errno::BUSY),
                false => self.0.push_back(client),
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have removed it already, or put something else there.
        if is_socket(&self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether a socket is at `path` itself: where a symbolic link leads does not count.
fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::super::message::{Command, Header};
    use super::super::tests::leave_socket;
    use super::super::{Served82599, Socket};
    use super::*;
    use crate::ixgbe::Identity;
    use crate::wire::NullWire;

    /// Has the listener end with the test, however that ends.
    struct Ends<'a>(&'a Listener);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }

    /// Asks for something; the reason if it is refused.
    fn ask(client: &Socket) -> io::Result<Option<u32>> {
        client.set_timeout(Duration::from_secs(60))?;
        client.send(&Header::request(7, Command::DeviceReset, 0), &[], &[])?;
        let answer = client.receive(&mut Vec::new())?;
        Ok(answer.and_then(|answer| answer.header.refused()))
    }

    /// The reason of who serves somebody else.
    fn busy() -> Option<u32> {
        Some(Errno::BUSY.raw_os_error().unsigned_abs())
    }

    /// Connects until it is served.
    fn served_at(path: &Path) -> Socket {
        loop {
            let client = Socket::from(UnixStream::connect(path).unwrap());
            if ask(&client).unwrap() != busy() {
                return client;
            }
        }
    }

    #[test]
    fn another_server_that_looks_whether_somebody_listens_is_no_client() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nic");
        let listener = Listener::bind(&path).unwrap();
        let device = Served82599::new(Identity::default(), NullWire::new().into()).unwrap();
        let told = AtomicU64::new(0);
        let ended = |_, _| _ = told.fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let run = scope.spawn(|| listener.run(&device, &ended));
            let _ends = Ends(&listener);
            assert!(matches!(Listener::bind(&path), Err(ListenError::InUse(_))));
            // It comes after the one that looked, which therefore was seen.
            let client = served_at(&path);
            listener.stop();
            run.join().unwrap().unwrap();
            drop(client);
        });
        assert_eq!((listener.clients(), told.into_inner()), (1, 1));
    }

    /// One who is refused and never comes to an end keeps nobody waiting for good.
    #[test]
    fn a_client_that_trickles_does_not_hold_up_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nic");
        let listener = Arc::new(Listener::bind(&path).unwrap());
        let device = Served82599::new(Identity::default(), NullWire::new().into()).unwrap();
        let (done, ends) = std::sync::mpsc::channel();
        let serving = Arc::clone(&listener);
        std::thread::spawn(move || done.send(serving.run(&device, &|_, _| {}).is_ok()));
        let _first = UnixStream::connect(&path).unwrap();
        while !listener.is_connected() {
            std::thread::yield_now();
        }
        let mut second = UnixStream::connect(&path).unwrap();
        let mut start = Vec::new();
        Header::request(1, Command::Version, 1 << 19).put(&mut start);
        second.write_all(&start).unwrap();
        std::thread::spawn(move || {
            while second.write_all(&[0]).is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        // Long enough for the second to be in the middle of being refused.
        std::thread::sleep(4 * LOOK);
        listener.stop();
        assert_eq!(ends.recv_timeout(Duration::from_secs(60)), Ok(true));
    }

    /// One who is slow to say what it wants is told all the same, and keeps nobody waiting.
    #[test]
    fn whoever_comes_too_many_is_told_when_it_speaks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nic");
        let listener = Listener::bind(&path).unwrap();
        let device = Served82599::new(Identity::default(), NullWire::new().into()).unwrap();
        let connect = || Socket::from(UnixStream::connect(&path).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| listener.run(&device, &|_, _| {}));
            let _ends = Ends(&listener);
            let first = connect();
            while !listener.is_connected() {
                std::thread::yield_now();
            }
            let silent: Vec<_> = (0..=MOST_SILENT).map(|_| connect()).collect();
            // Longer than whoever is refused has to end what it says, and longer than a look.
            std::thread::sleep(session::PATIENCE + 2 * LOOK);
            assert_eq!(ask(&silent[MOST_SILENT]).unwrap(), busy());
            assert_eq!(ask(&silent[1]).unwrap(), busy());
            assert_eq!(ask(&connect()).unwrap(), busy());
            // Of too many the first had to go, when the last but those came.
            assert!(!matches!(ask(&silent[0]), Ok(Some(_))));
            drop(first);
            // Whoever comes when there is nobody is served, for all that others are silent.
            let _served = served_at(&path);
            assert!(listener.is_connected());
        });
    }

    #[test]
    fn what_is_no_socket_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let [notes, socket, link] =
            ["notes.txt", "socket", "link"].map(|name| folder.path().join(name));
        std::fs::write(&notes, "mine").unwrap();
        leave_socket(&socket);
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        for path in [&notes, &link, &folder.path().to_owned()] {
            let refused = Listener::bind(path).map(drop);
            assert!(
                matches!(refused, Err(ListenError::Occupied(_))),
                "{}: {refused:?}",
                path.display()
            );
        }
        // Nor does one that has taken a listener's place go with it.
        let listener = Listener::bind(&socket).unwrap();
        std::fs::rename(&notes, &socket).unwrap();
        drop(listener);
        assert_eq!(std::fs::read_to_string(&socket).unwrap(), "mine");
        assert!(link.is_symlink());
    }
}
