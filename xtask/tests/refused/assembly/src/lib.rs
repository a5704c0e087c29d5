//! Machine instructions as text.
#![no_std]
#![forbid(unsafe_code)]

use core::arch::global_asm; //~ assembly
use core::arch::{naked_asm as harmless}; //~ assembly

global_asm!("nop"); //~ assembly
core::arch::global_asm!("nop"); //~ assembly

macro_rules! call {
    ($name:ident) => {
        core::arch::$name!("nop");
    };
}
call!(global_asm); //~ assembly

/// A variable of that name is none.
pub fn sum(asm: u8) -> u8 {
    asm + 1
}
