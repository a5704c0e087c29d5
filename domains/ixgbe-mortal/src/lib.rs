//! The 82599 driver, [`sumac_ixgbe`], as a domain whose queue pairs panic after so many calls: as many as the
//! MTU is above its least. For tests.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use sumac_fragile::FragilePort;
use sumac_interface::domain::{CreateNet, DeviceFault, DeviceOf, NetDevice, PortSettings};
use sumac_interface::{Object, RpcResult};
use sumac_ixgbe::Port;
use sumac_rref::{DeviceGrant, PoolGrant};

/// What this domain offers.
pub type Root = dyn CreateNet;

/// The least MTU there is: whose queue pairs die at once.
const LEAST_MTU: u16 = 68;

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
        let life = u64::from(settings.mtu.saturating_sub(LEAST_MTU));
        let port = Port::open(device.backing(), pool.pool(), &settings.into());
        Ok(DeviceOf::opened(
            port.map(|port| FragilePort::mortal(port, life)),
        ))
    }
}
