//! [`CreateFragileNet`]: a driver that also fails on request, to show and to test what becomes of it.

use sumac_idl::{Exchangeable, interface};
use sumac_rref::{DeviceGrant, PoolGrant};

use super::{DeviceFault, Failure, NetDevice, PortSettings};
use crate::{Object, RpcResult};

/// When a driver fails: each time with packets in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Exchangeable)]
pub enum Moment {
    /// When it has received packets, before it hands them out.
    Receiving,
    /// When it was given packets to transmit, before it does.
    BeforeTransmit,
    /// When it has told the device of them, before it says so.
    AfterTransmit,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Receiving, Self::BeforeTransmit, Self::AfterTransmit];
}

/// What a domain offers that drives a network device and fails on request.
#[interface]
pub trait CreateFragileNet: Send {
    /// As [`CreateNet::create`](super::CreateNet::create).
    fn create(
        &mut self,
        device: DeviceGrant,
        pool: PoolGrant,
        settings: PortSettings,
    ) -> RpcResult<Result<Object<dyn NetDevice>, DeviceFault>>;

    /// Has a queue pair of the port fail, whichever comes to that moment first.
    #[once]
    fn fail_next(&mut self, how: Failure, when: Moment) -> RpcResult<()>;
}
