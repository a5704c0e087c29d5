//! Functions of another language.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

extern "C" { //~ extern-block
    fn getpid() -> i32;
}

unsafe extern "C" { //~ extern-block, unsafe-code
    safe fn abort() -> !;
}

pub extern "C" fn of_its_own() {}
