//! What a domain links, and what it agrees on with its host.
//!
//! - [`abi`]: the tables and bytes that host and domain share. Always there; the host's loader reads the
//!   same definitions.
//! - `image` (feature of that name): the private heap, the panic handler and the log of a domain file. Only
//!   the shell that the trusted build generates around a domain turns it on; a domain's own crate links
//!   neither.
//!
//! Invariant: a domain reaches its host through [`abi::HostTable`] and through the interfaces it was given,
//! and through nothing else.
#![no_std]
// UNSAFETY: an allocator, and calls through the host's table, have no safe form; domains themselves are
// safe code because these few lines are not in them.
#![expect(unsafe_code)]

pub mod abi;
pub mod file;
#[cfg(feature = "image")]
pub mod image;
