//! [`Proxy`]: what stands before an interface object for callers in other domains.
//!
//! `#[interface]` implements each interface for the proxy of its objects. A proxy owns its object and the
//! gate to the domain that made it; the object is touched inside that gate only.

use sumac_rref::Object;

use crate::{Gate, RpcError, RpcResult};

/// Stands before an object of the interface `I`, on the far side of the gate `G`.
pub struct Proxy<I: ?Sized, G: Gate> {
    /// None only while this is dropped.
    object: Option<Object<I>>,
    gate: G,
}

impl<I: ?Sized, G: Gate> Proxy<I, G> {
    /// A proxy before `object`, which lives in the domain that `gate` leads to.
    pub fn new(object: Object<I>, gate: G) -> Self {
        Self {
            object: Some(object),
            gate,
        }
    }

    /// The object and the gate to cross before touching it. No method, so as not to hide an interface's.
    ///
    /// # Errors
    /// None but while the proxy is dropped.
    #[doc(hidden)]
    #[inline(always)]
    pub fn parts(this: &Self) -> RpcResult<(&I, &G)> {
        let object = this.object.as_deref().ok_or(RpcError::Refused)?;
        Ok((object, &this.gate))
    }

    /// As [`parts`](Self::parts), for methods that take `&mut self`.
    ///
    /// # Errors
    /// As of [`parts`](Self::parts).
    #[doc(hidden)]
    #[inline(always)]
    pub fn parts_mut(this: &mut Self) -> RpcResult<(&mut I, &G)> {
        let object = this.object.as_deref_mut().ok_or(RpcError::Refused)?;
        Ok((object, &this.gate))
    }
}

impl<I: ?Sized, G: Gate> Drop for Proxy<I, G> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            self.gate.release(object);
        }
    }
}
