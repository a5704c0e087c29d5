//! Unsafe code in each of its forms, also where nothing is compiled of it.
#![no_std]
#![forbid(unsafe_code)]

mod deeper;

/// The word unsafe in a comment, in "unsafe" and in `r#unsafe_name` is none.
pub const WORD: &str = "unsafe { }";

pub unsafe fn function() {} //~ unsafe-code
pub unsafe trait Trait {} //~ unsafe-code
unsafe impl Trait for u8 {} //~ unsafe-code

#[cfg(any())]
pub fn never() -> u8 {
    let at = core::ptr::null();
    unsafe { *at } //~ unsafe-code
}
