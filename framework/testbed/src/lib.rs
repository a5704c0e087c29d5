//! A host and a device for tests, benchmarks and fuzzing of the framework; no product links it.
//!
//! - [`domains`]: signed domain files in a folder of their own;
//! - [`host`]: DMA memory on the heap and registers in a vector;
//! - [`mod@format`]: the descriptor bits that the tests' device speaks, no real device's;
//! - [`graveyard`]: DMA memory that was let go of, and whether a device still writes there;
//! - [`model`]: a device that plays its part on the descriptors, checking what it was given;
//! - [`machine`]: a machine's PCI devices, as files in a folder;
//! - [`pretend`]: domains by name only;
//! - [`Register`]: a register by its offset;
//! - [`mod@hostile`]: both rings against descriptors with anything in them.
//!
//! Invariant: everything here reaches DMA memory by bus address, through the host's table of what is
//! mapped, as a device would; an address that is not mapped is a panic, which is a failed test.
// UNSAFETY: a host hands out memory, and a device copies bytes to and from it.
#![expect(unsafe_code)]

pub mod domains;
pub mod format;
pub mod graveyard;
pub mod host;
pub mod hostile;
pub mod machine;
pub mod model;
pub mod pretend;
mod register;

pub use hostile::hostile;
pub use register::Register;
