//! Whether devices are taken without an IOMMU, and which.

use std::sync::Arc;

use crate::noiommu::{self, NoIommuError, UioDevice};
use crate::pci::{PciDevice, Tree};
use crate::spec::DeviceSpec;

/// What keeps PCI devices from memory that is not theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// An IOMMU; a device that none translates for is refused.
    #[default]
    Iommu,
    /// Nothing, where no IOMMU translates for a device that is bound to uio_pci_generic: it can read and write
    /// all memory of the machine, and so can whatever drives it. An IOMMU that is there is used all the same.
    Waived,
}

impl Protection {
    /// The devices without an IOMMU, or meant to be, if there are any and that is agreed to: then all are.
    pub(super) fn bare(
        self,
        tree: &Tree,
        specs: &[DeviceSpec],
    ) -> Result<Vec<Arc<UioDevice>>, NoIommuError> {
        if self == Self::Iommu {
            return Ok(Vec::new());
        }
        let bare = |spec: &DeviceSpec| {
            let DeviceSpec::Pci(address) = spec else {
                return None;
            };
            let device = PciDevice::read(tree, *address).ok()?;
            (device.group.is_none() || noiommu::is_meant(&device)).then_some(*address)
        };
        let addresses: Vec<_> = specs.iter().filter_map(bare).collect();
        match addresses.first() {
            Some(first) if addresses.len() < specs.len() => Err(NoIommuError::Mixed(*first)),
            _ => noiommu::open(tree, &addresses),
        }
    }
}
