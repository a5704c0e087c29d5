//! IOMMU groups: devices that the IOMMU cannot keep apart, so that they are handed over together or not at all.

use std::path::PathBuf;

use super::{Tree, VFIO_PCI};
use crate::spec::PciAddress;

/// Where the kernel shows its groups.
const GROUPS: &str = "sys/kernel/iommu_groups";

/// An IOMMU group at the time it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IommuGroup {
    /// Its number, which is also the name of its file in `/dev/vfio`.
    pub number: u32,
    /// Everything in it, in the order of addresses.
    pub members: Vec<GroupMember>,
    /// Whether there is no IOMMU behind it: a process that has it can reach all memory.
    pub is_noiommu: bool,
}

/// One device of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its name: a PCI address, but for what is no PCI device.
    pub name: String,
    /// Its PCI address.
    pub address: Option<PciAddress>,
    /// The driver that has it.
    pub driver: Option<String>,
}

impl GroupMember {
    /// Whether its driver keeps the whole group from being handed over. The drivers that do not are those
    /// that do no DMA of their own: bridges', stubs and vfio's.
    pub fn is_in_the_way(&self) -> bool {
        match self.driver.as_deref() {
            None | Some(VFIO_PCI | "pci-stub" | "pcieport") => false,
            Some(driver) => !driver.ends_with(VFIO_PCI),
        }
    }
}

impl IommuGroup {
    /// All groups, in the order of their numbers.
    pub fn all(tree: &Tree) -> Vec<Self> {
        let names = tree.names(GROUPS);
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        let groups = numbers.into_iter();
        groups.map(|number| Self::read(tree, number)).collect()
    }

    /// Looks at a group; one without members if there is none of this number.
    pub fn read(tree: &Tree, number: u32) -> Self {
        let folder = PathBuf::from(GROUPS).join(number.to_string());
        let members = folder.join("devices");
        let member = |name: String| GroupMember {
            address: name.parse().ok(),
            driver: tree.link_name(members.join(&name).join("driver")),
            name,
        };
        Self {
            number,
            members: tree.names(&members).into_iter().map(member).collect(),
            is_noiommu: tree.text(folder.join("name")).as_deref() == Some("vfio-noiommu"),
        }
    }

    /// The members other than `address`.
    pub fn others(&self, address: PciAddress) -> impl Iterator<Item = &GroupMember> {
        let other = move |member: &&GroupMember| member.address != Some(address);
        self.members.iter().filter(other)
    }

    /// The members other than `address` whose drivers keep it from being handed over.
    pub fn in_the_way(&self, address: PciAddress) -> impl Iterator<Item = &GroupMember> {
        self.others(address).filter(|member| member.is_in_the_way())
    }
}
