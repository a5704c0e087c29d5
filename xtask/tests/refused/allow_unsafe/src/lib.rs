//! Lint levels beside the one that is asked for.
#![no_std]
#![forbid(unsafe_code)]
#![allow(unsafe_code)] //~ allow-unsafe

#[expect(unsafe_code)] //~ allow-unsafe
mod inner {}

#[cfg_attr(all(), warn(unsafe_code))] //~ allow-unsafe
mod other {}
