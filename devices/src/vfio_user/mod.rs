//! Devices for other processes, over the vfio-user protocol: QEMU (`vfio-user-pci`), or a driver in a
//! process of its own.
//!
//! [`message`] is the protocol's messages, [`socket`] carries them; both serve either side. A
//! [`Listener`] serves a [`Function`] to one client after another ([`session`]), whose interrupts are
//! [`Lines`]; [`Served82599`] is the software 82599 as one.

mod function;
mod lines;
mod listener;
pub mod message;
mod served;
pub mod session;
pub mod socket;
// UNSAFETY: asynchronous I/O, by which eventfds are told, is system calls that no library has safely.
#[expect(unsafe_code)]
mod teller;
#[cfg(test)]
mod tests;

pub use function::{Function, Region};
pub use lines::{Change, Lines};
pub use listener::{ListenError, Listener};
pub use served::{ServeError, Served82599, TAILS, TAILS_KIND, is_tail};
pub use session::SessionReport;
pub use socket::{Received, Socket};
