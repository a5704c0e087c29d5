//! Software devices that behave as silicon does.

pub mod wire;
