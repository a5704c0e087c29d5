//! The application [`l2fwd_forward`] as a domain that fails on request, with frames in hand: what
//! `l2fwd --application shadow --crash-every` runs.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use l2fwd_forward::domain::{CreateFragileForward, Forward, ForwardOf};
use sumac_fragile::{FragileQueue, Fuse};
use sumac_interface::domain::{Failure, Moment};
use sumac_interface::{Object, RpcResult};
use sumac_rref::PoolGrant;

/// What this domain offers.
pub type Root = dyn CreateFragileForward;

/// Makes the root object.
pub fn root() -> Object<Root> {
    Object::from_box(Box::new(Maker::default()))
}

#[derive(Default)]
struct Maker {
    fuse: Fuse,
}

impl CreateFragileForward for Maker {
    fn create(&mut self, pool: PoolGrant, batch: u32) -> RpcResult<Object<dyn Forward>> {
        let fuse = self.fuse.clone();
        let fragile = move |queue| FragileQueue::new(queue, fuse.clone());
        Ok(ForwardOf::object(pool, batch, fragile))
    }

    fn fail_next(&mut self, how: Failure, when: Moment) -> RpcResult<()> {
        self.fuse.arm(how, when);
        Ok(())
    }
}
