//! PCI devices that no IOMMU translates for, where somebody agreed to that: those that are bound to
//! uio_pci_generic.
//!
//! Such a device reaches all memory of the machine by physical addresses, so what a driver, a descriptor or the
//! device does wrong is not stopped by anything. What is left of protection: one process has a device at a time, a
//! device is reset before it is used, and Linux ends its DMA when the process ends, however it does. Not through
//! VFIO's own mode without an IOMMU: few kernels are built with it, and none of Debian's.

mod device;
mod error;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::pci::{PciDevice, Tree};
use crate::spec::PciAddress;

pub(crate) use device::UioDevice;
pub use error::NoIommuError;

/// Whether a device is meant to be used without an IOMMU.
pub(crate) fn is_meant(device: &PciDevice) -> bool {
    device.is_with_uio()
}

/// Opens devices that no IOMMU translates for, all or none.
///
/// # Errors
/// [`NoIommuError`].
pub(crate) fn open(
    tree: &Tree,
    addresses: &[PciAddress],
) -> Result<Vec<Arc<UioDevice>>, NoIommuError> {
    let devices = (addresses.iter())
        .map(|address| fit(tree, *address))
        .collect::<Result<Vec<_>, _>>()?;
    (devices.iter())
        .map(|device| UioDevice::open(tree, device).map(Arc::new))
        .collect()
}

/// The device, if its driver is right and no IOMMU translates for it.
fn fit(tree: &Tree, address: PciAddress) -> Result<PciDevice, NoIommuError> {
    let device = PciDevice::read(tree, address)?;
    if device.group.is_some() {
        return Err(NoIommuError::Translated(address));
    }
    match is_meant(&device) {
        true => Ok(device),
        false => Err(NoIommuError::NotBound {
            device: address,
            driver: device.driver,
        }),
    }
}
