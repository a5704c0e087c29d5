//! Where every register is: byte offsets in BAR 0, by family and access (section 8.2.2).
//!
//! Receive queues come in two blocks, 0 to 63 at 0x1000 and 64 to 127 at 0xD000. Where the datasheet
//! gives a register a second address from the 82598's time (MRQC, RETA, RSSRK, RAL, QPTC), that is
//! the one used here, because every X540 and X550 has it too.

use sumac_device::register_offsets;

/// Base of a receive queue's registers (section 8.2.3.8).
const fn rx_queue_base(q: u32) -> u32 {
    if q < 64 {
        0x1000 + 0x40 * q
    } else {
        0xd000 + 0x40 * (q - 64)
    }
}

/// Base of a transmit queue's registers (section 8.2.3.9).
const fn tx_queue_base(q: u32) -> u32 {
    0x6000 + 0x40 * q
}

/// Base of a receive address's pair of registers (section 8.2.3.7.8).
const fn receive_address_base(n: u32) -> u32 {
    if n < 16 {
        0x5400 + 8 * n
    } else {
        0xa200 + 8 * n
    }
}

register_offsets! {
    /// General, EEPROM and PCIe registers.
    pub enum General: read write {
        /// CTRL, device control (section 8.2.3.1.1).
        Ctrl = 0x00000,
        /// CTRL_EXT, extended device control (section 8.2.3.1.3).
        CtrlExt = 0x00018,
        /// ESDP, software-definable pins (section 8.2.3.1.4).
        Esdp = 0x00020,
        /// I2CCTL, the SFP+ module's two wires (section 8.2.3.1.5).
        I2cctl = 0x00028,
        /// EEC, EEPROM and flash control (section 8.2.3.2.1).
        Eec = 0x10010,
        /// EERD, EEPROM read (section 8.2.3.2.2).
        Eerd = 0x10014,
        /// SWSM, software semaphore (section 8.2.3.4.9).
        Swsm = 0x10140,
        /// SW_FW_SYNC, resources shared with firmware (section 8.2.3.4.11).
        SwFwSync = 0x10160,
        /// GCR_EXT, PCIe control extended (section 8.2.3.4.12).
        GcrExt = 0x11050,
    }
}

register_offsets! {
    /// Registers that only tell.
    pub enum GeneralStatus: read {
        /// STATUS, device status (section 8.2.3.1.2).
        Status = 0x00008,
        /// FWSM, firmware semaphore (section 8.2.3.4.10).
        Fwsm = 0x10148,
        /// EICR, interrupt causes; cleared by reading (section 8.2.3.5.1).
        Eicr = 0x00800,
    }
}

register_offsets! {
    /// Interrupt masks that are only written.
    pub enum InterruptMask: write {
        /// EIMC, interrupt mask clear (section 8.2.3.5.4).
        Eimc = 0x00888,
        /// EIMC1 and EIMC2, mask clear of the queue causes (section 8.2.3.5.9).
        EimcQueues(n: 2) = 0x00ab0 + 4 * n,
    }
}

register_offsets! {
    /// What unmasks queues' interrupts.
    pub enum InterruptArm: write {
        /// EIMS1 and EIMS2, mask set of the queue causes (section 8.2.3.5.8).
        EimsQueues(n: 2) = 0x00aa0 + 4 * n,
    }
}

register_offsets! {
    /// Which vector has what, how often it is sent, and what it masks and clears.
    pub enum InterruptVectors: read write {
        /// EIAC, causes that clear themselves when their message is sent (section 8.2.3.5.5).
        Eiac = 0x00810,
        /// EIAM1 and EIAM2, queue causes that mask themselves (section 8.2.3.5.10).
        EiamQueues(n: 2) = 0x00ad0 + 4 * n,
        /// EITR, throttling of vectors 0 to 23 (section 8.2.3.5.12).
        Eitr(n: 24) = 0x00820 + 4 * n,
        /// EITR of vectors 24 to 127.
        EitrHigh(n: 104) = 0x12300 + 4 * n,
        /// IVAR, vectors of two receive and two transmit queues each (section 8.2.3.5.16).
        Ivar(n: 64) = 0x00900 + 4 * n,
        /// IVAR_MISC, vectors of the timer and of everything else (section 8.2.3.5.17).
        IvarMisc = 0x00a00,
    }
}

