//! What people call a device: by its id if Sumac has a driver for it, else by its class.

use sumac_ixgbe::ids::identify;
use sumac_linux::pci::PciDevice;

/// A card that Sumac has a driver for, by name.
pub fn driven(device: &PciDevice) -> Option<&'static str> {
    identify(device.id).map(|identity| identity.name)
}

/// Whether applications of Sumac's could want it: it moves packets or blocks, or somebody gave it to processes.
pub fn is_of_interest(device: &PciDevice) -> bool {
    is_network(device) || device.class >> 8 == 0x0108 || device.is_handed_over()
}

/// Whether it is a network controller.
pub fn is_network(device: &PciDevice) -> bool {
    device.class >> 16 == 0x02
}

/// Its name for people.
pub fn name(device: &PciDevice) -> &'static str {
    driven(device).unwrap_or_else(|| class_name(device.class))
}

/// Vendor and device, as `lspci -n` has them.
pub fn id(device: &PciDevice) -> String {
    format!("{:04x}:{:04x}", device.id.vendor, device.id.device)
}

/// Classes of the PCI Code and ID Assignment Specification, as far as a machine with network cards shows them.
fn class_name(class: u32) -> &'static str {
    match (class >> 16, class >> 8 & 0xff) {
        (0x01, 0x08) => "NVMe controller",
        (0x01, _) => "storage controller",
        (0x02, 0x00) => "Ethernet controller",
        (0x02, _) => "network controller",
        (0x03, _) => "display controller",
        (0x04, _) => "multimedia",
        (0x05, _) => "memory",
        (0x06, 0x00) => "host bridge",
        (0x06, 0x01) => "ISA bridge",
        (0x06, _) => "PCI bridge",
        (0x07, _) => "communication",
        (0x08, _) => "system peripheral",
        (0x0c, 0x03) => "USB controller",
        (0x0c, 0x05) => "SMBus",
        (0x0c, _) => "serial bus",
        (0x0b, _) | (0x12, _) => "processor",
        _ => "other",
    }
}
