//! Devices that other processes serve, over the vfio-user protocol.
//!
//! Whoever serves a device is not trusted more than a device: each of its answers is checked and comes in time,
//! or the connection ends and the device is gone. One whose process is stopped (SIGSTOP, a debugger) is waited for
//! longer, and the user is told. It reaches this process's DMA memory, by descriptors of memory
//! files, and nothing else.

mod connection;
mod device;
mod error;
mod peer;
#[cfg(test)]
mod tests;

pub use error::VfioUserError;

pub(crate) use device::ServedDevice;
