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

    /// A domain by its number. A number is no authority: only a [`Mover`](crate::Mover) changes owners.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number, for display.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// What a shared object is: a number that follows from the type's interface definition, the same in
/// every separately built domain (unlike `core::any::TypeId`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeTag(pub u64);

impl TypeTag {
    /// The tag of `count` objects of this tag in a container of this `kind`: FNV-1a over all three,
    /// byte by byte, so that no two of them can make up for each other; the top bit keeps clear of
    /// the small tags of numbers.
    pub(crate) const fn of_many(self, kind: u8, count: usize) -> Self {
        let (tag, count) = (self.0.to_le_bytes(), (count as u64).to_le_bytes());
        let mut hash = fnv1a(0xcbf2_9ce4_8422_2325, kind);
        let mut i = 0;
        while i < tag.len() {
            hash = fnv1a(hash, tag[i]);
            i += 1;
        }
        i = 0;
        while i < count.len() {
            hash = fnv1a(hash, count[i]);
            i += 1;
        }
        Self(hash | 1 << 63)
    }
}

impl TypeTag {
    /// The tag of a type of this `kind` made of others, in order.
    pub const fn of_all(kind: u8, parts: &[TypeTag]) -> Self {
        let mut tag = TypeTag(kind as u64).of_many(kind, parts.len());
        let mut i = 0;
        while i < parts.len() {
            tag = TypeTag(tag.0 ^ parts[i].0.rotate_left(17)).of_many(kind, i);
            i += 1;
        }
        tag
    }
}

const fn fnv1a(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// In the count of borrows: the object is being changed.
const OPEN: u32 = 1 << 31;

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
        self.borrows.load(Ordering::Relaxed) & !OPEN
    }

    /// Whether what the object holds has owners of its own just now: see [`RRef::edit`](crate::RRef::edit).
    #[cfg(not(feature = "image"))]
    pub(crate) fn is_open(&self) -> bool {
        self.borrows.load(Ordering::Relaxed) & OPEN != 0
    }

    /// Only whoever holds the object, and lends it to nobody, may say so.
    pub(crate) fn set_open(&self, open: bool) {
        let borrows = if open { OPEN } else { 0 };
        self.borrows.store(borrows, Ordering::Relaxed);
    }

    /// What the object is.
    pub fn tag(&self) -> TypeTag {
        self.tag
    }

    /// Counts a borrow for the time of a call.
    ///
    /// # Safety
    /// The caller is a gate: it lends the object for a call, and calls [`release`](Self::release) once
    /// when that is over, also when the callee crashed.
    pub unsafe fn borrow(&self) {
        self.borrows.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a borrow.
    ///
    /// # Safety
    /// Each call ends one [`borrow`](Self::borrow).
    pub unsafe fn release(&self) {
        self.borrows.fetch_sub(1, Ordering::Release);
    }

    /// Only whoever holds the object, and so nobody at the same time, may change its owner.
    pub(crate) fn set_owner(&self, owner: DomainId) {
        self.owner.store(owner.0, Ordering::Relaxed);
    }
}
