//! A crate that depends on what is not on the list.
#![no_std]
#![forbid(unsafe_code)]
