//! What only a host may do with the heap and the pools that it shares: images do not have it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use sumac_device::{DeviceGrant, DmaSpace, Iova};
use sumac_interface::domain::CreateLane;
use sumac_interface::{Object, RpcError, RpcResult};
use sumac_rref::{DomainId, HostHooks, PacketPool, PoolGrant, SharedHeap};

pub type Root = dyn CreateLane;

pub fn root() -> Object<Root> {
    Object::from_box(Box::new(Greedy))
}

struct Greedy;

impl CreateLane for Greedy {
    fn create(&mut self, pool: PoolGrant) -> RpcResult<Object<dyn sumac_interface::domain::NetLane>> {
        let heap = pool.pool().heap();
        // A heap in the domain's own memory: what is on it would be gone while others hold it.
        let _ = SharedHeap::create(); //~
        let _ = SharedHeap::create_for(HostHooks::ALONE); //~
        // The host would drop what the dead had by the dead's own code.
        heap.know::<u64>(); //~
        // Locks of everybody's.
        let _ = heap.count(); //~
        let _ = heap.count_owned(DomainId::HOST); //~
        let _ = pool.pool().audit(); //~
        Err(RpcError::Refused)
    }
}

pub fn pool_of_its_own(pool: PoolGrant, dma: &dyn DmaSpace) {
    let _ = PacketPool::create(pool.pool().heap(), dma, 4); //~
}

pub fn made_up() {
    let _ = DomainId(1); //~
    let _ = Iova(0x1000); //~
    let _ = DeviceGrant::default(); //~
    let _: DeviceGrant = 7.into(); //~
}

pub fn one_grant_for_two(grant: DeviceGrant) {
    let _ = grant.clone(); //~
}
