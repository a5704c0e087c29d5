//! The interfaces between domains: every method returns `RpcResult`, and every argument may cross.
//!
//! A domain has no authority but the objects of these interfaces that it was given.

pub mod crashy;
pub mod host;
pub mod net;
mod text;

pub use crashy::Crashy;
pub use host::{Clock, Log};
pub use net::{DeviceFault, NetDevice, NetLane};
pub use text::Text;
