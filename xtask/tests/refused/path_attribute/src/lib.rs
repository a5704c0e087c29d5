//! Modules in files of other names.
#![no_std]
#![forbid(unsafe_code)]

#[path = "../elsewhere.rs"] //~ path-attribute
mod elsewhere;

#[cfg_attr(all(), path = "../elsewhere.rs")] //~ path-attribute
mod again;
