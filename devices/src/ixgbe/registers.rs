//! The 82599's register map, written from the datasheet (section 8.2.3): offsets, fields, which
//! bits are reserved, and what a register holds after a reset.
//!
//! Invariant: [`decode`] names every offset that has a meaning of its own; all others are plain
//! storage inside the BAR.

/// Length of BAR 0 in bytes.
pub const BAR_BYTES: u32 = 512 * 1024;
/// Receive (and transmit) queues.
pub const QUEUES: usize = 128;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*
    };
}

offsets! {
    /// Device control (8.2.3.1.1).
    CTRL = 0x0_0000;
    /// The same, at its second address.
    CTRL_ALIAS = 0x0_0004;
    /// Device status (8.2.3.1.2).
    STATUS = 0x0_0008;
    /// Extended device control (8.2.3.1.3).
    CTRL_EXT = 0x0_0018;
    /// Software definable pins (8.2.3.1.4).
    ESDP = 0x0_0020;
    /// I2C by hand (8.2.3.1.5).
    I2CCTL = 0x0_0028;
    /// LED control (8.2.3.1.6).
    LEDCTL = 0x0_0200;
    /// Extended interrupt cause (8.2.3.5.1).
    EICR = 0x0_0800;
    /// Extended interrupt cause set (8.2.3.5.2).
    EICS = 0x0_0808;
    /// Extended interrupt auto clear (8.2.3.5.5).
    EIAC = 0x0_0810;
    /// Extended interrupt mask set and read (8.2.3.5.3).
    EIMS = 0x0_0880;
    /// Extended interrupt mask clear (8.2.3.5.4).
    EIMC = 0x0_0888;
    /// Extended interrupt auto mask (8.2.3.5.6).
    EIAM = 0x0_0890;
    /// Interrupt vector allocation, 64 registers (8.2.3.5.16).
    IVAR = 0x0_0900;
    /// Interrupt vector allocation of what is no queue's (8.2.3.5.17).
    IVAR_MISC = 0x0_0A00;
    /// General purpose interrupt enable (8.2.3.5.18).
    GPIE = 0x0_0898;
    /// Extended interrupt cause set 1 and 2 (8.2.3.5.7).
    EICS_EX = 0x0_0A90;
    /// Extended interrupt mask set 1 and 2 (8.2.3.5.8).
    EIMS_EX = 0x0_0AA0;
    /// Extended interrupt mask clear 1 and 2 (8.2.3.5.9).
    EIMC_EX = 0x0_0AB0;
    /// Extended interrupt auto mask 1 and 2 (8.2.3.5.10).
    EIAM_EX = 0x0_0AD0;
    /// Split receive control, queues 0 to 63 at steps of 64 bytes (8.2.3.8.7).
    SRRCTL = 0x0_1014;
    /// The same, queues 0 to 15 at their older address.
    SRRCTL_LOW = 0x0_2100;
    /// Receive queue statistics mapping, 32 registers (8.2.3.23.71).
    RQSMR = 0x0_2300;
    /// Receive DMA control (8.2.3.8.8).
    RDRXCTL = 0x0_2F00;
    /// Flow control receive threshold low, 8 registers (8.2.3.3.3).
    FCRTL = 0x0_3220;
    /// Flow control receive threshold high, 8 registers (8.2.3.3.4).
    FCRTH = 0x0_3260;
    /// Receive control (8.2.3.8.10).
    RXCTRL = 0x0_3000;
    /// Receive packet buffer size, 8 registers (8.2.3.8.9).
    RXPBSIZE = 0x0_3C00;
    /// MAC core control 0 (8.2.3.22.8).
    HLREG0 = 0x0_4240;
    /// MDI single command and address (8.2.3.22.11).
    MSCA = 0x0_425C;
    /// MDI single read and write data (8.2.3.22.12).
    MSRWD = 0x0_4260;
    /// Maximum frame size (8.2.3.22.13).
    MAXFRS = 0x0_4268;
    /// MAC flow control (8.2.3.22.34).
    MFLCN = 0x0_4294;
    /// Autonegotiation control (8.2.3.22.19).
    AUTOC = 0x0_42A0;
    /// Link status (8.2.3.22.20).
    LINKS = 0x0_42A4;
    /// Autonegotiation control 2 (8.2.3.22.22).
    AUTOC2 = 0x0_42A8;
    /// Autonegotiation link partner (8.2.3.22.23).
    ANLP1 = 0x0_42B0;
    /// Link status 2 (8.2.3.22.21).
    LINKS2 = 0x0_4324;
    /// Descriptor plane arbiter (8.2.3.10.2).
    RTTDCS = 0x0_4900;
    /// Transmit DMA control (8.2.3.9.2).
    DMATXCTL = 0x0_4A80;
    /// Receive checksum control (8.2.3.7.5).
    RXCSUM = 0x0_5000;
    /// Multicast table, 128 registers (8.2.3.7.7).
    MTA = 0x0_5200;
    /// Receive address low, 128 pairs here (8.2.3.7.8).
    RAL_LOW = 0x0_5400;
    /// Filter control (8.2.3.7.1).
    FCTRL = 0x0_5080;
    /// VLAN control (8.2.3.7.2).
    VLNCTRL = 0x0_5088;
    /// Multicast control (8.2.3.7.3).
    MCSTCTRL = 0x0_5090;
    /// Multiple receive queues command (8.2.3.7.12).
    MRQC = 0x0_5818;
    /// Redirection table, 32 registers (8.2.3.7.15).
    RETA = 0x0_5C00;
    /// RSS random key, 10 registers (8.2.3.7.14).
    RSSRK = 0x0_5C80;
    /// Multiple transmit queues command (8.2.3.9.15).
    MTQC = 0x0_8120;
    /// Transmit queue statistics mapping, 32 registers (8.2.3.23.73).
    TQSM = 0x0_8600;
    /// Security transmit status (8.2.3.12.2).
    SECTXSTAT = 0x0_8804;
    /// Security receive control (8.2.3.12.5).
    SECRXCTRL = 0x0_8D00;
    /// Security receive status (8.2.3.12.6).
    SECRXSTAT = 0x0_8D04;
    /// VLAN table, 128 registers (8.2.3.7.11).
    VFTA = 0x0_A000;
    /// Receive address low and high, 128 pairs (8.2.3.7.8, 8.2.3.7.9).
    RAL = 0x0_A200;
    /// Pool select of receive addresses, 256 registers (8.2.3.7.10).
    MPSAR = 0x0_A600;
    /// Transmit packet buffer size, 8 registers (8.2.3.9.13).
    TXPBSIZE = 0x0_CC00;
    /// Unicast table, 128 registers (8.2.3.27.17).
    UTA = 0x0_F400;
    /// EEPROM and flash control (8.2.3.2.1).
    EEC = 0x1_0010;
    /// EEPROM read (8.2.3.2.2).
    EERD = 0x1_0014;
    /// Flash access (8.2.3.2.3).
    FLA = 0x1_001C;
    /// Software semaphore (8.2.3.4.9).
    SWSM = 0x1_0140;
    /// Firmware semaphore (8.2.3.4.10).
    FWSM = 0x1_0148;
    /// Function active and power state (8.2.3.1.7).
    FACTPS = 0x1_0150;
    /// Software and firmware synchronisation (8.2.3.4.11).
    SWFW_SYNC = 0x1_0160;
}

