//! The 82599 driver, [`sumac_ixgbe`], as a domain.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use sumac_interface::domain::{CreateNet, DeviceFault, DeviceOf, NetDevice, PortSettings};
use sumac_interface::{Object, RpcResult};
use sumac_ixgbe::Port;
use sumac_rref::{DeviceGrant, PoolGrant};

/// What this domain offers.
pub type Root = dyn CreateNet;

/// Makes the root object.
pub fn root() -> Object<Root> {
    Object::from_box(Box::new(Maker))
}

struct Maker;

impl CreateNet for Maker {
    fn create(
        &mut self,
        device: DeviceGrant,
        pool: PoolGrant,
        settings: PortSettings,
    ) -> RpcResult<Result<Object<dyn NetDevice>, DeviceFault>> {
        let port = Port::open(device.backing(), pool.pool(), &settings.into());
        Ok(DeviceOf::opened(port))
    }
}
