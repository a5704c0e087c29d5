//! Layer 2 forwarding: what `l2fwd` does, as a library.
//!
//! - [`cli`]: the options;
//! - [`run`]: opens ports, starts workers, watches, stops, sums up;
//! - [`domains`]: drivers in domains of their own; [`files`]: what they start from;
//! - [`forward`]: the fast path, a worker's loop; [`dump`]: writes down what passes;
//! - [`application`]: the application in a domain of its own, and [`loan`]: queue pairs as it has them;
//! - [`report`], [`table`]: what people and scripts are told.
//!
//! What happens to frames is a crate of its own, [`l2fwd_forward`], which domains link too.
#![forbid(unsafe_code)]

pub mod application;
pub mod cli;
pub mod domains;
pub mod dump;
pub mod files;
pub mod forward;
pub mod loan;
pub mod report;
pub mod run;
pub mod table;
