//! Software devices that behave as silicon does.
