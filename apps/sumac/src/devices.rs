//! `sumac devices`: what is on the PCI bus, and who has it.

use clap::Args;
use serde::Serialize;
use sumac_linux::pci::{self, Interface, PciDevice, PcieLink, Tree};

use crate::{Trouble, cards, output};

/// What `sumac devices` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Columns: the address that every command here takes; vendor and device; the driver that has the\n\
        device (vfio-pci and uio_pci_generic hand it to a process); the IOMMU group, which goes to a process whole; the\n\
        NUMA node it is near to; the PCI Express link as it runs; its network interfaces while the kernel drives it."
)]
pub struct Options {
    /// Every device of the bus, not only network and NVMe controllers.
    #[arg(long)]
    all: bool,
    /// As a JSON list.
    #[arg(long)]
    json: bool,
}

/// Lists the devices of the bus.
///
/// # Errors
/// [`Trouble`] where there is no bus.
pub fn list(options: &Options, tree: &Tree) -> Result<(), Trouble> {
    let mut devices = pci::devices(tree).map_err(|error| Trouble::Machine(error.to_string()))?;
    devices.retain(|device| options.all || cards::is_of_interest(device));
    if options.json {
        return output::json(&devices.iter().map(Entry::new).collect::<Vec<_>>());
    }
    if devices.is_empty() {
        return output::print("no network or NVMe controller; --all lists every device\n");
    }
    let heading = [
        "address",
        "id",
        "card",
        "driver",
        "group",
        "node",
        "link",
        "interface",
    ];
    let rows: Vec<_> = devices.iter().map(row).collect();
    output::print(&output::table(heading, &rows))
}

fn row(device: &PciDevice) -> [String; 8] {
    let number = |number: Option<u32>| number.map_or_else(dash, |number| number.to_string());
    let rate = device.link.and_then(|link| link.current);
    let interfaces: Vec<String> = device.interfaces.iter().map(interface).collect();
    [
        device.address.to_string(),
        cards::id(device),
        cards::name(device).to_owned(),
        device.driver.clone().unwrap_or_else(dash),
        number(device.group),
        number(device.node),
        rate.map_or_else(dash, |rate| rate.to_string()),
        interfaces.join(", "),
    ]
}

fn dash() -> String {
    "-".to_owned()
}

/// An interface and its state: `eth1 (10000 Mbit/s)`.
pub fn interface(interface: &Interface) -> String {
    let state = match (interface.is_up, interface.carrier, interface.megabits) {
        (false, ..) => "down".to_owned(),
        (true, Some(true), Some(megabits)) => format!("{megabits} Mbit/s"),
        (true, Some(true), None) => "link".to_owned(),
        (true, ..) => "no link".to_owned(),
    };
    format!("{} ({state})", interface.name)
}

/// One device in JSON.
#[derive(Serialize)]
struct Entry<'a> {
    address: String,
    vendor: String,
    device: String,
    class: String,
    name: &'static str,
    /// Whether Sumac has a driver for it.
    driven: bool,
    driver: Option<&'a str>,
    driver_override: Option<&'a str>,
    group: Option<u32>,
    node: Option<u32>,
    link: Option<Link>,
    interfaces: Vec<InterfaceEntry<'a>>,
    regions: Vec<RegionEntry>,
    aspm: &'a [String],
}

#[derive(Serialize)]
struct Link {
    current: Option<String>,
    highest: Option<String>,
    reduced: bool,
}

#[derive(Serialize)]
struct InterfaceEntry<'a> {
    name: &'a str,
    up: bool,
    carrier: Option<bool>,
    megabits: Option<u32>,
}

#[derive(Serialize)]
struct RegionEntry {
    bar: u8,
    bytes: u64,
}

impl<'a> Entry<'a> {
    fn new(device: &'a PciDevice) -> Self {
        let link = |link: PcieLink| Link {
            current: link.current.map(|rate| rate.to_string()),
            highest: link.highest.map(|rate| rate.to_string()),
            reduced: link.is_reduced(),
        };
        let interface = |interface: &'a Interface| InterfaceEntry {
            name: &interface.name,
            up: interface.is_up,
            carrier: interface.carrier,
            megabits: interface.megabits,
        };
        let region = |region: &pci::Region| RegionEntry {
            bar: region.bar,
            bytes: region.bytes,
        };
        Self {
            address: device.address.to_string(),
            vendor: format!("{:04x}", device.id.vendor),
            device: format!("{:04x}", device.id.device),
            class: format!("{:06x}", device.class),
            name: cards::name(device),
            driven: cards::driven(device).is_some(),
            driver: device.driver.as_deref(),
            driver_override: device.driver_override.as_deref(),
            group: device.group,
            node: device.node,
            link: device.link.map(link),
            interfaces: device.interfaces.iter().map(interface).collect(),
            regions: device.regions.iter().map(region).collect(),
            aspm: &device.aspm,
        }
    }
}
