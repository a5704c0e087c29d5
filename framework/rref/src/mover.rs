//! [`Mover`]: the right to re-own shared objects, and the host's part of the shared heap.

use crate::DomainId;

/// The right to make shared objects somebody's. Gates between domains make one for a call; whoever has
/// none cannot change an owner.
#[derive(Debug)]
pub struct Mover(DomainId);

impl Mover {
    /// The right to make objects `owner`'s.
    ///
    /// # Safety
    /// The caller is a gate: what it moves is really handed to `owner`, or to nobody.
    pub unsafe fn to(owner: DomainId) -> Self {
        Self(owner)
    }

    /// Whose objects become.
    pub fn owner(&self) -> DomainId {
        self.0
    }
}

/// What the shared heap asks its host. Function addresses are the host's, so that the work is the host's
/// also where the heap is used from a domain with code of its own.
#[derive(Clone, Copy, Debug)]
pub struct HostHooks {
    /// The domain this thread runs in.
    pub current: fn() -> DomainId,
}

impl HostHooks {
    /// Of a host without domains.
    pub const ALONE: Self = Self {
        current: || DomainId::HOST,
    };
}