/// SWFW_SYNC bits 9:5: firmware holds the resource.
pub const SWFW_SYNC_FIRMWARE: u32 = 0x1F << 5;
/// CTRL bit 2: stop mastering PCIe.
pub const CTRL_GIO_DISABLE: u32 = 1 << 2;
/// CTRL bit 3: link reset.
pub const CTRL_LINK_RESET: u32 = 1 << 3;
/// CTRL bit 26: device reset.
pub const CTRL_RESET: u32 = 1 << 26;
/// STATUS bit 19: the device is PCIe master.
pub const STATUS_GIO_MASTER: u32 = 1 << 19;
/// LINKS bit 30: the link is up.
pub const LINKS_UP: u32 = 1 << 30;
/// RXDCTL and TXDCTL bit 25: queue enable.
pub const QUEUE_ENABLE: u32 = 1 << 25;
/// RXDCTL and TXDCTL bit 26: write back what is done; clears itself.
pub const TXDCTL_FLUSH: u32 = 1 << 26;
/// RXDCTL bit 30: strip VLAN tags.
pub const RXDCTL_VLAN_STRIP: u32 = 1 << 30;
/// RXCTRL bit 0: receive enable.
pub const RXCTRL_ENABLE: u32 = 1;
/// DMATXCTL bit 0: transmit enable.
pub const DMATXCTL_ENABLE: u32 = 1;
/// HLREG0 bit 1: strip the frame check sequence.
pub const HLREG0_CRC_STRIP: u32 = 1 << 1;
/// HLREG0 bit 2: jumbo frames.
pub const HLREG0_JUMBO: u32 = 1 << 2;
/// HLREG0 bit 10: pad short frames on transmit.
pub const HLREG0_PAD: u32 = 1 << 10;
/// HLREG0 bit 15: what is sent is received.
pub const HLREG0_LOOPBACK: u32 = 1 << 15;
/// SRRCTL bit 28: a frame without a descriptor is dropped.
pub const SRRCTL_DROP: u32 = 1 << 28;
/// RDRXCTL bit 1: strip the frame check sequence.
pub const RDRXCTL_CRC_STRIP: u32 = 1 << 1;
/// RDRXCTL bit 3: DMA initialisation done.
pub const RDRXCTL_DMA_INIT_DONE: u32 = 1 << 3;
/// FCTRL bit 1: store bad packets.
pub const FCTRL_STORE_BAD: u32 = 1 << 1;
/// FCTRL bit 8: accept all multicast.
pub const FCTRL_MULTICAST: u32 = 1 << 8;
/// FCTRL bit 9: accept all unicast.
pub const FCTRL_UNICAST: u32 = 1 << 9;
/// FCTRL bit 10: accept broadcast.
pub const FCTRL_BROADCAST: u32 = 1 << 10;
/// Bits of FCTRL that mean something. Bits 12 and 13 did in the 82598 (control and pause frames), moved
/// to MFLCN, and are still set by drivers for both.
const FCTRL_KNOWN: u32 =
    FCTRL_STORE_BAD | FCTRL_MULTICAST | FCTRL_UNICAST | FCTRL_BROADCAST | 3 << 12;
