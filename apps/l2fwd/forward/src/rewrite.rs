//! What forwarding does to a frame's addresses, as DPDK's l2fwd does: the destination becomes
//! `02:00:00:00:00:PP`, PP the port the frame leaves by, and the source becomes that port's own.

use sumac_interface::Exchangeable;
use sumac_packet::MacAddress;
use sumac_rref::PacketBatch;

/// The twelve bytes a frame leaving by one port begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Exchangeable)]
pub struct Rewrite {
    addresses: [u8; 12],
}

impl Rewrite {
    /// For frames that leave by port number `port`, whose own address is `mac`.
    pub fn new(port: u8, mac: MacAddress) -> Self {
        let mut addresses = [0x02, 0, 0, 0, 0, port, 0, 0, 0, 0, 0, 0];
        addresses[6..].copy_from_slice(&mac.octets());
        Self { addresses }
    }

    /// Rewrites every frame of the batch. A frame too short for two addresses is left alone.
    #[inline]
    pub fn apply(&self, batch: &mut PacketBatch) {
        for mut packet in batch.packets_mut() {
            if let Some(addresses) = packet.data_mut().first_chunk_mut::<12>() {
                *addresses = self.addresses;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_in_the_destination() {
        let rewrite = Rewrite::new(3, MacAddress([1, 2, 3, 4, 5, 6]));
        assert_eq!(rewrite.addresses, [2, 0, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]);
    }
}
