//! The header of a shared object: who owns it, who looks at it, and what it is.

use crate::spin::atomic::{AtomicU32, Ordering};

/// Who owns a shared object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainId(u32);

impl DomainId {
    /// Nobody: free, posted to a device, or the child of another object, whose owner counts.
    pub const NONE: Self = Self(0);
    /// The host process or kernel itself.
    pub const HOST: Self = Self(1);

    /// The number, for display.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// What a shared object is: a number that follows from the type's interface definition, the same in
/// every separately built domain (unlike `core::any::TypeId`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeTag(pub u64);

/// The in-place header of a shared object. Readable by anyone; written by this crate only.
#[derive(Debug)]
pub struct Header {
    owner: AtomicU32,
    borrows: AtomicU32,
    tag: TypeTag,
}

impl Header {
    /// A header of an object of nobody's.
    pub(crate) fn new(tag: TypeTag) -> Self {
        Self {
            owner: AtomicU32::new(DomainId::NONE.0),
            borrows: AtomicU32::new(0),
            tag,
        }
    }

    /// Who owns the object now.
    pub fn owner(&self) -> DomainId {
        DomainId(self.owner.load(Ordering::Relaxed))
    }

    /// How many calls borrow the object now.
    pub fn borrows(&self) -> u32 {
        self.borrows.load(Ordering::Relaxed)
    }

    /// What the object is.
    pub fn tag(&self) -> TypeTag {
        self.tag
    }

    /// Only whoever holds the object, and so nobody at the same time, may change its owner.
    pub(crate) fn set_owner(&self, owner: DomainId) {
        self.owner.store(owner.0, Ordering::Relaxed);
    }
}
