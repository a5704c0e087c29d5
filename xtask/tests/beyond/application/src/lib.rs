//! An application that wants more than the queue pairs it was given: the port, its other queue pairs, the device.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use l2fwd_forward::domain::{CreateForward, Forward};
use sumac_device::{DeviceGrant, DmaSpace, HostDevice};
use sumac_interface::domain::{NetDevice, NetLane};
use sumac_interface::{Object, RpcError, RpcResult};
use sumac_rref::PoolGrant;

pub type Root = dyn CreateForward;

pub fn root() -> Object<Root> {
    Object::from_box(Box::new(Greedy))
}

struct Greedy;

impl CreateForward for Greedy {
    fn create(&mut self, _: PoolGrant, _: u32) -> RpcResult<Object<dyn Forward>> {
        Err(RpcError::Refused)
    }
}

pub fn the_port(queue: Object<dyn NetLane>) -> Object<dyn NetDevice> {
    queue //~
}

pub fn another_queue_pair(queue: &mut dyn NetLane) {
    let _ = queue.take_queue(1); //~
}

pub fn stop_the_port(queue: &mut dyn NetLane) {
    let _ = queue.stop(); //~
}

pub fn what_is_behind(queue: Object<dyn NetLane>) -> Object<dyn NetLane> {
    let (object, drop) = queue.into_raw();
    Object::from_raw(object, drop) //~
}

pub fn the_device(pool: PoolGrant) -> DeviceGrant {
    pool.into() //~
}

pub fn registers(queue: &dyn NetLane) -> &dyn HostDevice {
    queue //~
}

pub fn memory_for_devices(pool: PoolGrant) -> &'static dyn DmaSpace {
    pool.pool() //~
}