register_offsets! {
    /// Interrupt configuration.
    pub enum Interrupt: read write {
        /// EIMS, interrupt mask set and read (section 8.2.3.5.3).
        Eims = 0x00880,
        /// GPIE, general-purpose interrupt enable (section 8.2.3.5.18).
        Gpie = 0x00898,
    }
}

register_offsets! {
    /// Flow control (section 8.2.3.3).
    pub enum Pause: read write {
        /// FCTTV, pause time, two traffic classes each (section 8.2.3.3.2).
        Fcttv(n: 4) = 0x03200 + 4 * n,
        /// FCRTL, low threshold (section 8.2.3.3.3).
        Fcrtl(n: 8) = 0x03220 + 4 * n,
        /// FCRTH, high threshold (section 8.2.3.3.4).
        Fcrth(n: 8) = 0x03260 + 4 * n,
        /// FCRTV, refresh (section 8.2.3.3.5).
        Fcrtv = 0x032a0,
        /// FCCFG, which flow control to send (section 8.2.3.3.7).
        Fccfg = 0x03d00,
    }
}

register_offsets! {
    /// Receive filters and offloads (section 8.2.3.7).
    pub enum Filter: read write {
        /// RXCSUM, receive checksum control (section 8.2.3.7.5).
        Rxcsum = 0x05000,
        /// RFCTL, receive filter control (section 8.2.3.7.6).
        Rfctl = 0x05008,
        /// FCTRL, filter control (section 8.2.3.7.1).
        Fctrl = 0x05080,
        /// VLNCTRL, VLAN control (section 8.2.3.7.2).
        Vlnctrl = 0x05088,
        /// MCSTCTRL, multicast control (section 8.2.3.7.3).
        Mcstctrl = 0x05090,
        /// MTA, multicast table (section 8.2.3.7.7).
        Mta(n: 128) = 0x05200 + 4 * n,
        /// RAL, receive address low (section 8.2.3.7.8).
        Ral(n: 128) = receive_address_base(n),
        /// RAH, receive address high (section 8.2.3.7.9).
        Rah(n: 128) = receive_address_base(n) + 4,
        /// MPSAR, pools of a receive address, two registers each (section 8.2.3.7.10).
        Mpsar(n: 256) = 0x0a600 + 4 * n,
        /// VFTA, VLAN filter table (section 8.2.3.7.11).
        Vfta(n: 128) = 0x0a000 + 4 * n,
        /// MRQC, multiple receive queues command (section 8.2.3.7.12).
        Mrqc = 0x05818,
        /// RSSRK, the RSS key (section 8.2.3.7.14).
        Rssrk(n: 10) = 0x05c80 + 4 * n,
        /// RETA, the RSS redirection table, four entries each (section 8.2.3.7.15).
        Reta(n: 32) = 0x05c00 + 4 * n,
        /// ERETA, the rest of the X550's redirection table, entries 128 to 511 (X550 only).
        Ereta(n: 96) = 0x0ee80 + 4 * n,
        /// FTQF, five-tuple queue filter (section 8.2.3.7.19).
        Ftqf(n: 128) = 0x0e600 + 4 * n,
        /// ETQF, EtherType queue filter (section 8.2.3.7.21).
        Etqf(n: 8) = 0x05128 + 4 * n,
        /// PFUTA, unicast table (section 8.2.3.27.17).
        Pfuta(n: 128) = 0x0f400 + 4 * n,
    }
}

register_offsets! {
    /// Pools of virtual machines, none of which is used here.
    pub enum Pools: read write {
        /// PFVLVF, VLAN pool filter (section 8.2.3.27.15).
        Pfvlvf(n: 64) = 0x0f100 + 4 * n,
        /// PFVLVFB, VLAN pool filter bitmap (section 8.2.3.27.16).
        Pfvlvfb(n: 128) = 0x0f200 + 4 * n,
    }
}

