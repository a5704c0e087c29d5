//! What a host hands a driver: one device's registers, DMA space, clock and name.

use alloc::string::String;
use alloc::sync::Arc;

use crate::{Bar, Clock, DmaSpace};

/// The PCI identity of a function (PCI Local Bus Specification 3.0, section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PciId {
    /// Vendor id, configuration space offset 0x00.
    pub vendor: u16,
    /// Device id, configuration space offset 0x02.
    pub device: u16,
}

/// All the authority a driver has: one device.
#[derive(Clone)]
pub struct DeviceBacking {
    /// How people name the device: `0000:03:00.0`, `sim0`. Every error begins with it.
    pub name: String,
    /// Vendor and device id, by which a driver knows what it drives.
    pub id: PciId,
    /// The register BAR (BAR 0 of an 82599).
    pub bar: Bar,
    /// Where memory the device can reach comes from.
    pub dma: Arc<dyn DmaSpace>,
    /// Time, for bounded waits.
    pub clock: Arc<dyn Clock>,
}
