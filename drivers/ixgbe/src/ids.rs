//! Which PCI functions this driver drives, and what each is.
//!
//! Only physical functions: a virtual function (82599 `10ed`, X540 `1515`) has another register
//! map.

use sumac_device::PciId;

/// Intel's PCI vendor id.
pub const INTEL: u16 = 0x8086;

/// Which controller: they share the register map but for a few places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// 82599ES/EB/EN ("Niantic").
    I82599,
    /// X540 ("Twinville"), 10GBASE-T.
    X540,
    /// X550, 10GBASE-T.
    X550,
}

impl Generation {
    /// Receive packet buffer in KiB (section 8.2.3.8.9; X540 and X550 have less).
    pub const fn receive_buffer_kib(self) -> u32 {
        match self {
            Self::I82599 => 512,
            Self::X540 | Self::X550 => 384,
        }
    }

    /// How many queues the RSS redirection table can name (section 8.2.3.7.15: four bits on the
    /// 82599 and X540; the X550 has six).
    pub const fn rss_queues(self) -> u16 {
        match self {
            Self::I82599 | Self::X540 => 16,
            Self::X550 => 64,
        }
    }
}

/// What the port's cable is, as far as the device id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// A backplane: KX, KX4 or KR, with clause 73 autonegotiation.
    Backplane,
    /// An SFP+ (or QSFP+) cage; the module decides.
    Sfp,
    /// CX4 copper, no autonegotiation.
    Cx4,
    /// An external PHY behind XAUI.
    Xaui,
    /// Twisted pair: 10GBASE-T.
    Copper,
}

/// One supported PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PCI device id; the vendor is [`INTEL`].
    pub device: u16,
    /// The controller.
    pub generation: Generation,
    /// The cable.
    pub media: Media,
    /// The name people know it by.
    pub name: &'static str,
}

const fn entry(device: u16, generation: Generation, media: Media, name: &'static str) -> Identity {
    Identity {
        device,
        generation,
        media,
        name,
    }
}

use Generation::{I82599, X540, X550};
use Media::{Backplane, Copper, Cx4, Sfp, Xaui};

/// Every function driven, by device id.
pub const SUPPORTED: &[Identity] = &[
    entry(0x10f7, I82599, Backplane, "82599 KX4"),
    entry(0x1514, I82599, Backplane, "82599 KX4 mezzanine"),
    entry(0x1517, I82599, Backplane, "82599 KR"),
    entry(0x10f8, I82599, Backplane, "82599 combined backplane"),
    entry(0x152a, I82599, Backplane, "82599 backplane FCoE"),
    entry(0x10f9, I82599, Cx4, "82599 CX4"),
    entry(0x10fb, I82599, Sfp, "82599 SFP+ (X520)"),
    entry(0x11a9, I82599, Sfp, "82599 SFP+"),
    entry(0x1507, I82599, Sfp, "82599 SFP+ mezzanine"),
    entry(0x1529, I82599, Sfp, "82599 SFP+ FCoE"),
    entry(0x154a, I82599, Sfp, "82599 SFP+ quad port (X520-4)"),
    entry(0x154d, I82599, Sfp, "82599 SFP+ SF2"),
    entry(0x154f, I82599, Sfp, "82599 LS"),
    entry(0x1557, I82599, Sfp, "82599EN SFP+"),
    entry(0x1558, I82599, Sfp, "82599 QSFP+ quad port"),
    entry(0x10fc, I82599, Xaui, "82599 XAUI LOM"),
    entry(0x151c, I82599, Copper, "82599 10GBASE-T LOM"),
    entry(0x1528, X540, Copper, "X540-T2"),
    entry(0x1560, X540, Copper, "X540-T1"),
    entry(0x1563, X550, Copper, "X550-T2"),
    entry(0x15d1, X550, Copper, "X550-T1"),
];

/// What `id` is, if this driver drives it.
pub fn identify(id: PciId) -> Option<Identity> {
    if id.vendor != INTEL {
        return None;
    }
    SUPPORTED
        .iter()
        .copied()
        .find(|entry| entry.device == id.device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_listed_once() {
        for (place, entry) in SUPPORTED.iter().enumerate() {
            let same = SUPPORTED
                .iter()
                .position(|other| other.device == entry.device);
            assert_eq!(same, Some(place), "{:#06x} twice", entry.device);
        }
    }

    #[test]
    fn other_vendors_and_virtual_functions_are_not_ours() {
        assert!(
            identify(PciId {
                vendor: 0x1234,
                device: 0x10fb
            })
            .is_none()
        );
        assert!(
            identify(PciId {
                vendor: INTEL,
                device: 0x10ed
            })
            .is_none()
        );
        let x520 = identify(PciId {
            vendor: INTEL,
            device: 0x10fb,
        });
        assert_eq!(x520.map(|identity| identity.media), Some(Media::Sfp));
    }
}
