//! Network ports of other domains: [`NetDevice`] controls a port, [`NetLane`] is the capability to one pair
//! of its queues, so that cores share nothing.
//!
//! Batches are moved in and come back: a callee that dies takes what was in them, and nothing is ever half
//! written.

use sumac_idl::{Exchangeable, interface};
use sumac_packet::MacAddress;
use sumac_rref::{DeviceGrant, PacketBatch, PoolGrant};

use super::Text;
use crate::net::{Armed, Link, NetError, QueueStats};
use crate::{Object, RpcResult};

/// Counters that [`Counters`] has room for.
pub const COUNTERS: usize = 64;

/// Why a port cannot do what was asked. The text names the device and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Exchangeable, thiserror::Error)]
pub enum DeviceFault {
    /// The device is not there any more.
    #[error("{0}")]
    Gone(Text<160>),
    /// The device is there, but not as its driver left it.
    #[error("{0}")]
    Reset(Text<160>),
    /// The device does not do what its specification says, or not in time.
    #[error("{0}")]
    Device(Text<160>),
    /// No such queue pair, or somebody has it.
    #[error("queue pair {0} does not exist or is taken")]
    NoQueue(u32),
}

impl From<&NetError> for DeviceFault {
    fn from(error: &NetError) -> Self {
        let text = Text::of(format_args!("{error}"));
        match error {
            NetError::Gone { .. } => Self::Gone(text),
            NetError::Reset { .. } => Self::Reset(text),
            NetError::Device { .. } => Self::Device(text),
        }
    }
}

/// One of a device's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Exchangeable)]
pub struct Counter {
    /// Its usual name.
    pub name: Text<22>,
    /// Its value since the port was opened.
    pub value: u64,
}

/// A device's own counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Exchangeable)]
pub struct Counters {
    len: u32,
    all: [Counter; COUNTERS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            len: 0,
            all: [Counter::default(); COUNTERS],
        }
    }
}

impl Counters {
    /// Adds one; whether there was room.
    pub fn add(&mut self, name: &str, value: u64) -> bool {
        let Some(place) = self.all.get_mut(self.len as usize) else {
            return false;
        };
        *place = Counter {
            name: Text::new(name),
            value,
        };
        self.len += 1;
        true
    }

    /// The counters, in the device's order.
    pub fn as_slice(&self) -> &[Counter] {
        self.all.get(..self.len as usize).unwrap_or(&[])
    }
}

/// A network port as a whole: everything but its queues' fast path.
#[interface]
pub trait NetDevice: Send {
    /// How people name the device.
    fn name(&self) -> RpcResult<Text<64>>;

    /// The port's own address.
    fn mac(&self) -> RpcResult<MacAddress>;

    /// The link now.
    fn link(&self) -> RpcResult<Link>;

    /// The link now if it changed since this was asked last, even if it changed back. Lets the link's interrupt
    /// happen once more.
    fn link_change(&mut self) -> RpcResult<Result<Option<Link>, DeviceFault>>;

    /// Looks after the device. Call it now and then.
    fn check(&mut self) -> RpcResult<Result<(), DeviceFault>>;

    /// The device's own counters since the port was opened.
    fn counters(&mut self) -> RpcResult<Counters>;

    /// How many queue pairs there are, taken or not.
    fn queues(&self) -> RpcResult<u32>;

    /// The capability to a queue pair. It may go to a core of its own; dropping it brings it home.
    fn take_queue(&mut self, index: u32) -> RpcResult<Result<Object<dyn NetLane>, DeviceFault>>;

    /// Starts the port. All queue pairs must be taken or at home as they will be used.
    fn start(&mut self) -> RpcResult<Result<(), DeviceFault>>;

    /// Lets no more frames in; those that came stay to be received.
    fn stop_receiving(&mut self) -> RpcResult<Result<(), DeviceFault>>;

    /// Stops the port.
    fn stop(&mut self) -> RpcResult<Result<(), DeviceFault>>;
}

