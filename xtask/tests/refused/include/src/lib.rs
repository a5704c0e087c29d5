//! Other files' text.
#![no_std]
#![forbid(unsafe_code)]

include!("../code.txt"); //~ include
pub const TEXT: &str = include_str!("lib.rs"); //~ include
pub const BYTES: &[u8] = core::include_bytes!("/etc/hostname"); //~ include
