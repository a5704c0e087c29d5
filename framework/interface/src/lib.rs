//! The interfaces drivers and applications speak. An application sees these traits and never the
//! driver behind them; a driver implements them and never sees the application.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod net;
pub mod rpc;

pub use rpc::{Cause, Gate, Interface, RpcError, RpcResult};
