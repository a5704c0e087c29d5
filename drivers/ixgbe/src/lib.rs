//! The Intel 82599 (and X540, X550) driver.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
mod queue;
mod rx;
mod tx;
pub use queue::QueuePair;
