//! Why a device cannot be had without an IOMMU: one line each, with the device and the remedy.

use std::io;
use std::path::PathBuf;

use crate::pci::{PciError, bound};
use crate::spec::PciAddress;

/// Why a device cannot be opened that no IOMMU translates for.
#[derive(Debug, thiserror::Error)]
pub enum NoIommuError {
    /// There is no such device, or nothing can be told of it.
    #[error(transparent)]
    Device(#[from] PciError),
    /// Another driver has it, or none.
    #[error(
        "{device}: {} and not to uio_pci_generic; run `sumac bind --unsafe-noiommu {device}`",
        bound(.driver)
    )]
    NotBound {
        /// The device.
        device: PciAddress,
        /// The driver that has it.
        driver: Option<String>,
    },
    /// Its addresses are translated.
    #[error(
        "{0}: an IOMMU translates for it, which physical addresses do not pass; run `sumac bind {0}`, and leave --unsafe-noiommu out"
    )]
    Translated(PciAddress),
    /// Other devices reach the same memory by other addresses.
    #[error(
        "{0}: no IOMMU translates for it, so memory it shares has to lie at physical addresses; use it beside other such devices only"
    )]
    Mixed(PciAddress),
    /// The file belongs to somebody else.
    #[error("{device}: no permission for {}; run this as root", path.display())]
    Permission {
        /// The device.
        device: PciAddress,
        /// The file.
        path: PathBuf,
    },
    /// Another process has it.
    #[error("{0}: another process drives it; end that first")]
    InUse(PciAddress),
    /// It is none that a driver of ours could drive.
    #[error("{device}: {reason}; `sumac devices` lists what there is")]
    Unfit {
        /// The device.
        device: PciAddress,
        /// Why.
        reason: &'static str,
    },
    /// Linux refused something that should work.
    #[error("{device}: {what}: {source}; `dmesg` may say more")]
    System {
        /// The device.
        device: PciAddress,
        /// What was asked for.
        what: &'static str,
        /// What Linux said.
        source: io::Error,
    },
}
