//! Failing on request: [`fail`] in every way there is from safe code, and [`FragilePort`], any port that
//! does so with packets in hand. For those who show and test what becomes of a driver that fails.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod fail;
mod port;

pub use fail::fail;
pub use port::{FragilePort, FragileQueue, Fuse};
