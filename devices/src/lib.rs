//! Software devices that behave as silicon does.

pub mod frame;
pub mod wire;
