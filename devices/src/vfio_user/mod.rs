//! Devices for other processes, over the vfio-user protocol: QEMU (`vfio-user-pci`), or a driver in a
//! process of its own.
//!
//! [`message`] is the protocol's messages, [`socket`] carries them; both serve either side.

pub mod message;
pub mod socket;

pub use socket::{Received, Socket};
