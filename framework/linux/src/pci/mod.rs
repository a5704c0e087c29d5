//! PCI devices as Linux shows them: what sysfs, procfs and `/dev` tell of them, and how one changes its driver.
//!
//! - [`Tree`]: where Linux's file systems are; a test gives a folder of its own.
//! - [`PciDevice`]: one device as it is now; [`IommuGroup`]: what can only be handed over together.
//! - [`binding`]: from the kernel's driver to vfio-pci and back, by writes (`write`) that may never return.
//! - [`in_use`]: what the machine would miss: its default route, its disks, a process at work.
//!
//! - [`Transceiver`]: the module in its cage.
//!
//! Opening a device is not here: this reads and writes small files, and asks the kernel's drivers. Nothing read is trusted: a file that
//! is missing or makes no sense is a fact that is not known.

pub mod binding;
mod device;
mod group;
pub mod in_use;
mod interface;
mod transceiver;
mod tree;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use device::bound;
pub use device::{LinkRate, PciDevice, PcieLink, Region, RegionKind, devices};
pub use group::{GroupMember, IommuGroup};
pub use interface::Interface;
pub use transceiver::Transceiver;
pub use tree::Tree;

use std::io;
use std::path::PathBuf;

use crate::spec::PciAddress;

/// The driver that hands a device to a process, behind an IOMMU.
pub const VFIO_PCI: &str = "vfio-pci";
/// The one that does so without an IOMMU, to a process that may reach all memory.
pub const UIO_PCI: &str = "uio_pci_generic";

/// Why nothing can be told of a device.
#[derive(Debug, thiserror::Error)]
pub enum PciError {
    /// There is no PCI bus.
    #[error("{}: this machine shows no PCI bus", .0.display())]
    NoBus(PathBuf),
    /// No such device.
    #[error("{0}: no such PCI device; `sumac devices --all` lists those there are")]
    Absent(PciAddress),
    /// A file that has to be there cannot be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What Linux said.
        reason: io::Error,
    },
}
