//! Receive side scaling: key, redirection table, protocols (sections 7.1.2.8 and 4.6.10.1.1).

use crate::config::ConfigError;
use crate::ids::Generation;
use crate::registers::{Filter, Mrqc, Registers, Rxcsum};

/// Entries of the redirection table.
pub const TABLE_ENTRIES: usize = 128;
/// Bytes of the Toeplitz key.
pub const KEY_BYTES: usize = 40;

/// Words of the X550's redirection table beyond the first 32.
const X550_MORE_WORDS: u32 = 96;

/// The key of Microsoft's published test vectors: any capture's hashes can be checked against it.
pub const PUBLISHED_KEY: [u8; KEY_BYTES] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Which packets are hashed, and over what. What is not hashed goes to queue 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssProtocols {
    /// Addresses of IPv4.
    pub ipv4: bool,
    /// Addresses and ports of TCP over IPv4.
    pub tcp_ipv4: bool,
    /// Addresses and ports of UDP over IPv4.
    pub udp_ipv4: bool,
    /// Addresses of IPv6.
    pub ipv6: bool,
    /// Addresses and ports of TCP over IPv6.
    pub tcp_ipv6: bool,
    /// Addresses and ports of UDP over IPv6.
    pub udp_ipv6: bool,
}

impl Default for RssProtocols {
    fn default() -> Self {
        Self {
            ipv4: true,
            tcp_ipv4: true,
            udp_ipv4: true,
            ipv6: true,
            tcp_ipv6: true,
            udp_ipv6: true,
        }
    }
}

/// How frames spread over the receive queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssConfig {
    /// The Toeplitz key.
    pub key: [u8; KEY_BYTES],
    /// Queue for each of the hash's low seven bits; evenly round if `None`.
    pub table: Option<[u8; TABLE_ENTRIES]>,
    /// What is hashed.
    pub protocols: RssProtocols,
}

impl Default for RssConfig {
    fn default() -> Self {
        Self {
            key: PUBLISHED_KEY,
            table: None,
            protocols: RssProtocols::default(),
        }
    }
}

impl RssConfig {
    /// Whether every entry names one of `queues` queues.
    pub(crate) fn check(&self, queues: u16) -> Result<(), ConfigError> {
        let bad = |queue: &u8| u16::from(*queue) >= queues;
        match self
            .table
            .iter()
            .flatten()
            .enumerate()
            .find(|(_, queue)| bad(queue))
        {
            Some((entry, &queue)) => Err(ConfigError::RssQueue {
                entry,
                queue,
                below: queues,
            }),
            None => Ok(()),
        }
    }

    /// The table for `queues` queues.
    fn entries(&self, queues: u16) -> [u8; TABLE_ENTRIES] {
        self.table.unwrap_or_else(|| {
            let mut round = (0..queues.max(1)).map(|queue| queue as u8).cycle();
            [(); TABLE_ENTRIES].map(|()| round.next().unwrap_or(0))
        })
    }
}

/// Programs key, table and protocols; on also with one queue, because the descriptor has the
/// hash then. Receive must be halted.
pub(crate) fn apply(registers: &Registers, generation: Generation, rss: &RssConfig, queues: u16) {
    for (index, word) in (0..).zip(rss.key.as_chunks::<4>().0) {
        registers.write(Filter::Rssrk(index), u32::from_le_bytes(*word));
    }
    let entries = rss.entries(queues);
    let words = entries
        .as_chunks::<4>()
        .0
        .iter()
        .map(|four| u32::from_le_bytes(*four));
    for (index, word) in (0..).zip(words.clone()) {
        registers.write(Filter::Reta(index), word);
    }
    if generation == Generation::X550 {
        // It looks at nine bits of the hash; the same table four times is the same spread.
        for (index, word) in (0..X550_MORE_WORDS).zip(words.cycle()) {
            registers.write(Filter::Ereta(index), word);
        }
    }
    // The hash and the fragment checksum share a field of the descriptor (section 8.2.3.7.5).
    registers.update(|rxcsum: Rxcsum| rxcsum.with_rss_hash(true));
    let protocols = rss.protocols;
    registers.set(
        Mrqc::new()
            .with_mode(1)
            .with_ipv4(protocols.ipv4)
            .with_tcp_ipv4(protocols.tcp_ipv4)
            .with_udp_ipv4(protocols.udp_ipv4)
            .with_ipv6(protocols.ipv6)
            .with_tcp_ipv6(protocols.tcp_ipv6)
            .with_udp_ipv6(protocols.udp_ipv6),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_table_goes_round() {
        let table = RssConfig::default().entries(3);
        assert_eq!(table[..7], [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(RssConfig::default().entries(1), [0; TABLE_ENTRIES]);
    }
}
