//! A root that does not forbid unsafe code for good. //~ forbid-unsafe
#![no_std]
#![cfg_attr(all(), forbid(unsafe_code))]
