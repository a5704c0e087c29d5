//! A crate with a macro of its own.
#![no_std]
#![forbid(unsafe_code)]
