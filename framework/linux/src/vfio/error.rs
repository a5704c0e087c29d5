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
    #[error("{device}: {holder} has {} open; end that first", whole(.group))]
    InUse {
        /// The device.
        device: PciAddress,
        /// Its group, if that is open as a whole.
        group: Option<u32>,
        /// The process, if it is known.
        holder: String,
    },
    /// The IOMMU does not remap interrupts.
    #[error(
        "{device}: this machine does not remap interrupts, so that a device could forge them; turn interrupt remapping on in the firmware, or accept it: `modprobe {module} allow_unsafe_interrupts=1`"
    )]
    NoInterruptRemapping {
        /// The device.
        device: PciAddress,
        /// Which module is to accept it.
        module: &'static str,
    },
    /// The kernel makes no address spaces of the newer kind.
    #[error("{device}: no {}, so this kernel was built without iommufd; leave SUMAC_VFIO=cdev out, and the device is taken by its group", path.display())]
    NoIommufd {
        /// The device.
        device: PciAddress,
        /// The file that is missed.
        path: PathBuf,
    },
    /// The kernel makes no file for the device alone.
    #[error(
        "{0}: the kernel has no file in /dev/vfio/devices for it (CONFIG_VFIO_DEVICE_CDEV); leave SUMAC_VFIO=cdev out, and it is taken by its group"
    )]
    NoOwnFile(PciAddress),
    /// There is no such way to take a device.
    #[error(
        "SUMAC_VFIO={0}: devices are taken by `group` or by `cdev`; leave it out for whichever there is"
    )]
    Access(String),
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

fn whole(group: &Option<u32>) -> String {
    group.map_or_else(|| "it".to_owned(), |number| format!("its group {number}"))
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
