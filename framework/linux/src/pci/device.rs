//! One PCI device: what the files of its folder in `/sys/bus/pci/devices` say.

use std::fmt;
use std::path::{Path, PathBuf};

use sumac_device::PciId;

use super::interface::Interface;
use super::tree::{hex, read};
use super::{PciError, Tree, UIO_PCI, VFIO_PCI};
use crate::spec::PciAddress;

/// Where the bus shows its devices.
const DEVICES: &str = "sys/bus/pci/devices";

/// A PCI device at the time it was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct PciDevice {
    /// Where it sits.
    pub address: PciAddress,
    /// Vendor and device.
    pub id: PciId,
    /// Class, subclass and programming interface: `0x020000` is an Ethernet controller.
    pub class: u32,
    /// The driver that has it.
    pub driver: Option<String>,
    /// The only driver that may have it, if one is named.
    pub driver_override: Option<String>,
    /// What the kernel matches modules against.
    pub modalias: String,
    /// Its IOMMU group; `None` where no IOMMU translates for it.
    pub group: Option<u32>,
    /// The NUMA node it is near to, if the machine says so.
    pub node: Option<u32>,
    /// Its PCI Express link, if it tells of one.
    pub link: Option<PcieLink>,
    /// Its memory and ports, by BAR.
    pub regions: Vec<Region>,
    /// Its network interfaces, while a driver of the kernel's has it.
    pub interfaces: Vec<Interface>,
    /// The power-saving states its link may enter (`l0s`, `l1`, ..), by ASPM.
    pub aspm: Vec<String>,
}

/// Speed and width of a PCI Express link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcieLink {
    /// What it runs at; `None` if unknown.
    pub current: Option<LinkRate>,
    /// What the device could.
    pub highest: Option<LinkRate>,
}

impl PcieLink {
    /// Whether it runs slower or narrower than the device could.
    pub fn is_reduced(&self) -> bool {
        match (self.current, self.highest) {
            (Some(now), Some(best)) => {
                now.megatransfers < best.megatransfers || now.lanes < best.lanes
            }
            _ => false,
        }
    }
}

/// A rate of a PCI Express link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkRate {
    /// Million transfers a second on each lane: 5,000 for `5.0 GT/s`.
    pub megatransfers: u32,
    /// Lanes.
    pub lanes: u8,
}

impl fmt::Display for LinkRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let speed = f64::from(self.megatransfers) / 1000.0;
        write!(f, "{speed:.1} GT/s x{}", self.lanes)
    }
}

/// What a BAR decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Which BAR; 6 is the expansion ROM.
    pub bar: u8,
    /// Its length.
    pub bytes: u64,
    /// Memory or ports.
    pub kind: RegionKind,
}

/// How a region is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Loads and stores.
    Memory,
    /// Port instructions.
    Ports,
}

/// Every device of the bus, in the order of addresses.
///
/// # Errors
/// [`PciError::NoBus`]. A device that vanishes meanwhile is left out.
pub fn devices(tree: &Tree) -> Result<Vec<PciDevice>, PciError> {
    let folder = tree.path(DEVICES);
    if !folder.is_dir() {
        return Err(PciError::NoBus(folder));
    }
    let addresses = tree
        .names(DEVICES)
        .into_iter()
        .filter_map(|name| name.parse().ok());
    let mut devices: Vec<PciDevice> = addresses
        .filter_map(|address| PciDevice::read(tree, address).ok())
        .collect();
    devices.sort_by_key(|device| device.address);
    Ok(devices)
}

impl PciDevice {
    /// Looks at the device at `address`.
    ///
    /// # Errors
    /// [`PciError::Absent`]; [`PciError::Unreadable`] if what every device has is missing.
    pub fn read(tree: &Tree, address: PciAddress) -> Result<Self, PciError> {
        let folder = folder(address);
        if !tree.path(&folder).is_dir() {
            return Err(PciError::Absent(address));
        }
        let needed = |name: &str| {
            let path = tree.path(&folder).join(name);
            let text = read(&path).map_err(|reason| PciError::Unreadable {
                path: path.clone(),
                reason,
            })?;
            hex(&text).ok_or_else(|| PciError::Unreadable {
                path,
                reason: std::io::ErrorKind::InvalidData.into(),
            })
        };
        let text = |name: &str| tree.text(folder.join(name));
        Ok(Self {
            address,
            id: PciId {
                vendor: needed("vendor")? as u16,
                device: needed("device")? as u16,
            },
            class: needed("class")? as u32,
            driver: tree.link_name(folder.join("driver")),
            driver_override: text("driver_override")
                .filter(|name| !name.is_empty() && name != "(null)"),
            modalias: text("modalias").unwrap_or_default(),
            group: tree
                .link_name(folder.join("iommu_group"))
                .and_then(|group| group.parse().ok()),
            // -1 where the machine does not say.
            node: text("numa_node").and_then(|node| node.parse().ok()),
            link: link(&text),
            regions: text("resource")
                .map(|lines| regions(&lines))
                .unwrap_or_default(),
            interfaces: Interface::of(tree, address),
            aspm: aspm(tree, &folder),
        })
    }