/// VLNCTRL bit 30: filter VLANs.
pub const VLNCTRL_FILTER: u32 = 1 << 30;
/// RXCSUM bit 13: the descriptor carries the RSS hash instead of the fragment checksum.
pub const RXCSUM_HASH: u32 = 1 << 13;
/// MCSTCTRL bit 2: the multicast table is in use.
pub const MCSTCTRL_ENABLE: u32 = 1 << 2;
/// RAH bit 31: the address is valid.
pub const RAH_VALID: u32 = 1 << 31;
/// AUTOC bit 12: restart autonegotiation.
pub const AUTOC_RESTART: u32 = 1 << 12;
/// MSCA bit 30: a command is under way.
pub const MSCA_COMMAND: u32 = 1 << 30;
/// EERD bit 0: start.
pub const EERD_START: u32 = 1;
/// EERD bit 1: done.
pub const EERD_DONE: u32 = 1 << 1;
/// EEC bit 6: software asks for the EEPROM's pins.
pub const EEC_REQUEST: u32 = 1 << 6;
/// EEC bit 7: granted.
pub const EEC_GRANT: u32 = 1 << 7;
/// GPIE bit 4: MSI-X, with a vector for each cause.
pub const GPIE_MSIX: u32 = 1 << 4;
/// GPIE bit 5: reading EICR clears bits 29:16 only.
pub const GPIE_OCD: u32 = 1 << 5;
/// GPIE bit 6: EICS is not subject to EITR.
pub const GPIE_EIMEN: u32 = 1 << 6;
/// GPIE bit 30: EIAM masks when a message is sent, not when EICR is accessed.
pub const GPIE_EIAME: u32 = 1 << 30;
/// EICR bit 17: a receive packet buffer overran.
pub const EICR_MISSED: u32 = 1 << 17;
/// EICR bit 20: the link changed.
pub const EICR_LINK: u32 = 1 << 20;
/// ESDP bit 2: level of SDP2, which is high while there is a module in the cage.
pub const ESDP_MODULE: u32 = 1 << 2;
/// RTTDCS bit 6: the descriptor arbiter is disabled.
pub const RTTDCS_ARBITER_OFF: u32 = 1 << 6;

