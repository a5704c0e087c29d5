//! Devices outside this process: on buses, and served by other processes.

use std::sync::Arc;
use std::vec;

use sumac_device::DmaSpace;
use sumac_devices::memory::SimDma;

use super::{Memory, OpenError, OpenPort, Protection, Way};
use crate::dma::{LinuxDma, Reach};
use crate::noiommu::UioDevice;
use crate::pci::Tree;
use crate::spec::DeviceSpec;
use crate::vfio::{self, Space, VfioDevice};
use crate::vfio_user::ServedDevice;

/// The devices outside this process, in the order of their specs.
pub(super) struct Outside {
    real: vec::IntoIter<Arc<VfioDevice>>,
    /// Without an IOMMU, and so without others beside them.
    bare: vec::IntoIter<Arc<UioDevice>>,
    space: Option<Arc<dyn Space>>,
    served: vec::IntoIter<Arc<ServedDevice>>,
}

impl Outside {
    pub fn open(
        tree: &Tree,
        specs: &[DeviceSpec],
        protection: Protection,
    ) -> Result<Self, OpenError> {
        let bare = protection.bare(tree, specs)?;
        let (mut addresses, mut sockets) = (Vec::new(), Vec::new());
        for spec in specs {
            match spec {
                DeviceSpec::Pci(address) if bare.is_empty() => addresses.push(*address),
                DeviceSpec::Pci(_) => {}
                DeviceSpec::VfioUser(socket) => sockets.push(socket),
                DeviceSpec::Sim(_) => {}
            }
        }
        let (real, space) = vfio::open(tree, &addresses)?;
        let served = (sockets.into_iter())
            .map(|socket| ServedDevice::connect(socket).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            real: real.into_iter(),
            bare: bare.into_iter(),
            space,
            served: served.into_iter(),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.bare.as_slice().is_empty() && self.reaches().is_empty()
    }

    /// The ways by which memory is shown to them.
    fn reaches(&self) -> Vec<Arc<dyn Reach>> {
        let space = self.space.iter().map(|space| Arc::clone(space) as _);
        let served = self.served.as_slice().iter().map(|device| device.reach());
        space.chain(served).collect()
    }

    /// Memory for all devices, those outside and those that reach `window`.
    pub fn memory(&self, window: Option<&SimDma>) -> Memory {
        if !self.bare.as_slice().is_empty() {
            return Memory::Shared(LinuxDma::physical());
        }
        let mut reaches = self.reaches();
        match window {
            Some(window) if reaches.is_empty() => Memory::Window(window.clone()),
            window => {
                reaches.extend(window.map(|window| Arc::clone(window.window()) as Arc<dyn Reach>));
                Memory::Shared(LinuxDma::new(reaches))
            }
        }
    }

    /// The next device of the spec's kind.
    pub fn port(&mut self, spec: &DeviceSpec, dma: &Arc<dyn DmaSpace>) -> Option<(OpenPort, Way)> {
        let dma = Arc::clone(dma);
        match spec {
            DeviceSpec::Pci(address) if self.space.is_none() => {
                let device = self.bare.next()?;
                Some((OpenPort::bare(spec, &device, &dma), Way::Bare(*address)))
            }
            DeviceSpec::Pci(address) => {
                let device = self.real.next()?;
                let way = Way::Pci(*address, Arc::clone(self.space.as_ref()?));
                Some((OpenPort::outside(spec, device.backing(dma), &device), way))
            }
            DeviceSpec::VfioUser(socket) => {
                let device = self.served.next()?;
                let way = Way::Served(socket.clone(), Some(device.reach()));
                Some((OpenPort::outside(spec, device.backing(dma), &device), way))
            }
            DeviceSpec::Sim(_) => None,
        }
    }
}
