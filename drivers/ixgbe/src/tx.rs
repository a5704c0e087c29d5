//! The transmit path: how advanced transmit descriptors are made (82599 datasheet, section 7.2.3.2),
//! and [`QueuePair::transmit`]. The loop over descriptors is
//! [`TransmitRing::post`](sumac_device::ring::TransmitRing::post).

use sumac_device::ring::{Entry, Part, TransmitFormat};
use sumac_interface::net::ForeignPool;
use sumac_rref::{PacketBatch, PacketFlags, header_lengths};

use crate::QueuePair;

/// DEXT: advanced descriptor (DCMD bit 5).
const DEXT: u64 = 1 << 29;
/// DTYP: which advanced descriptor.
const DTYP: u64 = 0xf << 20;
/// DTYP of a data descriptor.
const DTYP_DATA: u64 = 0x3 << 20;
/// DTYP of a context descriptor.
const DTYP_CONTEXT: u64 = 0x2 << 20;
/// EOP: the frame ends in this buffer (DCMD bit 0).
const EOP: u64 = 1 << 24;
/// IFCS: the device appends the FCS (DCMD bit 1).
const IFCS: u64 = 1 << 25;
/// RS: the device reports when it is done (DCMD bit 3).
const RS: u64 = 1 << 27;
/// VLE: insert the VLAN tag of the context (DCMD bit 6).
const VLE: u64 = 1 << 30;
/// DD in the written-back status (STA bit 0).
const DD: u64 = 1 << 32;
/// CC: use the context descriptor.
const CC: u64 = 1 << 39;
/// IXSM: insert the IPv4 header checksum (POPTS bit 0).
const IXSM: u64 = 1 << 40;
/// TXSM: insert the TCP or UDP checksum (POPTS bit 1).
const TXSM: u64 = 1 << 41;
/// PAYLEN: bytes of the whole frame.
const PAYLEN_SHIFT: u32 = 46;

/// Context descriptor: IPLEN in bits 8:0, MACLEN in 15:9, VLAN in 31:16 of the first word.
const MACLEN_SHIFT: u32 = 9;
const VLAN_SHIFT: u32 = 16;
/// TUCMD: the frame is IPv4.
const TUCMD_IPV4: u64 = 1 << 10;
/// TUCMD: L4 type is TCP (zero means UDP).
const TUCMD_TCP: u64 = 1 << 11;

/// Bytes from the frame's start to the IP header where no checksum tells: Ethernet without tags.
const ETHERNET_HEADER: u64 = 14;

/// Advanced transmit descriptors (section 7.2.3.2.4), context 0 only.
#[derive(Default)]
pub(crate) struct AdvancedTransmit {
    /// The context the queue holds now.
    context: Option<[u64; 2]>,
}

impl TransmitFormat for AdvancedTransmit {
    const DONE: u64 = DD;
    const REPORT: u64 = RS;
    const OFFLOADS: u32 = PacketFlags::OFFLOADS.bits();
    const CONTEXT: (u64, u64) = (DTYP | DEXT, DTYP_CONTEXT | DEXT);

    #[inline(always)]
    fn whole(&self, len: u16) -> u64 {
        let len = u64::from(len);
        DEXT | DTYP_DATA | IFCS | EOP | len | len << PAYLEN_SHIFT
    }

    fn part(&self, part: Part) -> u64 {
        let flags = PacketFlags::from_bits_retain(part.frame.flags());
        let mut word = DEXT | DTYP_DATA | IFCS | u64::from(part.len);
        word |= u64::from(part.frame_bytes & 0x3_ffff) << PAYLEN_SHIFT;
        if part.last {
            word |= EOP;
        }
        if flags.intersects(PacketFlags::OFFLOADS) {
            word |= CC;
        }
        if flags.contains(PacketFlags::INSERT_VLAN) {
            word |= VLE;
        }
        if flags.contains(PacketFlags::INSERT_IP_CHECKSUM) {
            word |= IXSM;
        }
        if flags.intersects(PacketFlags::INSERT_TCP_CHECKSUM | PacketFlags::INSERT_UDP_CHECKSUM) {
            word |= TXSM;
        }
        word
    }