/// WTHRESH of a TXDCTL (bits 22:16): how many descriptors are written back together.
pub const fn txdctl_write_back(txdctl: u32) -> u32 {
    txdctl >> 16 & 0x7F
}

/// A register of a receive or transmit queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueRegister {
    /// RDBAL, TDBAL: ring base, low word.
    BaseLow,
    /// RDBAH, TDBAH: ring base, high word.
    BaseHigh,
    /// RDLEN, TDLEN: ring length in bytes.
    Length,
    /// RDH, TDH: head.
    Head,
    /// RDT, TDT: tail.
    Tail,
    /// RXDCTL, TXDCTL: queue control.
    Control,
    /// SRRCTL: buffer sizes and descriptor type; receive only.
    Buffers,
    /// TDWBAL: head write-back address, low word; transmit only.
    WriteBackLow,
    /// TDWBAH: its high word; transmit only.
    WriteBackHigh,
}

/// What an offset means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A receive queue's register.
    Receive(usize, QueueRegister),
    /// A transmit queue's register.
    Transmit(usize, QueueRegister),
    /// Anything else, at its canonical offset.
    Other(u32),
}

/// Whether the register at `offset` is a TXDCTL.
pub fn is_transmit_control(offset: u32) -> bool {
    matches!(decode(offset), Place::Transmit(_, QueueRegister::Control))
}

/// Names the register at byte `offset`.
pub fn decode(offset: u32) -> Place {
    match offset {
        0x1000..0x2000 => receive(offset - 0x1000, 0, offset),
        0xD000..0xE000 => receive(offset - 0xD000, 64, offset),
        0x6000..0x8000 => transmit(offset - 0x6000, offset),
        SRRCTL_LOW..0x2140 => {
            Place::Receive(((offset - SRRCTL_LOW) / 4) as usize, QueueRegister::Buffers)
        }
        // The first 16 receive addresses have an older address, too.
        RAL..0xA280 => Place::Other(RAL_LOW + (offset - RAL)),
        CTRL_ALIAS => Place::Other(CTRL),
        _ => Place::Other(offset),
    }
}

fn receive(relative: u32, first: usize, offset: u32) -> Place {
    let register = match relative % 0x40 {
        0x00 => QueueRegister::BaseLow,
        0x04 => QueueRegister::BaseHigh,
        0x08 => QueueRegister::Length,
        0x10 => QueueRegister::Head,
        0x14 => QueueRegister::Buffers,
        0x18 => QueueRegister::Tail,
        0x28 => QueueRegister::Control,
        _ => return Place::Other(offset),
    };
    Place::Receive(first + (relative / 0x40) as usize, register)
}

