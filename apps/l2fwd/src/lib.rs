//! Layer 2 forwarding: what `l2fwd` does, as a library.
//!
//! - [`cli`]: the options;
//! - [`run`]: opens ports, starts workers, watches, stops, sums up;
//! - [`domains`]: drivers in domains of their own; [`files`]: what they start from;
//! - [`forward`]: the fast path, a worker's loop;
//! - [`rewrite`], [`dump`]: what happens to frames on the way;
//! - [`report`], [`table`]: what people and scripts are told.
#![forbid(unsafe_code)]

pub mod cli;
pub mod domains;
pub mod dump;
pub mod files;
pub mod forward;
pub mod report;
pub mod rewrite;
pub mod run;
pub mod table;
