//! Software devices that behave as silicon does.
//!
//! [`ixgbe`] is an Intel 82599 at the register and descriptor level, [`wire`] what can be plugged
//! into its port, [`frame`] what its silicon understands of a frame, [`memory`] how a device
//! reaches a driver's memory.

pub mod frame;
pub mod ixgbe;
pub mod memory;
pub mod wire;
