//! The interfaces drivers and applications speak. An application sees these traits and never the
//! driver behind them; a driver implements them and never sees the application.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
// `#[interface]` writes `::sumac_interface`, also in this crate.
extern crate self as sumac_interface;

pub mod describe;
pub mod domain;
#[doc(hidden)]
pub mod generated;
pub mod net;
pub mod proxy;
pub mod rpc;
pub mod shadow;

pub use proxy::Proxy;
pub use rpc::{Cause, Gate, Interface, RpcError, RpcResult};
pub use shadow::{Policy, Remake, Shadow};
pub use sumac_idl::{Exchangeable, interface};
// The trait and its derive macro, by one name.
pub use sumac_rref::{Exchangeable, Object};