fn transmit(relative: u32, offset: u32) -> Place {
    let register = match relative % 0x40 {
        0x00 => QueueRegister::BaseLow,
        0x04 => QueueRegister::BaseHigh,
        0x08 => QueueRegister::Length,
        0x10 => QueueRegister::Head,
        0x18 => QueueRegister::Tail,
        0x28 => QueueRegister::Control,
        0x38 => QueueRegister::WriteBackLow,
        0x3C => QueueRegister::WriteBackHigh,
        _ => return Place::Other(offset),
    };
    Place::Transmit((relative / 0x40) as usize, register)
}

/// Byte offset of a receive queue's register.
pub const fn receive_offset(queue: usize, register: QueueRegister) -> u32 {
    if queue < 16 && matches!(register, QueueRegister::Buffers) {
        return SRRCTL_LOW + 4 * queue as u32;
    }
    let base = if queue < 64 {
        0x1000 + 0x40 * queue as u32
    } else {
        0xD000 + 0x40 * (queue as u32 - 64)
    };
    base + match register {
        QueueRegister::BaseLow => 0x00,
        QueueRegister::BaseHigh => 0x04,
        QueueRegister::Length => 0x08,
        QueueRegister::Head => 0x10,
        QueueRegister::Buffers => 0x14,
        QueueRegister::Tail => 0x18,
        QueueRegister::Control | QueueRegister::WriteBackLow | QueueRegister::WriteBackHigh => 0x28,
    }
}

/// Byte offset of EITR of vector `vector` (8.2.3.5.12).
pub const fn eitr(vector: u32) -> u32 {
    if vector < 24 {
        0x820 + 4 * vector
    } else {
        0x1_2300 + 4 * (vector - 24)
    }
}

/// Byte offset of receive address `index`'s low word; the high word follows.
pub const fn receive_address(index: u32) -> u32 {
    if index < 16 {
        RAL_LOW + 8 * index
    } else {
        RAL + 8 * index
    }
}

/// Byte offset of a transmit queue's register.
pub const fn transmit_offset(queue: usize, register: QueueRegister) -> u32 {
    0x6000
        + 0x40 * queue as u32
        + match register {
            QueueRegister::BaseLow => 0x00,
            QueueRegister::BaseHigh => 0x04,
            QueueRegister::Length => 0x08,
            QueueRegister::Head => 0x10,
            QueueRegister::Tail => 0x18,
            QueueRegister::Control | QueueRegister::Buffers => 0x28,
            QueueRegister::WriteBackLow => 0x38,
            QueueRegister::WriteBackHigh => 0x3C,
        }
}

/// Bits of the register at `place` that software must leave alone: set, they are a violation.
pub fn reserved(place: Place) -> u32 {
    match place {
        Place::Receive(_, register) => match register {
            QueueRegister::Length => 0xFFF0_0000,
            QueueRegister::Head | QueueRegister::Tail => 0xFFFF_0000,
            // Bit 26 is SWFLSH to Intel's own drivers, as in TXDCTL.
            QueueRegister::Control => 0xB9FF_FFFF & !0x0000_FFFF,
            QueueRegister::Buffers => 0xE03F_C0E0,
            _ => 0,
        },
        Place::Transmit(_, register) => match register {
            QueueRegister::Length => 0xFFF0_0000,
            QueueRegister::Head | QueueRegister::Tail => 0xFFFF_0000,
            QueueRegister::Control => 0xF980_8080,
            QueueRegister::WriteBackLow => 0x0000_0002,
            _ => 0,
        },
        Place::Other(offset) => match offset {
            CTRL => !(CTRL_GIO_DISABLE | CTRL_LINK_RESET | CTRL_RESET),
            // Bit 1 was the descriptor monitor's bypass in the 82598.
            RXCTRL => !(RXCTRL_ENABLE | 1 << 1),
            FCTRL => !FCTRL_KNOWN,
            VLNCTRL => 0x8FFF_0000,
            DMATXCTL => 0x0000_FFF2,
            RXCSUM => !0x0000_3000,
            MAXFRS => 0x0000_FFFF,
            MCSTCTRL => !0x0000_0007,
            _ => 0,
        },
    }
}

