//! Contents of the transmit registers (sections 8.2.3.9 and 8.2.3.10).

use bitfield_struct::bitfield;

use crate::registers::contents;

/// DMATXCTL, DMA transmit control (section 8.2.3.9.2).
#[bitfield(u32)]
pub struct Dmatxctl {
    /// Transmit.
    pub enable: bool,
    #[bits(31)]
    __: u32,
}

/// DTXMXSZRQ, outstanding transmit reads (section 8.2.3.9.1).
#[bitfield(u32)]
pub struct Dtxmxszrq {
    /// In units of 256 bytes; 0xFFF without DCB.
    #[bits(12)]
    pub max_bytes: u16,
    #[bits(20)]
    __: u32,
}

/// RTTDCS, transmit descriptor plane control (section 8.2.3.10.2).
#[bitfield(u32)]
pub struct Rttdcs {
    #[bits(6)]
    __: u8,
    /// Hold the arbiter while MTQC and the buffers are set.
    pub arbiter_disable: bool,
    #[bits(25)]
    __: u32,
}

/// TXPBTHRESH, transmit packet buffer threshold (section 8.2.3.9.16).
#[bitfield(u32)]
pub struct Txpbthresh {
    /// In KiB.
    #[bits(10)]
    pub threshold_kib: u16,
    #[bits(22)]
    __: u32,
}

/// TXDCTL, transmit descriptor control (section 8.2.3.9.10).
#[bitfield(u32)]
pub struct Txdctl {
    /// Fetch when the cache holds fewer descriptors than this.
    #[bits(7)]
    pub prefetch: u8,
    __: bool,
    /// Fetch only when the host has at least this many.
    #[bits(7)]
    pub host: u8,
    __: bool,
    /// Write back this many at a time; 0 is each as it completes.
    #[bits(7)]
    pub write_back: u8,
    #[bits(2)]
    __: u8,
    /// The queue runs.
    pub enable: bool,
    /// Write back now what is complete; clears itself.
    pub flush: bool,
    #[bits(5)]
    __: u8,
}

/// DCA_TXCTRL, direct cache access (section 8.2.3.11.2).
#[bitfield(u32)]
pub struct DcaTxctrl {
    #[bits(11)]
    __: u16,
    /// Write-backs may overtake data reads; wrong with head write-back.
    pub write_back_relaxed_ordering: bool,
    #[bits(20)]
    __: u32,
}

contents! {
    Dmatxctl => Transmit::Dmatxctl,
    Dtxmxszrq => Transmit::Dtxmxszrq,
    Rttdcs => Transmit::Rttdcs,
    Txpbthresh => Transmit::Txpbthresh(n),
    Txdctl => TxQueue::Txdctl(q),
    DcaTxctrl => TxQueue::DcaTxctrl(q),
}

const _: () = {
    assert!(Dtxmxszrq::new().with_max_bytes(0xfff).into_bits() == 0xfff);
    assert!(Rttdcs::new().with_arbiter_disable(true).into_bits() == 0x40);
    assert!(Txdctl::new().with_host(8).into_bits() == 0x800);
    assert!(Txdctl::new().with_write_back(4).into_bits() == 0x4_0000);
    assert!(Txdctl::new().with_enable(true).into_bits() == 0x0200_0000);
    assert!(Txdctl::new().with_flush(true).into_bits() == 0x0400_0000);
};
