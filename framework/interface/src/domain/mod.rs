//! The interfaces between domains: every method returns `RpcResult`, and every argument may cross.
//!
//! A domain has no authority but the objects of these interfaces that it was given.

mod adapt;
pub mod crashy;
pub mod fragile;
pub mod host;
pub mod net;
mod remote;
mod text;

pub use adapt::{DeviceOf, LaneOf};
pub use crashy::{Block, Crashy, CreateCrashy, Failure};
pub use fragile::{CreateFragileNet, Moment};
pub use host::{Clock, Log};
pub use net::{Counters, CreateLane, CreateNet, DeviceFault, NetDevice, NetLane, PortSettings};
pub use remote::{RemotePort, RemoteQueue};
pub use text::Text;
