//! Attributes that a linker obeys.
#![no_std]
#![forbid(unsafe_code)]

#[unsafe(no_mangle)] //~ unsafe-attribute
pub extern "C" fn malloc() {}

#[no_mangle] //~ unsafe-attribute
pub extern "C" fn memcpy() {}

#[cfg_attr(all(), export_name = "free")] //~ unsafe-attribute
pub extern "C" fn release() {}

#[link_section = ".text"] //~ unsafe-attribute
pub static CODE: [u8; 2] = [0x0f, 0x0b];
