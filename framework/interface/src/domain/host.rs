//! What a host lends its domains: [`Clock`] and [`Log`].

use sumac_idl::{Exchangeable, interface};

use super::Text;
use crate::RpcResult;

/// A line of log.
pub type LogLine = Text<240>;

/// How much a line of log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Exchangeable)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something works less well than it might.
    Warn,
    /// Something that people want to know in daily use.
    Info,
    /// Something that helps to find faults.
    Debug,
}

/// Time.
#[interface]
pub trait Clock: Send {
    /// Nanoseconds since a moment in the past; they never go backwards.
    fn now_ns(&self) -> RpcResult<u64>;

    /// Returns when `ns` nanoseconds are over.
    fn sleep_ns(&self, ns: u64) -> RpcResult<()>;
}

/// The host's log. The host writes who said it.
#[interface]
pub trait Log: Send {
    /// Writes a line.
    #[once]
    fn line(&self, level: Level, text: LogLine) -> RpcResult<()>;
}
