//! The receive path: what the bits of an advanced receive descriptor mean (82599 datasheet, section
//! 7.1.6), and [`QueuePair::receive`]. The loop over descriptors is
//! [`ReceiveRing::reap`](sumac_device::ring::ReceiveRing::reap).

use sumac_device::ring::ReceiveFormat;
use sumac_interface::net::ForeignPool;
use sumac_rref::{PacketBatch, PacketFlags};

use crate::QueuePair;

/// Advanced receive descriptor, one buffer (SRRCTL.DESCTYPE 001b, section 7.1.6.1).
///
/// The driver writes `[packet buffer address, 0]`. The device writes back (section 7.1.6.2, words as
/// here): detail = RSS type in bits 3:0, packet type in 16:4, RSS hash in 63:32; status = extended
/// status in 19:0, extended error in 31:20, length in 47:32, VLAN tag in 63:48.
pub(crate) struct AdvancedReceive;

impl AdvancedReceive {
    /// Descriptor done (extended status bit 0).
    const DD: u64 = 1 << 0;
    /// End of packet (extended status bit 1).
    const EOP: u64 = 1 << 1;
    /// RSS type (detail bits 3:0; zero means no hash).
    const RSS_TYPE: u64 = 0xf;
    /// What of the status word becomes an entry: the flags that [`PacketFlags`] gives the same
    /// places, the length and the VLAN tag.
    const KEPT: u64 = 0xffff_ffff_0000_0000
        | PacketFlags::VLAN_STRIPPED
            .union(PacketFlags::L4_CHECKED)
            .union(PacketFlags::IP_CHECKED)
            .union(PacketFlags::L4_BAD)
            .union(PacketFlags::IP_BAD)
            .bits() as u64;
}

// Section 7.1.6.2, table 7-15: VP is status bit 3, L4CS 5, IPCS 6; L4E is error bit 10 and IPE 11.
const _: () = {
    assert!(PacketFlags::VLAN_STRIPPED.bits() == 1 << 3);
    assert!(PacketFlags::L4_CHECKED.bits() == 1 << 5);
    assert!(PacketFlags::IP_CHECKED.bits() == 1 << 6);
    assert!(PacketFlags::L4_BAD.bits() == 1 << (20 + 10));
    assert!(PacketFlags::IP_BAD.bits() == 1 << (20 + 11));
    assert!(PacketFlags::RSS_TYPE.bits() == (AdvancedReceive::RSS_TYPE as u32) << 8);
};

impl ReceiveFormat for AdvancedReceive {
    const DONE: u64 = Self::DD;
    const END: u64 = Self::EOP;

    #[inline(always)]
    fn annotate(detail: u64, status: u64) -> [u64; 2] {
        [detail, status & Self::KEPT | (detail & Self::RSS_TYPE) << 8]
    }
}

impl QueuePair {
    /// Adds up to `limit` received frames to `batch`; returns how many. When none came, finished
    /// transmit buffers are reclaimed instead, so that a queue gone idle keeps none.
    ///
    /// # Errors
    /// [`ForeignPool`] when the batch is of another pool.
    #[inline(always)]
    pub fn receive(&mut self, batch: &mut PacketBatch, limit: usize) -> Result<usize, ForeignPool> {
        let frames = self.rx.reap(&mut self.cache, batch, limit)?;
        if frames == 0 {
            self.idle();
        }
        Ok(frames)
    }
}

#[cfg(test)]
mod tests {
    use sumac_device::ring::Entry;

    use super::*;

    #[test]
    fn annotation_keeps_what_the_device_said() {
        let status = 0x0064_003c_c000_0069; // VLAN 100, 60 bytes, both errors, IPCS L4CS VP DD
        let entry = Entry::new(9, AdvancedReceive::annotate(0xdead_beef_0000_0011, status));
        assert_eq!((entry.id(), entry.len(), entry.tag()), (9, 60, 100));
        assert_eq!(entry.note(), 0xdead_beef);
        let flags = PacketFlags::from_bits_retain(entry.flags());
        assert!(flags.contains(
            PacketFlags::VLAN_STRIPPED
                | PacketFlags::IP_CHECKED
                | PacketFlags::L4_CHECKED
                | PacketFlags::IP_BAD
                | PacketFlags::L4_BAD
        ));
        assert_eq!((flags & PacketFlags::RSS_TYPE).bits(), 1 << 8);
    }

    #[test]
    fn a_device_cannot_ask_for_offloads() {
        let [_, status] = AdvancedReceive::annotate(u64::MAX, u64::MAX);
        assert_eq!(status as u32 & PacketFlags::OFFLOADS.bits(), 0);
    }
}
