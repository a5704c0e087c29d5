//! Contents of the receive registers (sections 8.2.3.7, 8.2.3.8 and 8.2.3.12).

use bitfield_struct::bitfield;

use crate::registers::contents;

/// FCTRL, filter control (section 8.2.3.7.1). Only written while RXCTRL.RXEN is clear.
#[bitfield(u32)]
pub struct Fctrl {
    __: bool,
    /// Store bad frames.
    pub store_bad: bool,
    #[bits(6)]
    __: u8,
    /// Every multicast.
    pub multicast_promiscuous: bool,
    /// Every unicast.
    pub unicast_promiscuous: bool,
    /// Broadcasts.
    pub broadcast: bool,
    #[bits(21)]
    __: u32,
}

/// VLNCTRL, VLAN control (section 8.2.3.7.2).
#[bitfield(u32)]
pub struct Vlnctrl {
    /// EtherType of a VLAN tag, 0x8100.
    pub ether_type: u16,
    #[bits(12)]
    __: u16,
    /// The CFI bit a tag must have if [`cfi_enable`](Self::cfi_enable).
    pub cfi: bool,
    /// Filter by the CFI bit.
    pub cfi_enable: bool,
    /// Accept only VLANs of VFTA.
    pub filter_enable: bool,
    __: bool,
}

/// MCSTCTRL, multicast control (section 8.2.3.7.3).
#[bitfield(u32)]
pub struct Mcstctrl {
    /// Which twelve bits of an address index MTA; 0 is bits 47:36.
    #[bits(2)]
    pub offset: u8,
    /// Accept what MTA names.
    pub filter_enable: bool,
    #[bits(29)]
    __: u32,
}

/// RXCSUM, receive checksum control (section 8.2.3.7.5).
#[bitfield(u32)]
pub struct Rxcsum {
    #[bits(12)]
    __: u16,
    /// Checksum fragments' payload.
    pub fragment_checksum: bool,
    /// The descriptor has the RSS hash, not the fragment checksum.
    pub rss_hash: bool,
    #[bits(18)]
    __: u32,
}

/// RFCTL, receive filter control (section 8.2.3.7.6).
#[bitfield(u32)]
pub struct Rfctl {
    #[bits(5)]
    __: u8,
    /// No receive coalescing at all.
    pub coalescing_disable: bool,
    #[bits(26)]
    __: u32,
}

/// RAH, receive address high (section 8.2.3.7.9).
#[bitfield(u32)]
pub struct Rah {
    /// The last two octets.
    pub address: u16,
    #[bits(15)]
    __: u16,
    /// The pair is in use.
    pub valid: bool,
}

/// MRQC, multiple receive queues command (section 8.2.3.7.12).
#[bitfield(u32)]
pub struct Mrqc {
    /// 0 is off, 1 is RSS alone.
    #[bits(4)]
    pub mode: u8,
    #[bits(12)]
    __: u16,
    /// Hash TCP over IPv4.
    pub tcp_ipv4: bool,
    /// Hash IPv4.
    pub ipv4: bool,
    #[bits(2)]
    __: u8,
    /// Hash IPv6.
    pub ipv6: bool,
    /// Hash TCP over IPv6.
    pub tcp_ipv6: bool,
    /// Hash UDP over IPv4.
    pub udp_ipv4: bool,
    /// Hash UDP over IPv6.
    pub udp_ipv6: bool,
    __: u8,
}

/// FTQF, five-tuple queue filter (section 8.2.3.7.19); only ever turned off here.
#[bitfield(u32)]
pub struct Ftqf {
    #[bits(31)]
    __: u32,
    /// The filter is in use.
    pub enable: bool,
}

/// ETQF, EtherType queue filter (section 8.2.3.7.21); only ever turned off here.
#[bitfield(u32)]
pub struct Etqf {
    #[bits(31)]
    __: u32,
    /// The filter is in use.
    pub enable: bool,
}

/// RDRXCTL, receive DMA control (section 8.2.3.8.8).
#[bitfield(u32)]
pub struct Rdrxctl {
    __: bool,
    /// Strip the CRC; must equal HLREG0.RXCRCSTRP.
    pub strip_crc: bool,
    __: bool,
    /// The DMA unit is initialised.
    pub dma_init_done: bool,
    #[bits(13)]
    __: u16,
    /// Set to zero by software (section 4.6.7).
    #[bits(5)]
    pub coalescing_first_size: u8,
    #[bits(3)]
    __: u8,
    /// Set to one by software.
    pub coalescing_ack: bool,
    /// Set to one by software.
    pub fcoe_write_fix: bool,
    #[bits(5)]
    __: u8,
}

/// RXCTRL, receive control (section 8.2.3.8.10).
#[bitfield(u32)]
pub struct Rxctrl {
    /// Receive.
    pub enable: bool,
    #[bits(31)]
    __: u32,
}

