//! Software devices that behave as silicon does.

pub mod frame;
#[cfg(target_os = "linux")]
pub mod memory;
#[cfg(target_os = "linux")]
pub mod shared_bar;
pub mod wire;
