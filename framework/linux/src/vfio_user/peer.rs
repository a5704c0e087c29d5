//! The process at the other end of a connection.

use std::fmt;
use std::fs;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Display, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};

/// The process that listened when we connected.
#[derive(Debug)]
pub(super) struct Peer {
    /// Where it did.
    socket: PathBuf,
    /// Where Linux names it: not one of another PID namespace.
    pid: Option<i32>,
}

impl Peer {
    /// Who serves `stream`.
    pub fn of(stream: &UnixStream) -> Self {
        let address = stream.peer_addr().ok();
        let path = address.as_ref().and_then(SocketAddr::as_pathname);
        let credentials = getsockopt(stream, sockopt::PeerCredentials).ok();
        Self {
            socket: path.map(PathBuf::from).unwrap_or_default(),
            pid: credentials.map(|found| found.pid()).filter(|pid| *pid > 0),
        }
    }

    /// Where it listened.
    pub fn socket(&self) -> Display<'_> {
        self.socket.display()
    }

    /// The process, if a signal or a debugger has stopped it.
    pub fn stopped(&self) -> Option<Stopped> {
        let pid = self.pid?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        is_stopped(&stat).then_some(Stopped(pid))
    }
}

/// Whether a line of `/proc/PID/stat` says so. The name before the state may hold anything.
fn is_stopped(stat: &str) -> bool {
    let state = (stat.rsplit_once(") ")).and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('T' | 't'))
}

/// A process that is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped(i32);

impl fmt::Display for Stopped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pid = self.0;
        write!(
            out,
            "its server, process {pid}, is stopped (`kill -CONT {pid}` has it go on)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_behind_any_name() {
        for (stat, stopped) in [
            ("12 (sumac) T 1 12", true),
            ("12 (sumac) t 1 12", true),
            ("12 (sumac) S 1 12", false),
            ("12 (a) T b) R 1 12", false),
            ("12 (a) R (b) T 1 12", true),
            ("12 (sumac", false),
            ("", false),
        ] {
            assert_eq!(is_stopped(stat), stopped, "{stat}");
        }
    }

    #[test]
    fn who_runs_is_not_stopped() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&ours);
        assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
        assert_eq!(peer.stopped(), None);
    }
}
