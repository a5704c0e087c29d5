//! Why a device cannot be had through VFIO: one line each, with the device and the remedy.

use std::io;
use std::path::PathBuf;

use crate::pci::{GroupMember, PciError, bound};
use crate::spec::PciAddress;

/// Why a PCI device cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum VfioError {
    /// There is no such device, or nothing can be told of it.
    #[error(transparent)]
    Device(#[from] PciError),
    /// Another driver has it, or none.
    #[error("{device}: {} and not to vfio-pci; run `sumac bind {device}`", bound(.driver))]
    NotBound {
        /// The device.
        device: PciAddress,
        /// The driver that has it.
        driver: Option<String>,
    },
    /// No IOMMU translates for it.
    #[error(
        "{0}: no IOMMU translates for it; turn VT-d or AMD-Vi on in the firmware and boot with `intel_iommu=on`; `sumac doctor {0}` says more, and `l2fwd --help` what --unsafe-noiommu gives up"
    )]
    NoIommu(PciAddress),
    /// Its group has no IOMMU behind it, and that was not agreed to.
    #[error(
        "{0}: its group is one without an IOMMU, where a device can reach all memory, and that is not supported; `sumac doctor {0}` says how to turn the IOMMU on"
    )]
    WithoutIommu(PciAddress),
    /// The kernel has no VFIO, or it is not loaded.
    #[error("{}: not there; run `modprobe vfio-pci`", .0.display())]
    NoVfio(PathBuf),
    /// The kernel's VFIO is of another kind.
    #[error("{}: the kernel's VFIO lacks {lacks}; Linux 4.0 or later on x86-64 has it", path.display())]
    OtherVfio {
        /// The container's file.
        path: PathBuf,
        /// What is missed.
        lacks: &'static str,
    },
    /// The file belongs to somebody else.
    #[error("{device}: no permission for {}; run `sudo sumac bind --user $USER {device}`, or run this as root", path.display())]
    Permission {
        /// The device.
        device: PciAddress,
        /// The file.
        path: PathBuf,
    },
    /// Other devices of the group are in other hands.
    #[error("{device}: group {group} is not viable: {}", in_the_way(.others))]
    NotViable {
        /// The device.
        device: PciAddress,
        /// Its group.
        group: u32,
        /// Which, and whose.
        others: Vec<GroupMember>,
    },
    /// Another process has it.
    #[error("{device}: {holder} has its group {group} open; end that first")]
    InUse {
        /// The device.
        device: PciAddress,
        /// Its group.
        group: u32,
        /// The process, if it is known.
        holder: String,
    },
    /// The IOMMU does not remap interrupts.
    #[error(
        "{0}: this machine does not remap interrupts, so that a device could forge them; turn interrupt remapping on in the firmware, or accept it: `modprobe vfio_iommu_type1 allow_unsafe_interrupts=1`"
    )]
    NoInterruptRemapping(PciAddress),
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

fn in_the_way(others: &[GroupMember]) -> String {
    if others.is_empty() {
        return "another device in it is not bound to vfio-pci; `sumac doctor` says more"
            .to_owned();
    }
    let bound: Vec<String> = (others.iter())
        .map(|other| {
            let driver = other.driver.as_deref().unwrap_or("no driver");
            format!("{} is bound to {driver}", other.name)
        })
        .collect();
    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
    format!("{}; run `sumac bind {}`", bound.join(", "), names.join(" "))
}