    fn context(&mut self, frame: Entry) -> Option<[u64; 2]> {
        let flags = PacketFlags::from_bits_retain(frame.flags());
        let checksums = PacketFlags::OFFLOADS.difference(PacketFlags::INSERT_VLAN);
        let mut first = ETHERNET_HEADER << MACLEN_SHIFT;
        let mut second = DTYP_CONTEXT | DEXT;
        if flags.intersects(checksums) {
            let headers = header_lengths(frame);
            first = u64::from(headers.l3 & 0x1ff) | u64::from(headers.l2 & 0x7f) << MACLEN_SHIFT;
        }
        if flags.contains(PacketFlags::INSERT_VLAN) {
            first |= u64::from(frame.tag()) << VLAN_SHIFT;
        }
        if flags.contains(PacketFlags::IS_IPV4) {
            second |= TUCMD_IPV4;
        }
        if flags.contains(PacketFlags::INSERT_TCP_CHECKSUM) {
            second |= TUCMD_TCP;
        }
        let context = [first, second];
        if self.context == Some(context) {
            return None;
        }
        self.context = Some(context);
        Some(context)
    }

    fn forget_context(&mut self) {
        self.context = None;
    }
}

impl QueuePair {
    /// Takes frames from the front of `batch` as long as the ring has room, with one doorbell;
    /// returns how many. The rest stay in the batch.
    ///
    /// # Errors
    /// [`ForeignPool`] when the batch is of another pool.
    #[inline(always)]
    pub fn transmit(&mut self, batch: &mut PacketBatch) -> Result<usize, ForeignPool> {
        self.tx.post(&mut self.cache, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flags: PacketFlags) -> Entry {
        Entry::new(1, [0, 0]).with_len(100).with_flags(flags.bits())
    }

    #[test]
    fn a_whole_frame_is_one_data_descriptor() {
        let word = AdvancedTransmit::default().whole(60);
        assert_eq!(word & 0xffff, 60);
        assert_eq!(word >> PAYLEN_SHIFT, 60);
        assert_eq!(
            word & (DTYP | DEXT | EOP | IFCS),
            DTYP_DATA | DEXT | EOP | IFCS
        );
        assert_eq!(word & (DD | RS | CC | VLE), 0);
    }

    #[test]
    fn whole_and_part_agree() {
        let format = AdvancedTransmit::default();
        let part = Part {
            frame: frame(PacketFlags::empty()),
            frame_bytes: 100,
            len: 100,
            last: true,
        };
        assert_eq!(format.part(part), format.whole(100));
    }

    #[test]
    fn a_context_is_sent_once_while_it_stays_the_same() {
        let mut format = AdvancedTransmit::default();
        let tagged = frame(PacketFlags::INSERT_VLAN).with_tag(100);
        let context = format.context(tagged).expect("the queue knows none yet");
        assert_eq!(context[0] >> VLAN_SHIFT, 100);
        assert_eq!(
            context[1] & AdvancedTransmit::CONTEXT.0,
            AdvancedTransmit::CONTEXT.1
        );
        assert_eq!(format.context(tagged), None);
        assert!(format.context(tagged.with_tag(101)).is_some());
        format.forget_context();
        assert!(format.context(tagged.with_tag(101)).is_some());
    }

    #[test]
    fn checksums_carry_header_lengths() {
        let mut format = AdvancedTransmit::default();
        let flags = PacketFlags::INSERT_IP_CHECKSUM
            | PacketFlags::INSERT_TCP_CHECKSUM
            | PacketFlags::IS_IPV4;
        let entry = frame(flags).with_note(14 | 20 << 8);
        let context = format.context(entry).expect("the queue knows none yet");
        assert_eq!(context[0], 20 | 14 << MACLEN_SHIFT);
        assert_eq!(
            context[1] & (TUCMD_IPV4 | TUCMD_TCP),
            TUCMD_IPV4 | TUCMD_TCP
        );
        let word = format.part(Part {
            frame: entry,
            frame_bytes: 100,
            len: 100,
            last: true,
        });
        assert_eq!(word & (IXSM | TXSM | CC), IXSM | TXSM | CC);
    }
}