/// One receive and one transmit queue, for one core: nothing in it is shared with another.
#[interface]
pub trait NetLane: Send {
    /// Adds up to `limit` received frames to `batch`, as many as have come and fit.
    fn receive(&mut self, batch: PacketBatch, limit: u32) -> RpcResult<PacketBatch>;

    /// Takes frames from the front of `batch` as long as the ring has room; returns what is left.
    fn transmit(&mut self, batch: PacketBatch) -> RpcResult<PacketBatch>;

    /// Transmits what `send` holds, then receives up to `limit` frames into `receive`: a round of a
    /// forwarder in one crossing. Returns what is left of `send`, then what came.
    fn exchange(
        &mut self,
        send: PacketBatch,
        receive: PacketBatch,
        limit: u32,
    ) -> RpcResult<(PacketBatch, PacketBatch)>;

    /// Whether the beginnings of frames are fetched while they are received: for those who look into
    /// frames. Off at first.
    fn set_prefetch(&mut self, on: bool) -> RpcResult<()>;

    /// Adds up to `count` packets of `len` bytes each to `batch`, to be written and sent.
    fn allocate(&mut self, batch: PacketBatch, count: u32, len: u16) -> RpcResult<PacketBatch>;

    /// Drops all packets of `batch`, their buffers going to this queue's own stock; returns it empty.
    fn recycle(&mut self, batch: PacketBatch) -> RpcResult<PacketBatch>;

    /// Gives finished transmit buffers back to the pool; returns how many frames' descriptors are still
    /// with the device.
    fn reclaim(&mut self) -> RpcResult<u32>;

    /// Lets the queue's interrupt happen once more, then looks for frames. The domain holds nothing to sleep on:
    /// its host does, and does not sleep in here.
    fn arm(&mut self) -> RpcResult<Armed>;

    /// How many received frames wait, looking at `limit` of them at most.
    fn waiting(&self, limit: u32) -> RpcResult<u32>;

    /// What was counted since the queue was made.
    fn stats(&self) -> RpcResult<QueueStats>;
}

/// How a port is to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Exchangeable)]
pub struct PortSettings {
    /// Queue pairs.
    pub queues: u16,
    /// Descriptors of each receive ring.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit ring.
    pub tx_descriptors: u16,
    /// Longest IP packet in bytes.
    pub mtu: u16,
    /// Whether to receive every frame, whomever it is for.
    pub promiscuous: bool,
    /// Whether a driver before found the device whole: what does not change, like its EEPROM, needs no second
    /// look.
    pub found_whole: bool,
    /// Whether queues and link have interrupts, whose vectors the host connects.
    pub interrupts: bool,
}

/// What a domain offers that drives a network device.
#[interface]
pub trait CreateNet: Send {
    /// Takes a device over, and its packets from `pool`; the port is not started yet.
    fn create(
        &mut self,
        device: DeviceGrant,
        pool: PoolGrant,
        settings: PortSettings,
    ) -> RpcResult<Result<Object<dyn NetDevice>, DeviceFault>>;
}

/// What a domain offers that has a pair of queues of its own making, without a device.
#[interface]
pub trait CreateLane: Send {
    /// A pair of queues that takes its packets from `pool`.
    fn create(&mut self, pool: PoolGrant) -> RpcResult<Object<dyn NetLane>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_room_for_so_many() {
        let mut counters = Counters::default();
        for i in 0..COUNTERS as u64 {
            assert!(counters.add("rx", i));
        }
        assert!(!counters.add("one more", 0));
        assert_eq!(counters.as_slice().len(), COUNTERS);
        assert_eq!(
            counters.as_slice().last().map(|c| c.value),
            Some(COUNTERS as u64 - 1)
        );
    }

    #[test]
    fn a_fault_says_what_the_driver_said() {
        let error = NetError::Gone {
            device: "0000:03:00.0".into(),
        };
        let fault = DeviceFault::from(&error);
        assert!(matches!(fault, DeviceFault::Gone(_)));
        assert_eq!(alloc::format!("{fault}"), alloc::format!("{error}"));
    }
}