register_offsets! {
    /// Receive DMA and security (sections 8.2.3.8 and 8.2.3.12).
    pub enum Receive: read write {
        /// RDRXCTL, receive DMA control (section 8.2.3.8.8).
        Rdrxctl = 0x02f00,
        /// RXPBSIZE, receive packet buffer size (section 8.2.3.8.9).
        Rxpbsize(n: 8) = 0x03c00 + 4 * n,
        /// RXCTRL, receive control (section 8.2.3.8.10).
        Rxctrl = 0x03000,
        /// SECRXCTRL, security receive control (section 8.2.3.12.5).
        Secrxctrl = 0x08d00,
    }
}

register_offsets! {
    /// Receive registers that only tell.
    pub enum ReceiveStatus: read {
        /// SECRXSTAT, security receive status (section 8.2.3.12.6).
        Secrxstat = 0x08d04,
    }
}

register_offsets! {
    /// One receive queue (sections 8.2.3.8 and 8.2.3.11).
    pub enum RxQueue: read write {
        /// RDLEN, ring length in bytes (section 8.2.3.8.3).
        Rdlen(q: 128) = rx_queue_base(q) + 0x08,
        /// DCA_RXCTRL, direct cache access (section 8.2.3.11.1).
        DcaRxctrl(q: 128) = rx_queue_base(q) + 0x0c,
        /// RDH, head (section 8.2.3.8.4).
        Rdh(q: 128) = rx_queue_base(q) + 0x10,
        /// SRRCTL, buffer size and descriptor type (section 8.2.3.8.7).
        Srrctl(q: 128) = rx_queue_base(q) + 0x14,
        /// RDT, tail (section 8.2.3.8.5).
        Rdt(q: 128) = rx_queue_base(q) + 0x18,
        /// RXDCTL, descriptor control (section 8.2.3.8.6).
        Rxdctl(q: 128) = rx_queue_base(q) + 0x28,
        /// RSCCTL, receive coalescing (section 8.2.3.8.13).
        Rscctl(q: 128) = rx_queue_base(q) + 0x2c,
    }
}

register_offsets! {
    /// Where a receive queue's ring is.
    pub enum RxQueueAddress: address {
        /// RDBAL and RDBAH (sections 8.2.3.8.1 and 8.2.3.8.2).
        Rdba(q: 128) = rx_queue_base(q),
    }
}

register_offsets! {
    /// Transmit DMA and buffers (sections 8.2.3.9 and 8.2.3.10).
    pub enum Transmit: read write {
        /// RTTDCS, transmit descriptor plane control (section 8.2.3.10.2).
        Rttdcs = 0x04900,
        /// RTTDQSEL, selects the queue of RTTDT1C (section 8.2.3.10.13).
        Rttdqsel = 0x04904,
        /// RTTDT1C, rate arbiter of the selected queue (section 8.2.3.10.14).
        Rttdt1c = 0x04908,
        /// TXPBTHRESH, transmit packet buffer threshold (section 8.2.3.9.16).
        Txpbthresh(n: 8) = 0x04950 + 4 * n,
        /// DMATXCTL, DMA transmit control (section 8.2.3.9.2).
        Dmatxctl = 0x04a80,
        /// DTXMXSZRQ, outstanding transmit reads (section 8.2.3.9.1).
        Dtxmxszrq = 0x08100,
        /// MTQC, multiple transmit queues command (section 8.2.3.9.15).
        Mtqc = 0x08120,
        /// TXPBSIZE, transmit packet buffer size (section 8.2.3.9.13).
        Txpbsize(n: 8) = 0x0cc00 + 4 * n,
    }
}

register_offsets! {
    /// One transmit queue (sections 8.2.3.9 and 8.2.3.11).
    pub enum TxQueue: read write {
        /// TDLEN, ring length in bytes (section 8.2.3.9.7).
        Tdlen(q: 128) = tx_queue_base(q) + 0x08,
        /// DCA_TXCTRL, direct cache access (section 8.2.3.11.2).
        DcaTxctrl(q: 128) = tx_queue_base(q) + 0x0c,
        /// TDH, head (section 8.2.3.9.8).
        Tdh(q: 128) = tx_queue_base(q) + 0x10,
        /// TDT, tail (section 8.2.3.9.9).
        Tdt(q: 128) = tx_queue_base(q) + 0x18,
        /// TXDCTL, descriptor control (section 8.2.3.9.10).
        Txdctl(q: 128) = tx_queue_base(q) + 0x28,
    }
}

