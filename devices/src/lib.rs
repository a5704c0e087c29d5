//! Software devices that behave as silicon does.
//!
//! [`ixgbe`] is an Intel 82599 at the register and descriptor level, [`wire`] what can be plugged
//! into its port, [`frame`] what its silicon understands of a frame, [`memory`] how a device
//! reaches a driver's memory, [`shared_bar`] how an unmodified third-party driver reaches a device,
//! [`vfio_user`] how QEMU and other processes do.

pub mod frame;
pub mod ixgbe;
pub mod memory;
pub mod pci;
#[cfg(target_os = "linux")]
pub mod shared_bar;
#[cfg(target_os = "linux")]
pub mod vfio_user;
pub mod wire;
