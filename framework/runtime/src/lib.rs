//! What a host of domains links: a Linux process and the microkernel alike.
//!
//! A thread migrates through calls: the caller's thread runs the callee's code on its own stack, and
//! a continuation, a [frame](thread::Frame), says where to go on if the callee fails. The parts:
//!
//! - [`thread`]: the block of each thread, found through `gs:[0]`, with its stack of frames;
//! - [`trampoline`]: calling with a continuation, and going on at one;
//! - [`domain`]: the table of domains, their life, quotas, memory and reclamation;
//! - [`gate`]: what stands before a domain, [`GateTo`];
//! - [`fault`]: what becomes of processor exceptions and of interrupts of a dead domain's threads;
//! - [`calls`]: what a domain's image calls: memory, failing, logging;
//! - [`load`]: domain files: signature, note, segments, and mapping them;
//! - [`host`]: what the runtime asks of its host.
//!
//! Three rules hold it together. A domain's code is told from trusted code by the instruction pointer
//! ([`domain::DomainSpec::code`]), so that trusted code is never cut short: what a gate began it ends.
//! A thread publishes its frame before it looks whether the callee lives; whoever frees a domain marks
//! it dead before it looks for frames, with [`Host::fence_all_threads`]
//! between; so one of the two sees the other, and the call needs no locked instruction. A domain's
//! number is not used again soon, so that a gate to a domain long gone finds it dead.
#![no_std]
// UNSAFETY: calling with a continuation, going on at one and freeing a domain's memory have no safe
// form; this crate is where they are argued.
#![expect(unsafe_code)]

extern crate alloc;
#[cfg(loom)]
extern crate std;

pub mod calls;
pub mod domain;
pub mod fault;
pub mod gate;
mod held;
pub mod host;
pub mod load;
mod lock;
mod quiescence;
pub mod thread;
pub mod trampoline;

pub use domain::{Domain, DomainSpec, Grant, Phase, Quota, SharedReclaim};
pub use gate::GateTo;
pub use host::{Host, install};
pub use sumac_interface::rpc::Cause;
pub use thread::ThreadBlock;