register_offsets! {
    /// Where a transmit queue's ring is, and where its head is written back.
    pub enum TxQueueAddress: address {
        /// TDBAL and TDBAH (sections 8.2.3.9.5 and 8.2.3.9.6).
        Tdba(q: 128) = tx_queue_base(q),
        /// TDWBAL and TDWBAH; bit 0 of the low word enables (section 8.2.3.9.11).
        Tdwba(q: 128) = tx_queue_base(q) + 0x38,
    }
}

register_offsets! {
    /// Head write-back, to turn it off: an address only goes through [`TxQueueAddress`].
    pub enum HeadWriteBackOff: write {
        /// TDWBAL (section 8.2.3.9.11).
        Tdwbal(q: 128) = tx_queue_base(q) + 0x38,
    }
}

register_offsets! {
    /// The MAC (section 8.2.3.22).
    pub enum MacAddress: read write {
        /// HLREG0, MAC core control (section 8.2.3.22.8).
        Hlreg0 = 0x04240,
        /// MSCA, MDIO command and address (section 8.2.3.22.11).
        Msca = 0x0425c,
        /// MSRWD, MDIO data (section 8.2.3.22.12).
        Msrwd = 0x04260,
        /// MAXFRS, longest frame (section 8.2.3.22.13).
        Maxfrs = 0x04268,
        /// AUTOC, link mode and autonegotiation (section 8.2.3.22.19).
        Autoc = 0x042a0,
        /// AUTOC2, serial interface (section 8.2.3.22.22).
        Autoc2 = 0x042a8,
        /// PCS1GANA, what 1G autonegotiation advertises (section 8.2.3.22.4).
        Pcs1gana = 0x04218,
        /// MFLCN, MAC flow control (section 8.2.3.22.34).
        Mflcn = 0x04294,
    }
}

register_offsets! {
    /// The link's state.
    pub enum LinkStatus: read {
        /// LINKS (section 8.2.3.22.20).
        Links = 0x042a4,
        /// ANLP1, the link partner's autonegotiation page (section 8.2.3.22.23).
        Anlp1 = 0x042b0,
    }
}

