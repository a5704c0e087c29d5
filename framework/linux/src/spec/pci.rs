//! PCI addresses: domain, bus, device, function.

use std::fmt;
use std::str::FromStr;

/// Where a PCI function sits, as Linux writes it: `0000:03:00.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl PciAddress {
    /// An address; `None` for a device above 31 or a function above 7.
    pub fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        (device < 32 && function < 8).then_some(Self {
            domain,
            bus,
            device,
            function,
        })
    }
}

impl FromStr for PciAddress {
    /// There is one thing to say, and [`SpecError`](super::SpecError) says it.
    type Err = ();

    /// `DOMAIN:BUS:DEVICE.FUNCTION` in hexadecimal; without a domain, domain 0.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (front, function) = text.rsplit_once('.').ok_or(())?;
        let (front, device) = front.rsplit_once(':').ok_or(())?;
        let (domain, bus) = front.rsplit_once(':').unwrap_or(("0000", front));
        let byte = |text, digits| hex(text, 1..=digits).map(|value| value as u8);
        let address = Self::new(
            hex(domain, 4..=8).ok_or(())?,
            byte(bus, 2).ok_or(())?,
            byte(device, 2).ok_or(())?,
            byte(function, 1).ok_or(())?,
        );
        address.ok_or(())
    }
}

/// A hexadecimal number of so many digits, without sign or prefix.
pub(super) fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits_only && digits.contains(&text.len()))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}
