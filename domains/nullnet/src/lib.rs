//! [`sumac_nullnet`] as a domain.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use sumac_interface::domain::{CreateLane, LaneOf, NetLane};
use sumac_interface::{Object, RpcError, RpcResult};
use sumac_nullnet::NullQueue;
use sumac_rref::PoolGrant;

/// What this domain offers.
pub type Root = dyn CreateLane;

/// Makes the root object.
pub fn root() -> Object<Root> {
    Object::from_box(Box::new(Maker))
}

struct Maker;

impl CreateLane for Maker {
    fn create(&mut self, pool: PoolGrant) -> RpcResult<Object<dyn NetLane>> {
        let queue = NullQueue::new(pool.pool()).map_err(|_| RpcError::Refused)?;
        Ok(LaneOf::object(queue))
    }
}
