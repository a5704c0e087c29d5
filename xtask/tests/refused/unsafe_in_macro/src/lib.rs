//! Unsafe code that only a macro's expansion shows.
#![no_std]
#![forbid(unsafe_code)]

macro_rules! made {
    () => {
        unsafe { core::hint::unreachable_unchecked() } //~ unsafe-in-macro
    };
}

macro_rules! pass {
    ($($tokens:tt)*) => { $($tokens)* };
}

pub fn end() {
    made!()
}

pass! {
    pub fn passed() -> u8 {
        unsafe { core::mem::zeroed() } //~ unsafe-in-macro
    }
}
