//! A safe crate on an unsafe one; what only tests use does not count.
#![no_std]
#![forbid(unsafe_code)]