/// SECRXCTRL, security receive control (section 8.2.3.12.5).
#[bitfield(u32)]
pub struct Secrxctrl {
    /// No security engine.
    pub engine_disable: bool,
    /// Hold frames back before the filters.
    pub receive_disable: bool,
    #[bits(30)]
    __: u32,
}

/// SECRXSTAT, security receive status (section 8.2.3.12.6).
#[bitfield(u32)]
pub struct Secrxstat {
    /// The receive path is empty.
    pub ready: bool,
    #[bits(31)]
    __: u32,
}

/// SRRCTL, buffer size and descriptor type (section 8.2.3.8.7).
#[bitfield(u32)]
pub struct Srrctl {
    /// Buffer size in KiB, 1 to 16.
    #[bits(5)]
    pub buffer_kib: u8,
    #[bits(3)]
    __: u8,
    /// Header buffer size in 64-byte units.
    #[bits(6)]
    pub header_size: u8,
    #[bits(8)]
    __: u8,
    /// Interrupt below this many 64 descriptors.
    #[bits(3)]
    pub minimum_threshold: u8,
    /// 1 is advanced, one buffer.
    #[bits(3)]
    pub descriptor_type: u8,
    /// Drop frames when no descriptor is left, instead of holding up the other queues.
    pub drop_enable: bool,
    #[bits(3)]
    __: u8,
}

/// RXDCTL, receive descriptor control (section 8.2.3.8.6).
#[bitfield(u32)]
pub struct Rxdctl {
    #[bits(25)]
    __: u32,
    /// The queue runs.
    pub enable: bool,
    #[bits(4)]
    __: u8,
    /// Strip VLAN tags.
    pub strip_vlan: bool,
    __: bool,
}

/// DCA_RXCTRL, direct cache access (section 8.2.3.11.1).
#[bitfield(u32)]
pub struct DcaRxctrl {
    #[bits(12)]
    __: u16,
    /// Reserved, set by reset, and to be cleared by software (section 4.6.7).
    pub reserved_12: bool,
    #[bits(19)]
    __: u32,
}

contents! {
    Fctrl => Filter::Fctrl,
    Vlnctrl => Filter::Vlnctrl,
    Mcstctrl => Filter::Mcstctrl,
    Rxcsum => Filter::Rxcsum,
    Rfctl => Filter::Rfctl,
    Rah => Filter::Rah(n),
    Mrqc => Filter::Mrqc,
    Ftqf => Filter::Ftqf(n),
    Etqf => Filter::Etqf(n),
    Rdrxctl => Receive::Rdrxctl,
    Rxctrl => Receive::Rxctrl,
    Secrxctrl => Receive::Secrxctrl,
    Secrxstat => ReceiveStatus::Secrxstat,
    Srrctl => RxQueue::Srrctl(q),
    Rxdctl => RxQueue::Rxdctl(q),
    DcaRxctrl => RxQueue::DcaRxctrl(q),
}

const _: () = {
    assert!(Fctrl::new().with_multicast_promiscuous(true).into_bits() == 0x100);
    assert!(Fctrl::new().with_broadcast(true).into_bits() == 0x400);
    assert!(Vlnctrl::new().with_filter_enable(true).into_bits() == 1 << 30);
    assert!(Mcstctrl::new().with_filter_enable(true).into_bits() == 4);
    assert!(Rxcsum::new().with_rss_hash(true).into_bits() == 0x2000);
    assert!(Rah::new().with_valid(true).into_bits() == 1 << 31);
    assert!(Mrqc::new().with_tcp_ipv4(true).into_bits() == 0x0001_0000);
    assert!(Mrqc::new().with_ipv6(true).into_bits() == 0x0010_0000);
    assert!(Mrqc::new().with_udp_ipv6(true).into_bits() == 0x0080_0000);
    assert!(Rdrxctl::new().with_dma_init_done(true).into_bits() == 8);
    assert!(Rdrxctl::new().with_coalescing_first_size(0x1f).into_bits() == 0x003e_0000);
    assert!(Rdrxctl::new().with_coalescing_ack(true).into_bits() == 0x0200_0000);
    assert!(Rdrxctl::new().with_fcoe_write_fix(true).into_bits() == 0x0400_0000);
    assert!(Srrctl::new().with_descriptor_type(1).into_bits() == 0x0200_0000);
    assert!(Srrctl::new().with_drop_enable(true).into_bits() == 0x1000_0000);
    assert!(Srrctl::new().with_header_size(4).into_bits() == 0x0000_0400);
    assert!(Rxdctl::new().with_enable(true).into_bits() == 0x0200_0000);
    assert!(Rxdctl::new().with_strip_vlan(true).into_bits() == 0x4000_0000);
    assert!(DcaRxctrl::new().with_reserved_12(true).into_bits() == 1 << 12);
};
