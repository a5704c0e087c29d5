//! Why a served device cannot be had: one line each, with the socket and the remedy.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// Why a device that another process serves cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum VfioUserError {
    /// Nobody is there.
    #[error("vfio-user:{}: {}", socket.display(), unreachable(.source))]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What Linux said.
        source: io::Error,
    },
    /// Whoever is there says nothing of use.
    #[error(
        "vfio-user:{}: {what}: {source}; it serves somebody else already, or no vfio-user device: give each port a socket of its own, and look at what the server says", socket.display()
    )]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// What was asked for.
        what: &'static str,
        /// What came instead.
        source: io::Error,
    },
    /// Its process is stopped.
    #[error("vfio-user:{}: {server}, and was for too long", socket.display())]
    Stopped {
        /// The socket.
        socket: PathBuf,
        /// Which process, and how it is had go on.
        server: String,
    },
    /// The server says no.
    #[error("vfio-user:{}: {what}: the server refuses: {}", socket.display(), refusal(*.errno))]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// What was asked for.
        what: &'static str,
        /// Its reason.
        errno: u32,
    },
    /// The server speaks something else.
    #[error(
        "vfio-user:{}: the server speaks version {major}.{minor} of the protocol, and this 0.0; use a server that speaks 0.0 (`sumac serve` does)", socket.display()
    )]
    OtherVersion {
        /// The socket.
        socket: PathBuf,
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// It serves something that no driver of ours could drive.
    #[error("vfio-user:{}: {reason}; serve a PCI device with registers in BAR 0, as `sumac serve` does", socket.display())]
    Unfit {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

fn unreachable(error: &io::Error) -> String {
    let remedy = "start its server first: `sumac serve 82599 --socket PATH`";
    match error.kind() {
        io::ErrorKind::NotFound => format!("no such socket; {remedy}"),
        io::ErrorKind::ConnectionRefused => format!("nobody serves it any more; {remedy}"),
        io::ErrorKind::PermissionDenied => {
            format!(
                "{error}; run this as the user who serves it, or let the server's socket be yours"
            )
        }
        io::ErrorKind::WouldBlock => {
            "its server takes no connections: end it, and start it again".to_owned()
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => {
            format!("{error}; use a path of at most 107 bytes")
        }
        _ => format!("{error}; {remedy}"),
    }
}

fn refusal(errno: u32) -> String {
    match Errno::from_raw(errno as i32) {
        Errno::EBUSY => {
            "it serves somebody else already; give each port a socket of its own".to_owned()
        }
        Errno::UnknownErrno => format!("error {errno}; look at what the server says"),
        errno => format!("{}; look at what the server says", errno.desc()),
    }
}
