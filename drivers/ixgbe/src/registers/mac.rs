//! Contents of the MAC and flow control registers (sections 8.2.3.22 and 8.2.3.3).

use bitfield_struct::bitfield;

use crate::registers::contents;

/// HLREG0, MAC core control (section 8.2.3.22.8).
#[bitfield(u32)]
pub struct Hlreg0 {
    /// Append the CRC.
    pub transmit_crc: bool,
    /// Strip the CRC; must equal RDRXCTL.CRCStrip.
    pub strip_crc: bool,
    /// Accept frames above 1,518 bytes, up to MAXFRS.
    pub jumbo: bool,
    #[bits(7)]
    __: u8,
    /// Pad short frames to 64 bytes.
    pub transmit_pad: bool,
    #[bits(4)]
    __: u8,
    /// Send to oneself.
    pub loopback: bool,
    #[bits(16)]
    __: u16,
}

/// MSCA, MDIO command and address (section 8.2.3.22.11).
#[bitfield(u32)]
pub struct Msca {
    /// Register in the device, clause 45.
    pub address: u16,
    /// Device in the PHY (MMD).
    #[bits(5)]
    pub device: u8,
    /// PHY on the bus.
    #[bits(5)]
    pub phy: u8,
    /// 0 address, 1 write, 3 read.
    #[bits(2)]
    pub operation: u8,
    /// 0 is clause 45.
    #[bits(2)]
    pub protocol: u8,
    /// Start; clears itself.
    pub command: bool,
    /// Report the end in an interrupt.
    pub in_progress_enable: bool,
}

/// MSRWD, MDIO data (section 8.2.3.22.12).
#[bitfield(u32)]
pub struct Msrwd {
    /// To write.
    pub write: u16,
    /// Read.
    pub read: u16,
}

/// MAXFRS, longest frame (section 8.2.3.22.13).
#[bitfield(u32)]
pub struct Maxfrs {
    __: u16,
    /// In bytes, CRC included; the MAC adds room for VLAN tags itself.
    pub bytes: u16,
}

/// AUTOC, link mode and autonegotiation (section 8.2.3.22.19), loaded from the EEPROM.
#[bitfield(u32)]
pub struct Autoc {
    /// Force the link up.
    pub force_link_up: bool,
    #[bits(6)]
    __: u8,
    /// 10G parallel interface: 0 XAUI, 1 KX4, 2 CX4.
    #[bits(2)]
    pub parallel_10g: u8,
    /// 1G interface: 0 SFI, 1 KX or BX.
    pub serial_1g: bool,
    #[bits(2)]
    __: u8,
    /// Restart autonegotiation, or the link; clears itself.
    pub restart: bool,
    /// Link mode select ([`LinkMode`](crate::link::LinkMode)).
    #[bits(3)]
    pub link_mode: u8,
    /// KR is advertised.
    pub kr: bool,
    #[bits(11)]
    __: u16,
    /// Symmetric pause is advertised.
    pub symmetric_pause: bool,
    /// Asymmetric pause is advertised.
    pub asymmetric_pause: bool,
    /// KX is advertised.
    pub kx: bool,
    /// KX4 is advertised.
    pub kx4: bool,
}

/// AUTOC2, serial interface (section 8.2.3.22.22), loaded from the EEPROM.
#[bitfield(u32)]
pub struct Autoc2 {
    __: u16,
    /// 10G serial interface: 0 KR, 1 XFI, 2 SFI.
    #[bits(2)]
    pub serial_10g: u8,
    #[bits(10)]
    __: u16,
    /// Reasons to keep the link down.
    #[bits(3)]
    pub link_disable: u8,
    __: bool,
}

/// PCS1GANA, what 1G autonegotiation advertises (section 8.2.3.22.4).
#[bitfield(u32)]
pub struct Pcs1gana {
    #[bits(7)]
    __: u8,
    /// Symmetric pause.
    pub symmetric_pause: bool,
    /// Asymmetric pause.
    pub asymmetric_pause: bool,
    #[bits(23)]
    __: u32,
}

