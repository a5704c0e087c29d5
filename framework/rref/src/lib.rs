//! The shared heap: what domains pass to each other without copying, and who owns it.
//!
//! Every shared object has a header `{owner, borrow count, type}` in the slab it lives in; the slabs
//! are the registry, so that finding what a domain owns is a walk over headers and no object needs an
//! entry in a global map. Two kinds of slab:
//!
//! - [`heap`]: typed objects, [`RRef<T>`], header in front of the value;
//! - [`pool`]: packet buffers in DMA memory, headers in a table that no device can reach.
//!
//! Ownership is a tree: the root carries its owner, children carry [`DomainId::NONE`] until they are
//! taken out. A batch, [`RRefDeque`], is a root; moving it moves all packets in it by one field.
#![no_std]
// UNSAFETY: the shared heap hands out memory by hand-written ownership rules; this crate is where
// they are argued, so that its users need no unsafe code.
#![expect(unsafe_code)]

extern crate alloc;

mod addresses;
mod deque;
mod header;
pub mod heap;
mod layout;
mod mover;
mod object;
mod packet;
pub mod pool;
mod spin;
mod tag;

pub use deque::{Element, PacketMut, RRefDeque};
pub use header::{DomainId, Header, TypeTag};
pub use heap::{Exchangeable, HeapError, PoolGrant, RRef, Reclaimed, SharedHeap};
pub use layout::LAYOUT;
pub use mover::{HostHooks, Mover};
pub use object::Object;
pub use packet::{HeaderLengths, Packet, PacketFlags, PacketMeta, header_lengths};
pub use pool::{PacketCache, PacketPool, PoolAccount, PoolError};

pub use tag::TagHash;

pub use sumac_device::ring::ForeignPool;
pub use sumac_device::{DeviceGrant, WHOLE_OFFSET};

/// The most packets a batch holds.
pub const BATCH: usize = 64;

/// A batch of packets: what a driver fills and empties.
pub type PacketBatch = RRefDeque<Packet, BATCH>;
