//! Features that are not stable; those of a crate are.
#![no_std]
#![forbid(unsafe_code)]
#![feature(core_intrinsics)] //~ feature
#![cfg_attr(all(), feature(rustc_attrs))] //~ feature

#[cfg(feature = "fast")]
pub fn fast() {}
