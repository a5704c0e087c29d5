//! [`PortService`]: a network driver's domain, how it is started, and brought to where the last one had the port.

use std::sync::Arc;

use sumac_device::HostDevice;
use sumac_interface::domain::{
    CreateFragileNet, CreateNet, DeviceFault, Failure, Moment, NetDevice, NetLane, PortSettings,
};
use sumac_interface::{Object, RpcError, RpcResult};
use sumac_rref::{PacketPool, PoolGrant};
use sumac_runtime::{Domain, Quota, SharedReclaim};

use super::{Program, Service, StartError, start_with};
use crate::grant::GrantedDevice;

/// Why a driver's domain does not drive its device.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The domain was refused, or failed as it started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Another domain has the device, or had, and it did not stop.
    #[error(
        "{0}: another domain has the device, or had it when it could not be stopped; end the program, so that Linux resets it"
    )]
    Taken(String),
    /// It died while it took its device over.
    #[error("{device}: the driver's domain: {source}")]
    Died {
        /// The device.
        device: String,
        /// What of.
        source: RpcError,
    },
    /// The driver turned its device down.
    #[error("{0}")]
    Device(Box<DeviceFault>),
}

/// A driver's domain, by what it offers.
#[derive(Clone)]
pub enum Driver {
    /// [`CreateNet`].
    Net(Program<dyn CreateNet>),
    /// [`CreateFragileNet`]: it also fails on request.
    FragileNet(Program<dyn CreateFragileNet>),
}

/// A driver's domain, and the device it drives.
pub struct PortService {
    /// For people.
    pub name: String,
    /// The domain.
    pub driver: Driver,
    /// What it may use.
    pub quota: Quota,
    /// Frees what it owned if it dies as it starts.
    pub shared: Arc<dyn SharedReclaim + Send>,
    /// Its device.
    pub device: Arc<GrantedDevice>,
    /// Where its packets are of.
    pub pool: &'static PacketPool,
    /// How the port is to work.
    pub settings: PortSettings,
    /// How far a new driver brings its port.
    pub progress: Progress,
}

/// How far a port has come, and a new driver brings it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Made, its queue pairs at home.
    #[default]
    Made,
    /// Started, its queue pairs taken.
    Running,
    /// The same, but nothing more is let in.
    Draining,
}

/// One life of a driver.
pub struct PortLife {
    device: Option<Object<dyn NetDevice>>,
    lanes: Vec<Option<Object<dyn NetLane>>>,
    root: RootObject,
}

enum RootObject {
    Net(Object<dyn CreateNet>),
    FragileNet(Object<dyn CreateFragileNet>),
}

impl PortLife {
    /// The port, once.
    pub fn take_device(&mut self) -> Option<Object<dyn NetDevice>> {
        self.device.take()
    }

    /// A queue pair of a port that runs, once.
    pub(super) fn take_lane(&mut self, index: usize) -> Option<Object<dyn NetLane>> {
        self.lanes.get_mut(index)?.take()
    }

    /// Has the driver fail, if it does so on request.
    ///
    /// # Errors
    /// [`RpcError::Refused`] if it does not, or that of the call.
    pub fn fail_next(&mut self, how: Failure, when: Moment) -> RpcResult<()> {
        match &mut self.root {
            RootObject::Net(_) => Err(RpcError::Refused),
            RootObject::FragileNet(root) => root.fail_next(how, when),
        }
    }
}

impl PortService {
    /// Has a domain just entered take its device over and bring the port where the last one had it.
    fn bring_up(&self, domain: Domain, mut root: RootObject) -> Result<PortLife, DriverError> {
        let died = |source| DriverError::Died {
            device: self.device_name(),
            source,
        };
        let faulty = |fault: DeviceFault| DriverError::Device(Box::new(fault));
        let lent = self.device.lend(domain, self.pool);
        let grant = lent.ok_or_else(|| DriverError::Taken(self.device_name()))?;
        let (pool, settings) = (PoolGrant::new(self.pool), self.settings);
        let created = match &mut root {
            RootObject::Net(root) => root.create(grant, pool, settings),
            RootObject::FragileNet(root) => root.create(grant, pool, settings),
        };
        let mut device = created.map_err(died)?.map_err(faulty)?;
        let mut lanes = Vec::new();
        if self.progress != Progress::Made {
            device.start().map_err(died)?.map_err(faulty)?;
            for index in 0..device.queues().map_err(died)? {
                let lane = device.take_queue(index).map_err(died)?.map_err(faulty)?;
                lanes.push(Some(lane));
            }
        }
        if self.progress == Progress::Draining {
            device.stop_receiving().map_err(died)?.map_err(faulty)?;
        }
        Ok(PortLife {
            device: Some(device),
            lanes,
            root,
        })
    }

    fn device_name(&self) -> String {
        HostDevice::name(&*self.device).to_owned()
    }
}

impl Service for PortService {
    type Life = PortLife;
    type Error = DriverError;

    fn start(&mut self) -> Result<(Domain, PortLife), DriverError> {
        let (name, quota, shared) = (&self.name, self.quota, &*self.shared);
        let started = match &self.driver {
            Driver::Net(program) => start_with(name, program, quota, shared, |domain, root| {
                self.bring_up(domain, RootObject::Net(root))
            }),
            Driver::FragileNet(program) => {
                start_with(name, program, quota, shared, |domain, root| {
                    self.bring_up(domain, RootObject::FragileNet(root))
                })
            }
        };
        self.settings.found_whole |= started.is_ok();
        started
    }

    fn device_ns(&self) -> u64 {
        self.device.own_ns()
    }
}
