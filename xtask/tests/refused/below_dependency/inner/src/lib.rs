//! Unsafe code one crate further down.
#![no_std]
#![forbid(unsafe_code)]

pub unsafe fn inner() {} //~ unsafe-code
