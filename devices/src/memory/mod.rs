//! The shared-memory edge of the software devices: how they reach a driver's memory.
//!
//! [`GuestMemory`] is the memory devices reach by bus address, [`SimDma`] allocates from it inside
//! this process. Everything above this module handles addresses it does not trust and bytes it has
//! copied, in safe code.
// UNSAFETY: driver memory is raw, shared and written from both sides; see each module's invariant.
#![expect(unsafe_code)]

mod access;
mod bar;
mod copy;
mod dma;
mod lent;
mod pages;
mod places;
mod ring;
mod window;

pub use access::{Access, GuestSlice, Nearby, Prefetch, ReadOnly, ReadWrite, Right, Stretch};
pub use bar::{BarCells, Trap, TrappedBar};
pub use dma::{DmaFacts, SimDma};
pub use lent::{Extent, Lender, Lent};
pub use places::{Freed, Places};
pub use ring::GuestRing;
pub use window::{CHUNK, GuestMemory, PAGE, WindowError};
