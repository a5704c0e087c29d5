//! What only gates, rings and hosts may do: not from safe code.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use sumac_device::ring::BufferPool;
use sumac_device::{DeviceGrant, HostDevice, Whole};
use sumac_interface::domain::{CreateLane, NetLane};
use sumac_interface::{Object, RpcError, RpcResult};
use sumac_rref::{DomainId, Exchangeable, Mover, PacketCache, PoolGrant, RRef};

pub type Root = dyn CreateLane;

pub fn root() -> Object<Root> {
    Object::from_box(Box::new(Greedy))
}

struct Greedy;

impl CreateLane for Greedy {
    fn create(&mut self, _: PoolGrant) -> RpcResult<Object<dyn NetLane>> {
        // Never to be ended from here on.
        let _whole = Whole::begin(); //~
        Err(RpcError::Refused)
    }
}

pub fn steal(object: &RRef<u64>) {
    object.move_to(&Mover::to(DomainId::HOST)); //~
}

pub fn borrow_for_ever(object: &RRef<u64>) {
    object.header().borrow(); //~
    object.header().release(); //~
}

pub fn take_and_lose(cache: &mut PacketCache) {
    let _ = cache.take(); //~
    cache.give(&[1, 2, 3]); //~
    cache.end(7); //~
    cache.account(1, 0); //~
}

pub fn grant_oneself(device: &'static dyn HostDevice) -> DeviceGrant {
    DeviceGrant::new(device) //~
}
