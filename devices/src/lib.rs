//! Software devices that behave as silicon does.
// UNSAFETY: the shared-memory edge, where a driver in another process has its registers and buffers.
#![expect(unsafe_code)]

#[cfg(target_os = "linux")]
pub mod shared_bar;
