//! PCI devices through Linux's VFIO: those that are bound to vfio-pci, behind an IOMMU.
//!
//! All devices of a process share one container, also when they are in different groups: what one can reach
//! the others can, so that one packet pool serves them all.

mod container;
mod device;
mod error;
mod group;
pub(crate) mod region;
mod sys;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::container::Container;
use crate::dma::Reach;
use crate::pci::{PciDevice, Tree};
use crate::spec::PciAddress;

pub(crate) use device::VfioDevice;
pub use error::VfioError;

/// Devices of this process's, and what makes memory reachable for them.
pub(crate) struct Opened {
    /// In the order in which they were asked for.
    pub devices: Vec<Arc<VfioDevice>>,
    /// None without devices.
    pub reach: Option<Arc<dyn Reach>>,
}

/// Opens devices, all or none.
///
/// # Errors
/// [`VfioError`].
pub(crate) fn open(tree: &Tree, addresses: &[PciAddress]) -> Result<Opened, VfioError> {
    let devices = (addresses.iter())
        .map(|address| fit(tree, *address))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(first) = addresses.first() else {
        return Ok(Opened {
            devices: Vec::new(),
            reach: None,
        });
    };
    let mut container = Container::create(tree, *first)?;
    let files = (devices.iter())
        .map(|device| container.device(tree, device))
        .collect::<Result<Vec<_>, _>>()?;
    let container = Arc::new(container);
    let opened = devices
        .iter()
        .zip(files)
        .map(|(device, file)| VfioDevice::new(device, file, Arc::clone(&container)).map(Arc::new));
    Ok(Opened {
        devices: opened.collect::<Result<_, _>>()?,
        reach: Some(container),
    })
}

/// The device, if its driver is right and an IOMMU translates for it.
fn fit(tree: &Tree, address: PciAddress) -> Result<PciDevice, VfioError> {
    let device = PciDevice::read(tree, address)?;
    if !device.is_with_vfio() {
        return Err(VfioError::NotBound {
            device: address,
            driver: device.driver,
        });
    }
    match device.group {
        Some(_) => Ok(device),
        None => Err(VfioError::NoIommu(address)),
    }
}
