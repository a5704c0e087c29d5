//! PCI devices through Linux's VFIO: those that are bound to vfio-pci, behind an IOMMU.
//!
//! All devices of a process share one address space, also when they are in different groups: what one can reach
//! the others can, so that one packet pool serves them all. There are two ways to one ([`Access`]), and what follows
//! is the same for both.

mod access;
mod container;
mod device;
mod error;
mod group;
mod ioas;
mod iommufd;
pub(crate) mod region;
mod space;
mod sys;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::noiommu;
use crate::pci::{PciDevice, Tree};
use crate::spec::PciAddress;

pub use access::Access;
pub(crate) use device::VfioDevice;
pub use error::VfioError;
pub(crate) use space::Space;

/// Devices of this process's, and the address space they are in; none without devices.
pub(crate) type Opened = (Vec<Arc<VfioDevice>>, Option<Arc<dyn Space>>);

/// Opens devices, in the order in which they are asked for, all or none.
///
/// # Errors
/// [`VfioError`].
pub(crate) fn open(tree: &Tree, addresses: &[PciAddress]) -> Result<Opened, VfioError> {
    let devices = (addresses.iter())
        .map(|address| fit(tree, *address))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(first) = devices.first() else {
        return Ok((Vec::new(), None));
    };
    let (space, files) = access::take(tree, Access::asked_for()?, first, &devices)?;
    let opened = (devices.iter().zip(files))
        .map(|(device, joined)| VfioDevice::new(device, joined.file).map(Arc::new));
    Ok((opened.collect::<Result<_, _>>()?, Some(space)))
}

/// Opens a device that had gone, and came back, in the space that it was in; and whether nothing is mapped
/// there, since it is alone in it.
///
/// # Errors
/// [`VfioError`].
pub(crate) fn reopen(
    tree: &Tree,
    space: &Arc<dyn Space>,
    address: PciAddress,
) -> Result<(Arc<VfioDevice>, bool), VfioError> {
    let device = fit(tree, address)?;
    let joined = Arc::clone(space).device(tree, &device)?;
    let opened = VfioDevice::new(&device, joined.file)?;
    Ok((Arc::new(opened), joined.first))
}

/// The device, if its driver is right and an IOMMU translates for it.
fn fit(tree: &Tree, address: PciAddress) -> Result<PciDevice, VfioError> {
    let device = PciDevice::read(tree, address)?;
    if noiommu::is_meant(&device) && device.group.is_none() {
        return Err(VfioError::NoIommu(address));
    }
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
