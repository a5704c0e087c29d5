//! What `l2fwd` does to frames, and nothing of where it runs: the program links this, and so does its domain.
//!
//! - [`exchange`], [`turn_back`]: a port's turn; [`Forwarder`]: all ports' turns, round by round;
//! - [`Rewrite`]: what happens to addresses on the way;
//! - [`domain`]: a forwarder as the object of a domain.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod domain;
mod forwarder;
mod rewrite;

pub use forwarder::{Forwarder, Lane, UnderWay, exchange, turn_back};
pub use rewrite::Rewrite;
