//! The 82599 driver, [`sumac_ixgbe`], as a domain that fails on request: what `l2fwd --crash-every` drives.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use sumac_fragile::{FragilePort, Fuse};
use sumac_interface::domain::{
    CreateFragileNet, DeviceFault, DeviceOf, Failure, Moment, NetDevice, PortSettings,
};
use sumac_interface::{Object, RpcResult};
use sumac_ixgbe::Port;
use sumac_rref::{DeviceGrant, PoolGrant};

/// What this domain offers.
pub type Root = dyn CreateFragileNet;

/// Makes the root object.
pub fn root() -> Object<Root> {
    Object::from_box(Box::new(Maker::default()))
}

#[derive(Default)]
struct Maker {
    fuse: Fuse,
}

impl CreateFragileNet for Maker {
    fn create(
        &mut self,
        device: DeviceGrant,
        pool: PoolGrant,
        settings: PortSettings,
    ) -> RpcResult<Result<Object<dyn NetDevice>, DeviceFault>> {
        let port = Port::open(device.backing(), pool.pool(), &settings.into());
        Ok(DeviceOf::opened(
            port.map(|port| FragilePort::new(port, self.fuse.clone())),
        ))
    }

    fn fail_next(&mut self, how: Failure, when: Moment) -> RpcResult<()> {
        self.fuse.arm(how, when);
        Ok(())
    }
}
