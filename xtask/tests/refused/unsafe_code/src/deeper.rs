//! A module of the crate.

pub fn closure() -> impl Fn() -> u8 {
    || unsafe { core::mem::zeroed() } //~ unsafe-code
}
