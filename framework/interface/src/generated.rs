//! What generated code names: re-exports, and how a shadow keeps arguments for another call. Not for others.

pub use alloc::boxed::Box;
pub use sumac_rref::{Exchangeable, Object};

/// What a method returns, whatever it is called.
#[diagnostic::on_unimplemented(
    message = "interface rule R1 (results): `{Self}` is no `RpcResult`",
    label = "not `sumac_interface::RpcResult`"
)]
pub trait IsRpcResult {}
impl<T> IsRpcResult for crate::RpcResult<T> {}

/// An argument kept for another call, if it can be.
pub struct Kept<T> {
    value: Option<T>,
    make: fn(&T) -> T,
}

impl<T> Kept<T> {
    pub fn nothing() -> Self {
        Self {
            value: None,
            make: |_| unreachable!("nothing is kept"),
        }
    }

    pub fn by_clone(value: &T) -> Self
    where
        T: Clone,
    {
        Self {
            value: Some(value.clone()),
            make: T::clone,
        }
    }

    /// The argument again.
    pub fn again(&self) -> Option<T> {
        self.value.as_ref().map(self.make)
    }
}

/// An argument about to be moved: `Keep(&argument).kept()` is its copy where its type is `Copy`, since a
/// method of the type comes before one of a trait.
pub struct Keep<'a, T>(pub &'a T);

impl<T: Copy> Keep<'_, T> {
    #[inline(always)]
    pub fn kept(&self) -> Kept<T> {
        Kept {
            value: Some(*self.0),
            make: |value| *value,
        }
    }
}

/// Where the type is not `Copy`.
pub trait KeepNothing<T> {
    fn kept(&self) -> Kept<T>;
}

impl<T> KeepNothing<T> for Keep<'_, T> {
    #[inline(always)]
    fn kept(&self) -> Kept<T> {
        Kept::nothing()
    }
}
