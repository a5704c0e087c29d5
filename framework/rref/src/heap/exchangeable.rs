//! [`Exchangeable`]: what may cross between domains and live on the shared heap, and what the types of this
//! crate and of `core` are.

use sumac_device::DeviceGrant;

use super::RRef;
use crate::{Mover, PacketPool, TypeTag};

/// What may live on the shared heap and cross domains: owned values without references into private
/// memory.
///
/// # Safety
/// Implementers promise that values hold no reference or pointer but through [`RRef`] and its kin,
/// that nothing in them changes behind a shared borrow, and that `TAG` is not zero and differs from
/// that of every other type.
#[diagnostic::on_unimplemented(
    message = "interface rule R2 (exchangeable): `{Self}` may not cross between domains, nor live on the shared heap",
    label = "not exchangeable",
    note = "exchangeable are numbers, `RRef`, arrays, tuples, and types with `#[derive(Exchangeable)]`, without references, pointers or interior mutability"
)]
pub unsafe trait Exchangeable: Send + 'static {
    /// The type's number.
    const TAG: TypeTag;

    /// Whether a value holds shared objects by their owners' handles ([`RRef`] and its kin). In private
    /// memory each has an owner of its own; in a value on the shared heap they are its children, see
    /// [`RRef::edit`].
    const ROOTS: bool = false;

    /// Whether a value is or holds an authority: it crosses between domains, but lies on no heap.
    const GRANT: bool = false;

    /// Makes every shared object that the value holds `mover`'s owner's. Plain data holds none; what is on
    /// the heap already goes with its root.
    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        let _ = mover;
    }
}

macro_rules! exchangeable_numbers {
    ($($number:ty = $tag:literal),+) => {
        $(
            // SAFETY: a number holds no reference; the tags differ.
            #[diagnostic::do_not_recommend]
            unsafe impl Exchangeable for $number {
                const TAG: TypeTag = TypeTag($tag);
            }
        )+
    };
}
exchangeable_numbers!(
    bool = 9,
    u128 = 10,
    u8 = 1,
    u16 = 2,
    u32 = 3,
    u64 = 4,
    i8 = 5,
    i16 = 6,
    i32 = 7,
    i64 = 8
);

// SAFETY: nothing in it.
#[diagnostic::do_not_recommend]
unsafe impl Exchangeable for () {
    const TAG: TypeTag = TypeTag(11);
}
// SAFETY: a number.
#[diagnostic::do_not_recommend]
unsafe impl Exchangeable for usize {
    const TAG: TypeTag = TypeTag(12);
}

// SAFETY: an array holds what its elements hold; the tag is made of the element's and the
// length.
#[diagnostic::do_not_recommend]
unsafe impl<T: Exchangeable, const N: usize> Exchangeable for [T; N] {
    const TAG: TypeTag = T::TAG.of_many(b'A', N);
    const ROOTS: bool = T::ROOTS;
    const GRANT: bool = T::GRANT;

    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        if T::ROOTS {
            self.iter().for_each(|item| item.move_to(mover));
        }
    }
}

// SAFETY: a grant refers to its host's side only, which outlives the domain; it cannot be cloned.
#[diagnostic::do_not_recommend]
unsafe impl Exchangeable for DeviceGrant {
    const TAG: TypeTag = TypeTag(0x4445_5649_4345);
    const GRANT: bool = true;
}

/// A packet pool, for a domain to take buffers from.
#[derive(Clone, Copy)]
pub struct PoolGrant(&'static PacketPool);

impl PoolGrant {
    /// A grant of `pool`.
    pub fn new(pool: &'static PacketPool) -> Self {
        Self(pool)
    }

    /// The pool.
    pub fn pool(self) -> &'static PacketPool {
        self.0
    }
}

// SAFETY: pools live as long as their host.
#[diagnostic::do_not_recommend]
unsafe impl Exchangeable for PoolGrant {
    const TAG: TypeTag = TypeTag(0x504f_4f4c);
    const GRANT: bool = true;
}

// SAFETY: the root is all there is to re-own: what the object holds are its children.
#[diagnostic::do_not_recommend]
unsafe impl<T: Exchangeable> Exchangeable for RRef<T> {
    const TAG: TypeTag = T::TAG.of_many(b'R', 1);
    const ROOTS: bool = true;

    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        self.header().set_owner(mover.owner());
    }
}

macro_rules! exchangeable_tuples {
    ($($($item:ident $index:tt),+;)+) => {
        $(
            // SAFETY: a tuple holds what its items hold; the tag is made of theirs in order.
            #[diagnostic::do_not_recommend]
            unsafe impl<$($item: Exchangeable),+> Exchangeable for ($($item,)+) {
                const TAG: TypeTag = TypeTag::of_all(b'T', &[$($item::TAG),+]);
                const ROOTS: bool = $($item::ROOTS)||+;
                const GRANT: bool = $($item::GRANT)||+;

                #[inline(always)]
                fn move_to(&self, mover: &Mover) {
                    $(self.$index.move_to(mover);)+
                }
            }
        )+
    };
}
exchangeable_tuples! {
    A 0;
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
}

// SAFETY: holds what its value holds; the tag is made of the value's.
#[diagnostic::do_not_recommend]
unsafe impl<T: Exchangeable> Exchangeable for Option<T> {
    const TAG: TypeTag = TypeTag::of_all(b'O', &[T::TAG]);
    const ROOTS: bool = T::ROOTS;
    const GRANT: bool = T::GRANT;

    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        if let Some(value) = self {
            value.move_to(mover);
        }
    }
}

// SAFETY: holds what its value or its error holds; the tag is made of both.
#[diagnostic::do_not_recommend]
unsafe impl<T: Exchangeable, E: Exchangeable> Exchangeable for Result<T, E> {
    const TAG: TypeTag = TypeTag::of_all(b'E', &[T::TAG, E::TAG]);
    const ROOTS: bool = T::ROOTS || E::ROOTS;
    const GRANT: bool = T::GRANT || E::GRANT;

    #[inline(always)]
    fn move_to(&self, mover: &Mover) {
        match self {
            Ok(value) => value.move_to(mover),
            Err(error) => error.move_to(mover),
        }
    }
}