/// Bits of the register at `place` that hold what is written: all others read zero, whatever was
/// written there, as the datasheet has it of the low bits of a ring's base and length.
pub fn kept(place: Place) -> u32 {
    let receives = matches!(place, Place::Receive(..));
    match place {
        Place::Receive(_, register) | Place::Transmit(_, register) => match register {
            QueueRegister::BaseLow => 0xFFFF_FF80,
            QueueRegister::Length => 0x000F_FF80,
            QueueRegister::Head | QueueRegister::Tail => 0x0000_FFFF,
            // Receive descriptors are written back at once.
            QueueRegister::Control if receives => !TXDCTL_FLUSH,
            _ => u32::MAX,
        },
        Place::Other(offset) => match offset {
            // Bit 4 is kept though its field begins at bit 5.
            FCRTL..0x3240 | FCRTH..0x3280 => 0x8007_FFF0,
            RAL_LOW..0x5480 | RAL..0xA600 if offset & 4 != 0 => RAH_VALID | 0xFFFF,
            // This device has no firmware: what seems held by it, by a fault, is not because a driver
            // writes back what it read.
            SWFW_SYNC => !SWFW_SYNC_FIRMWARE,
            _ => u32::MAX,
        },
    }
}

/// Registers that are not zero after a reset, with their value (section 8.2.3; where a value comes
/// from the EEPROM, what Intel's own images load).
pub const RESET_VALUES: &[(u32, u32)] = &[
    (ESDP, 0x0000_0000),
    (EEC, 0x0000_0310 | 4 << 11),
    (FLA, 0x0000_0000),
    (HLREG0, 0x0801_0C07 & !HLREG0_JUMBO),
    (MAXFRS, 1518 << 16),
    (RDRXCTL, 0x0000_8800 | RDRXCTL_DMA_INIT_DONE),
    (SECRXSTAT, 1),
    (SECTXSTAT, 1),
    (DMATXCTL, 0x8100_0004),
    (VLNCTRL, 0x0000_8100),
    (MRQC, 0),
    (FWSM, 0x0000_0004 | 1 << 15),
    (RXPBSIZE, 512 << 10),
    (TXPBSIZE, 160 << 10),
    (ANLP1, 0x0001_0000),
    (MSRWD, 0xFFFF_FFFF),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_registers_decode_to_where_they_are() {
        use QueueRegister::*;
        for queue in 0..QUEUES {
            for register in [BaseLow, BaseHigh, Length, Head, Tail, Control, Buffers] {
                let offset = receive_offset(queue, register);
                assert_eq!(
                    decode(offset),
                    Place::Receive(queue, register),
                    "{offset:#x}"
                );
            }
            for register in [
                BaseLow,
                Length,
                Head,
                Tail,
                Control,
                WriteBackLow,
                WriteBackHigh,
            ] {
                let offset = transmit_offset(queue, register);
                assert_eq!(
                    decode(offset),
                    Place::Transmit(queue, register),
                    "{offset:#x}"
                );
            }
        }
    }

    #[test]
    fn second_addresses_reach_the_same_register() {
        assert_eq!(decode(0x1054), Place::Receive(1, QueueRegister::Buffers));
        assert_eq!(decode(0xA204), Place::Other(receive_address(0) + 4));
        assert_eq!(decode(0xA280), Place::Other(receive_address(16)));
        assert_eq!(decode(CTRL_ALIAS), Place::Other(CTRL));
    }

    #[test]
    fn no_reset_value_sets_a_reserved_bit_of_its_register() {
        for &(offset, value) in RESET_VALUES {
            assert_eq!(value & reserved(decode(offset)), 0, "{offset:#x}");
        }
    }
}
