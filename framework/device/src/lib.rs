//! Registers, DMA memory and typed descriptor rings: what every driver stands on.
//!
//! Nothing here knows which device it serves or which host it runs in. A host (a Linux process, a
//! kernel) implements [`RegisterIo`], [`DmaSpace`] and [`Clock`] and hands a driver one
//! [`DeviceBacking`]; the driver, in safe code, gets from it
//!
//! - registers it can only name through its own offset enums ([`registers`]),
//! - memory the device may write, seen as atomic cells and never as `&mut` ([`dma`]),
//! - rings that post memory the driver owns and hand back only what was posted ([`ring`]),
//! - bounded waits ([`clock`]).
#![no_std]
// UNSAFETY: register cells and DMA memory are raw addresses shared with a device.
#![expect(unsafe_code)]

extern crate alloc;

pub mod backing;
pub mod clock;
pub mod dma;
pub mod grant;
pub mod registers;
pub mod ring;
pub mod table;
mod whole;

pub use backing::{DeviceBacking, PciId};
pub use clock::{Clock, Patience, TimedOut};
pub use dma::{DmaError, DmaMapping, DmaMemory, DmaSpace, Iova};
pub use grant::{DeviceControl, DeviceGrant, HostDevice, RawDma};
pub use registers::{Bar, Doorbell, RegisterIo};
pub use table::{Table, TableMemory};
pub use whole::{WHOLE_OFFSET, Whole};
