//! A root with the standard library. //~ no-std
#![forbid(unsafe_code)]

extern crate std; //~ no-std

#[cfg(test)]
extern crate std as for_tests;
