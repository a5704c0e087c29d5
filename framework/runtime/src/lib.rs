//! What a host of domains links: a Linux process and the microkernel alike.
#![no_std]
// UNSAFETY: calling with a continuation, going on at one and freeing a domain's memory have no safe
// form; this crate is where they are argued.
#![expect(unsafe_code)]

extern crate alloc;

pub mod load;
