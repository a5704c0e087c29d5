//! Why a wire cannot be plugged in, and what to do about it.

use sumac_capture::CaptureError;

/// Why a wire cannot be plugged in.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The capture file.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// An option's value.
    #[error("{key}={value}: {expected}")]
    Value {
        /// The option.
        key: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// A peer name used by a third port.
    #[error("peer={0}: two ports have it already; give the third another name")]
    PeerTaken(String),
    /// A name that no interface can have.
    #[error("{0:?} is no interface name: 1 to 15 bytes without '/' or spaces")]
    InterfaceName(String),
    /// No such interface.
    #[error("{0}: no such interface; ip link lists them")]
    NoInterface(String),
    /// The kernel does not let this process.
    #[error("{name}: no permission to {action}; run as root or with {capability}")]
    Permission {
        /// The interface.
        name: String,
        /// What was tried.
        action: &'static str,
        /// The capability it takes.
        capability: &'static str,
    },
    /// The interface exists and is something else.
    #[error("{0}: exists and is not a TAP interface of one queue; give another name")]
    NotTap(String),
    /// Another process has the interface.
    #[error("{0}: in use by another process; stop that or give another name")]
    Busy(String),
    /// The kernel has no TAP driver.
    #[error("{0}: /dev/net/tun is missing; run modprobe tun")]
    NoTun(String),
    /// Anything else the kernel says.
    #[error("{name}: cannot {action}: {source}")]
    System {
        /// The interface.
        name: String,
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}