    /// The folder of the device in sysfs, below the tree's root.
    pub fn folder(&self) -> PathBuf {
        folder(self.address)
    }

    /// Whether vfio-pci has it.
    pub fn is_with_vfio(&self) -> bool {
        self.driver.as_deref() == Some(VFIO_PCI)
    }

    /// Whether uio_pci_generic has it, which hands it over without an IOMMU.
    pub fn is_with_uio(&self) -> bool {
        self.driver.as_deref() == Some(UIO_PCI)
    }

    /// Whether it is with a driver that leaves it to processes.
    pub fn is_handed_over(&self) -> bool {
        self.is_with_vfio() || self.is_with_uio()
    }

    /// The files in `/dev` that a process has open while it has the device, those that there are now.
    pub fn files(&self, tree: &Tree) -> Vec<PathBuf> {
        let uio = tree.names(self.folder().join("uio")).into_iter();
        let uio = uio.map(|name| Path::new("dev").join(name));
        let uio = uio.filter(|file| self.is_with_uio() && tree.path(file).exists());
        self.vfio_files(tree).into_iter().chain(uio).collect()
    }

    /// The files in `/dev` through which a process takes it, those that there are now: its group's, and its own
    /// where the kernel offers one.
    pub fn vfio_files(&self, tree: &Tree) -> Vec<PathBuf> {
        let group = self.group.into_iter().flat_map(|group| {
            [
                format!("dev/vfio/{group}"),
                format!("dev/vfio/noiommu-{group}"),
            ]
        });
        let mut files: Vec<PathBuf> = group.map(PathBuf::from).collect();
        files.extend(self.own_file(tree));
        files.retain(|file| self.is_with_vfio() && tree.path(file).exists());
        files
    }

    /// The file in `/dev` of the device alone, where vfio makes one.
    pub fn own_file(&self, tree: &Tree) -> Option<PathBuf> {
        let names = tree.names(self.folder().join("vfio-dev"));
        let name = names.into_iter().next()?;
        Some(PathBuf::from("dev/vfio/devices").join(name))
    }
}

fn folder(address: PciAddress) -> PathBuf {
    PathBuf::from(DEVICES).join(address.to_string())
}

fn link(text: &impl Fn(&str) -> Option<String>) -> Option<PcieLink> {
    let rate = |speed: &str, width: &str| {
        Some(LinkRate {
            megatransfers: megatransfers(&text(speed)?)?,
            // 0 and 255 stand for a width nobody knows.
            lanes: text(width)?
                .parse()
                .ok()
                .filter(|lanes| (1..=32).contains(lanes))?,
        })
    };
    let current = rate("current_link_speed", "current_link_width");
    let highest = rate("max_link_speed", "max_link_width");
    (current.is_some() || highest.is_some()).then_some(PcieLink { current, highest })
}

/// `5.0 GT/s PCIe` as 5,000.
fn megatransfers(text: &str) -> Option<u32> {
    let speed: f64 = text.split_whitespace().next()?.parse().ok()?;
    (speed > 0.0 && speed < 1000.0).then_some((speed * 1000.0) as u32)
}

/// The lines of `resource`: first address, last address, flags.
fn regions(lines: &str) -> Vec<Region> {
    /// `IORESOURCE_IO` and `IORESOURCE_MEM`, as the kernel numbers them.
    const PORTS: u64 = 0x100;
    const MEMORY: u64 = 0x200;
    let region = |(bar, line): (usize, &str)| {
        let mut numbers = line.split_whitespace().map(hex);
        let mut next = || numbers.next().flatten();
        let (first, last, flags) = (next()?, next()?, next()?);
        let kind = match flags {
            flags if flags & MEMORY != 0 => RegionKind::Memory,
            flags if flags & PORTS != 0 => RegionKind::Ports,
            _ => return None,
        };
        let bytes = last.checked_sub(first)?.checked_add(1)?;
        Some(Region {
            bar: bar as u8,
            bytes,
            kind,
        })
    };
    lines
        .lines()
        .enumerate()
        .take(7)
        .filter_map(region)
        .collect()
}

/// The states that are on; the files are there only where the kernel is in charge of them.
fn aspm(tree: &Tree, folder: &Path) -> Vec<String> {
    let folder = folder.join("link");
    let on = |name: &String| tree.text(folder.join(name)).as_deref() == Some("1");
    let files = tree.names(&folder).into_iter().filter(on);
    files
        .filter_map(|name| Some(name.strip_suffix("_aspm")?.to_owned()))
        .collect()
}

/// What has a device, in words.
pub(crate) fn bound(driver: &Option<String>) -> String {
    match driver {
        Some(driver) => format!("it is bound to {driver}"),
        None => "it is bound to no driver".to_owned(),
    }
}