/// LINKS, the link's state (section 8.2.3.22.20).
#[bitfield(u32)]
pub struct Links {
    #[bits(27)]
    __: u32,
    /// 2.5 or 5 Gbit/s instead of what the speed says (X550).
    pub non_standard: bool,
    /// 1 is 100 Mbit/s, 2 is 1 Gbit/s, 3 is 10 Gbit/s.
    #[bits(2)]
    pub speed: u8,
    /// Up.
    pub up: bool,
    /// Clause 73 autonegotiation ended.
    pub negotiated: bool,
}

/// MFLCN, MAC flow control (section 8.2.3.22.34).
#[bitfield(u32)]
pub struct Mflcn {
    /// Pass MAC control frames on.
    pub pass_control: bool,
    /// Discard pause frames.
    pub discard_pause: bool,
    /// Obey priority pause frames.
    pub receive_priority: bool,
    /// Obey pause frames.
    pub receive_pause: bool,
    #[bits(28)]
    __: u32,
}

/// FCCFG, which flow control to send (section 8.2.3.3.7).
#[bitfield(u32)]
pub struct Fccfg {
    #[bits(3)]
    __: u8,
    /// 0 none, 1 pause frames, 2 priority pause frames.
    #[bits(2)]
    pub transmit: u8,
    #[bits(27)]
    __: u32,
}

/// FCRTL, low threshold (section 8.2.3.3.3).
#[bitfield(u32)]
pub struct Fcrtl {
    #[bits(5)]
    __: u8,
    /// In units of 32 bytes.
    #[bits(14)]
    pub threshold: u16,
    #[bits(12)]
    __: u16,
    /// Send XON below the threshold.
    pub xon: bool,
}

/// FCRTH, high threshold (section 8.2.3.3.4).
#[bitfield(u32)]
pub struct Fcrth {
    #[bits(5)]
    __: u8,
    /// In units of 32 bytes.
    #[bits(14)]
    pub threshold: u16,
    #[bits(12)]
    __: u16,
    /// Send XOFF above the threshold.
    pub xoff: bool,
}

contents! {
    Hlreg0 => MacAddress::Hlreg0,
    Msca => MacAddress::Msca,
    Msrwd => MacAddress::Msrwd,
    Maxfrs => MacAddress::Maxfrs,
    Autoc => MacAddress::Autoc,
    Autoc2 => MacAddress::Autoc2,
    Pcs1gana => MacAddress::Pcs1gana,
    Links => LinkStatus::Links,
    Mflcn => MacAddress::Mflcn,
    Fccfg => Pause::Fccfg,
    Fcrtl => Pause::Fcrtl(n),
    Fcrth => Pause::Fcrth(n),
}

const _: () = {
    assert!(Hlreg0::new().with_jumbo(true).into_bits() == 4);
    assert!(Hlreg0::new().with_transmit_pad(true).into_bits() == 0x400);
    assert!(Hlreg0::new().with_loopback(true).into_bits() == 0x8000);
    assert!(Msca::new().with_operation(3).into_bits() == 0x0c00_0000);
    assert!(Msca::new().with_command(true).into_bits() == 0x4000_0000);
    assert!(Maxfrs::new().with_bytes(1518).into_bits() == 1518 << 16);
    assert!(Autoc::new().with_restart(true).into_bits() == 0x1000);
    assert!(Autoc::new().with_link_mode(3).into_bits() == 3 << 13);
    assert!(Autoc::new().with_kr(true).into_bits() == 0x0001_0000);
    assert!(Autoc::new().with_kx4(true).into_bits() == 0x8000_0000);
    assert!(Autoc::new().with_symmetric_pause(true).into_bits() == 0x1000_0000);
    assert!(Autoc2::new().with_link_disable(7).into_bits() == 0x7000_0000);
    assert!(Autoc2::new().with_serial_10g(2).into_bits() == 2 << 16);
    assert!(Links::new().with_up(true).into_bits() == 0x4000_0000);
    assert!(Links::new().with_speed(3).into_bits() == 0x3000_0000);
    assert!(Mflcn::new().with_receive_pause(true).into_bits() == 8);
    assert!(Fccfg::new().with_transmit(1).into_bits() == 8);
    assert!(Fcrth::new().with_threshold(0x3d00).into_bits() == 0x7a000);
};
