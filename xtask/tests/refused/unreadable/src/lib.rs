//! Not Rust.
#![no_std]
#![forbid(unsafe_code)]

pub fn open( { //~ unreadable
