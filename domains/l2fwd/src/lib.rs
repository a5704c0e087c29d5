//! The application [`l2fwd_forward`] as a domain.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use l2fwd_forward::domain::{CreateForward, Forward, ForwardOf};
use sumac_interface::{Object, RpcResult};
use sumac_rref::PoolGrant;

/// What this domain offers.
pub type Root = dyn CreateForward;

/// Makes the root object.
pub fn root() -> Object<Root> {
    Object::from_box(Box::new(Maker))
}

struct Maker;

impl CreateForward for Maker {
    fn create(&mut self, pool: PoolGrant, batch: u32) -> RpcResult<Object<dyn Forward>> {
        Ok(ForwardOf::object(pool, batch, |queue| queue))
    }
}
