//! The application [`l2fwd_forward`] as a domain that panics after so many calls of a queue pair: a hundred for
//! each frame moved at once. For tests.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use l2fwd_forward::domain::{CreateForward, Forward, ForwardOf};
use sumac_fragile::FragileQueue;
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
        let life = 100 * u64::from(batch);
        let mortal = move |queue| FragileQueue::mortal(queue, life);
        Ok(ForwardOf::object(pool, batch, mortal))
    }
}