register_offsets! {
    /// Statistics; all are cleared by reading (section 8.2.3.23).
    pub enum Counter: read {
        /// CRCERRS, frames with a bad CRC.
        Crcerrs = 0x04000,
        /// ILLERRC, frames with an illegal byte.
        Illerrc = 0x04004,
        /// ERRBC, error bytes.
        Errbc = 0x04008,
        /// MSPDC, short frames dropped by the MAC.
        Mspdc = 0x04010,
        /// MLFC, local faults.
        Mlfc = 0x04034,
        /// MRFC, remote faults.
        Mrfc = 0x04038,
        /// RLEC, length field and length disagree.
        Rlec = 0x04040,
        /// LXONTXC, XON frames sent.
        Lxontxc = 0x03f60,
        /// LXOFFTXC, XOFF frames sent.
        Lxofftxc = 0x03f68,
        /// LXONRXCNT, XON frames received.
        Lxonrxcnt = 0x041a4,
        /// LXOFFRXCNT, XOFF frames received.
        Lxoffrxcnt = 0x041a8,
        /// PRC64, 64-byte frames received.
        Prc64 = 0x0405c,
        /// PRC127, frames of 65 to 127 bytes.
        Prc127 = 0x04060,
        /// PRC255, frames of 128 to 255 bytes.
        Prc255 = 0x04064,
        /// PRC511, frames of 256 to 511 bytes.
        Prc511 = 0x04068,
        /// PRC1023, frames of 512 to 1,023 bytes.
        Prc1023 = 0x0406c,
        /// PRC1522, frames of 1,024 bytes to the longest.
        Prc1522 = 0x04070,
        /// GPRC, good frames received.
        Gprc = 0x04074,
        /// BPRC, broadcasts received.
        Bprc = 0x04078,
        /// MPRC, multicasts received.
        Mprc = 0x0407c,
        /// GPTC, good frames sent.
        Gptc = 0x04080,
        /// RNBC, frames without a buffer.
        Rnbc(n: 8) = 0x03fc0 + 4 * n,
        /// RXMPC, frames missed by a full packet buffer.
        Rxmpc(n: 8) = 0x03fa0 + 4 * n,
        /// RUC, undersized frames with a good CRC.
        Ruc = 0x040a4,
        /// RFC, fragments.
        Rfc = 0x040a8,
        /// ROC, oversized frames.
        Roc = 0x040ac,
        /// RJC, jabber.
        Rjc = 0x040b0,
        /// MNGPRC, management frames received.
        Mngprc = 0x040b4,
        /// MNGPDC, management frames dropped.
        Mngpdc = 0x040b8,
        /// MNGPTC, management frames sent.
        Mngptc = 0x0cf90,
        /// TPR, all frames received.
        Tpr = 0x040d0,
        /// TPT, all frames sent.
        Tpt = 0x040d4,
        /// PTC64, 64-byte frames sent.
        Ptc64 = 0x040d8,
        /// PTC127, frames of 65 to 127 bytes.
        Ptc127 = 0x040dc,
        /// PTC255, frames of 128 to 255 bytes.
        Ptc255 = 0x040e0,
        /// PTC511, frames of 256 to 511 bytes.
        Ptc511 = 0x040e4,
        /// PTC1023, frames of 512 to 1,023 bytes.
        Ptc1023 = 0x040e8,
        /// PTC1522, frames of 1,024 bytes to the longest.
        Ptc1522 = 0x040ec,
        /// MPTC, multicasts sent.
        Mptc = 0x040f0,
        /// BPTC, broadcasts sent.
        Bptc = 0x040f4,
        /// XEC, frames with a bad IP, TCP or UDP checksum.
        Xec = 0x04120,
        /// GORCL, low word of good bytes received.
        Gorcl = 0x04088,
        /// GORCH, high word.
        Gorch = 0x0408c,
        /// GOTCL, low word of good bytes sent.
        Gotcl = 0x04090,
        /// GOTCH, high word.
        Gotch = 0x04094,
        /// TORL, low word of all bytes received.
        Torl = 0x040c0,
        /// TORH, high word.
        Torh = 0x040c4,
        /// QPRC, frames received into a counter's queues.
        Qprc(n: 16) = 0x01030 + 0x40 * n,
        /// QBRC, low word of bytes received.
        Qbrcl(n: 16) = 0x01034 + 0x40 * n,
        /// QBRC, high word.
        Qbrch(n: 16) = 0x01038 + 0x40 * n,
        /// QPRDC, frames dropped for want of a descriptor.
        Qprdc(n: 16) = 0x01430 + 0x40 * n,
        /// QPTC, frames sent from a counter's queues (also at 0x08680).
        Qptc(n: 16) = 0x06030 + 0x40 * n,
        /// QBTC, low word of bytes sent.
        Qbtcl(n: 16) = 0x08700 + 8 * n,
        /// QBTC, high word.
        Qbtch(n: 16) = 0x08704 + 8 * n,
    }
}

register_offsets! {
    /// Which queue counts where, four queues each.
    pub enum CounterMap: read write {
        /// RQSMR, receive queues (section 8.2.3.23.71).
        Rqsmr(n: 32) = 0x02300 + 4 * n,
        /// TQSM, transmit queues (section 8.2.3.23.73).
        Tqsm(n: 32) = 0x08600 + 4 * n,
    }
}

const _: () = {
    // Both blocks of receive queues, at their edges.
    assert!(RxQueue::Rxdctl(63).byte_offset() == 0x01fe8);
    assert!(RxQueue::Rxdctl(64).byte_offset() == 0x0d028);
    assert!(RxQueueAddress::Rdba(127).byte_offset() == 0x0dfc0);
    assert!(TxQueue::Txdctl(127).byte_offset() == 0x07fe8);
    // Tables end where the next begins.
    assert!(Filter::Rah(15).byte_offset() == 0x0547c);
    assert!(Filter::Ral(16).byte_offset() == 0x0a280);
    assert!(Filter::Rah(127).byte_offset() + 4 == Filter::Mpsar(0).byte_offset());
    assert!(Filter::Vfta(127).byte_offset() < Filter::Ral(16).byte_offset());
    assert!(Filter::Reta(31).byte_offset() + 4 == Filter::Rssrk(0).byte_offset());
    assert!(CounterMap::Tqsm(31).byte_offset() < Counter::Qbtcl(0).byte_offset());
    assert!(Counter::Qbtch(15).byte_offset() == 0x0877c);
};
