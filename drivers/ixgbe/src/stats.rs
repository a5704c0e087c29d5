//! Hardware statistics, added up to 64 bits, under the names DPDK's xstats give them
//! (section 8.2.3.23).
//!
//! The device's counters are cleared by reading and 32 bits wide (36 for bytes), so whoever wants
//! exact figures reads them at least every four minutes: that is how long 2^32 smallest frames
//! take at 10 Gbit/s.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::Fault;
use crate::registers::{Counter, CounterMap, Registers};

/// Queue counters; queue `q` counts in `q % 16` (section 8.2.3.23.71).
pub const QUEUE_COUNTERS: u16 = 16;
/// Bytes of the CRC, which octet counters include.
const CRC: u64 = 4;
/// Bytes of a pause frame, CRC included.
const PAUSE_FRAME: u64 = 64;

/// The counters that are passed on as they are read.
const PLAIN: &[(&str, Counter)] = &[
    ("rx_crc_errors", Counter::Crcerrs),
    ("rx_illegal_byte_errors", Counter::Illerrc),
    ("rx_error_bytes", Counter::Errbc),
    ("mac_local_errors", Counter::Mlfc),
    ("mac_remote_errors", Counter::Mrfc),
    ("rx_length_errors", Counter::Rlec),
    ("tx_xon_packets", Counter::Lxontxc),
    ("rx_xon_packets", Counter::Lxonrxcnt),
    ("tx_xoff_packets", Counter::Lxofftxc),
    ("rx_xoff_packets", Counter::Lxoffrxcnt),
    ("rx_size_64_packets", Counter::Prc64),
    ("rx_size_65_to_127_packets", Counter::Prc127),
    ("rx_size_128_to_255_packets", Counter::Prc255),
    ("rx_size_256_to_511_packets", Counter::Prc511),
    ("rx_size_512_to_1023_packets", Counter::Prc1023),
    ("rx_size_1024_to_max_packets", Counter::Prc1522),
    ("rx_mac_good_packets", Counter::Gprc),
    ("rx_broadcast_packets", Counter::Bprc),
    ("rx_multicast_packets", Counter::Mprc),
    ("rx_fragment_errors", Counter::Rfc),
    ("rx_undersize_errors", Counter::Ruc),
    ("rx_oversize_errors", Counter::Roc),
    ("rx_jabber_errors", Counter::Rjc),
    ("rx_management_packets", Counter::Mngprc),
    ("rx_management_dropped", Counter::Mngpdc),
    ("tx_management_packets", Counter::Mngptc),
    ("rx_total_packets", Counter::Tpr),
    ("tx_total_packets", Counter::Tpt),
    ("tx_mac_good_packets", Counter::Gptc),
    ("tx_size_64_packets", Counter::Ptc64),
    ("tx_size_65_to_127_packets", Counter::Ptc127),
    ("tx_size_128_to_255_packets", Counter::Ptc255),
    ("tx_size_256_to_511_packets", Counter::Ptc511),
    ("tx_size_512_to_1023_packets", Counter::Ptc1023),
    ("tx_size_1024_to_max_packets", Counter::Ptc1522),
    ("tx_multicast_packets", Counter::Mptc),
    ("tx_broadcast_packets", Counter::Bptc),
    ("rx_mac_short_packet_dropped", Counter::Mspdc),
    ("rx_l3_l4_xsum_error", Counter::Xec),
];

/// Octet counters, low and high word; CRCs included.
const OCTETS: &[(&str, Counter, Counter)] = &[
    ("rx_mac_good_bytes", Counter::Gorcl, Counter::Gorch),
    ("tx_mac_good_bytes", Counter::Gotcl, Counter::Gotch),
    ("rx_total_bytes", Counter::Torl, Counter::Torh),
];

/// What one queue counter counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatistics {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received, without CRC.
    pub rx_bytes: u64,
    /// Frames dropped because no descriptor was left.
    pub rx_dropped: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent, without CRC.
    pub tx_bytes: u64,
}

/// What a port counted since it was opened or [`clear`](Statistics::clear)ed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    plain: [u64; PLAIN.len()],
    octets: [u64; OCTETS.len()],
    queues: Vec<QueueStatistics>,
    missed: u64,
}

impl Statistics {
    /// All zero, for a port with `queues` queue pairs.
    pub fn new(queues: u16) -> Self {
        let counters = usize::from(queues.min(QUEUE_COUNTERS));
        Self {
            plain: [0; PLAIN.len()],
            octets: [0; OCTETS.len()],
            queues: (0..counters).map(|_| QueueStatistics::default()).collect(),
            missed: 0,
        }
    }

    /// Adds what the device counted since the last call, and zeroes it there.
    ///
    /// # Errors
    /// [`Fault::DeviceGone`]; nothing is added then.
    pub(crate) fn add_from(&mut self, registers: &Registers) -> Result<(), Fault> {
        registers.alive()?;
        let mut sum = self.clone();
        for (total, (_, counter)) in sum.plain.iter_mut().zip(PLAIN) {
            *total += u64::from(registers.read(*counter));
        }
        for (total, (_, low, high)) in sum.octets.iter_mut().zip(OCTETS) {
            *total += read_octets(registers, *low, *high);
        }
        for (n, queue) in (0..).zip(&mut sum.queues) {
            queue.rx_packets += u64::from(registers.read(Counter::Qprc(n)));
            queue.rx_bytes += read_octets(registers, Counter::Qbrcl(n), Counter::Qbrch(n));
            queue.rx_dropped += u64::from(registers.read(Counter::Qprdc(n)));
            queue.tx_packets += u64::from(registers.read(Counter::Qptc(n)));
            queue.tx_bytes += read_octets(registers, Counter::Qbtcl(n), Counter::Qbtch(n));
        }
        for buffer in 0..8 {
            sum.missed += u64::from(registers.read(Counter::Rxmpc(buffer)));
        }
        // A device that went away meanwhile counted in all ones.
        registers.alive()?;
        *self = sum;
        Ok(())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.queues.len() as u16);
    }

    /// What each queue counter counted. With more than 16 queues, several share one.
    pub fn queues(&self) -> &[QueueStatistics] {
        &self.queues
    }

    /// Frames received into a queue. (GPRC also counts frames that were missed afterwards.)
    pub fn rx_packets(&self) -> u64 {
        self.queues.iter().map(|queue| queue.rx_packets).sum()
    }

    /// Bytes received into a queue, without CRCs.
    pub fn rx_bytes(&self) -> u64 {
        self.queues.iter().map(|queue| queue.rx_bytes).sum()
    }

    /// Frames sent, pause frames aside.
    pub fn tx_packets(&self) -> u64 {
        self.plain_value("tx_mac_good_packets")
            .saturating_sub(self.pause_frames_sent())
    }

    /// Bytes sent, without CRCs and pause frames.
    pub fn tx_bytes(&self) -> u64 {
        let octets = self.octet_value("tx_mac_good_bytes");
        let pauses = self.pause_frames_sent();
        octets.saturating_sub(pauses * PAUSE_FRAME + self.tx_packets() * CRC)
    }

    /// Frames lost because the packet buffer was full or no descriptor was left.
    pub fn rx_missed(&self) -> u64 {
        self.missed
            + self
                .queues
                .iter()
                .map(|queue| queue.rx_dropped)
                .sum::<u64>()
    }

    /// Frames that arrived damaged or of a wrong length.
    pub fn rx_errors(&self) -> u64 {
        const DAMAGED: [&str; 8] = [
            "rx_crc_errors",
            "rx_illegal_byte_errors",
            "rx_length_errors",
            "rx_undersize_errors",
            "rx_oversize_errors",
            "rx_fragment_errors",
            "rx_jabber_errors",
            "rx_mac_short_packet_dropped",
        ];
        DAMAGED.iter().map(|name| self.plain_value(name)).sum()
    }

    /// Every statistic, the summary first.
    pub fn iter(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let summary = [
            ("rx_good_packets", self.rx_packets()),
            ("tx_good_packets", self.tx_packets()),
            ("rx_good_bytes", self.rx_bytes()),
            ("tx_good_bytes", self.tx_bytes()),
            ("rx_missed_errors", self.rx_missed()),
            ("rx_errors", self.rx_errors()),
        ];
        let octets = OCTETS
            .iter()
            .zip(self.octets)
            .map(|((name, ..), value)| (*name, value));
        let plain = PLAIN
            .iter()
            .zip(self.plain)
            .map(|((name, _), value)| (*name, value));
        let named = summary.into_iter().chain(octets).chain(plain);
        let queues = self.queues.iter().enumerate().flat_map(|(n, queue)| {
            [
                (format!("rx_q{n}_packets"), queue.rx_packets),
                (format!("rx_q{n}_bytes"), queue.rx_bytes),
                (format!("rx_q{n}_dropped"), queue.rx_dropped),
                (format!("tx_q{n}_packets"), queue.tx_packets),
                (format!("tx_q{n}_bytes"), queue.tx_bytes),
            ]
        });
        named
            .map(|(name, value)| (String::from(name), value))
            .chain(queues)
    }

    /// The statistic called `name`.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value)
    }

    fn pause_frames_sent(&self) -> u64 {
        self.plain_value("tx_xon_packets") + self.plain_value("tx_xoff_packets")
    }

    fn plain_value(&self, name: &str) -> u64 {
        PLAIN
            .iter()
            .zip(self.plain)
            .find(|((other, _), _)| *other == name)
            .map_or(0, |(_, v)| v)
    }

    fn octet_value(&self, name: &str) -> u64 {
        OCTETS
            .iter()
            .zip(self.octets)
            .find(|((other, ..), _)| *other == name)
            .map_or(0, |(_, v)| v)
    }
}

/// The low word first: reading the high one, of which four bits count, clears both
/// (section 8.2.3.23).
fn read_octets(registers: &Registers, low: Counter, high: Counter) -> u64 {
    let low = u64::from(registers.read(low));
    low | u64::from(registers.read(high) & 0xf) << 32
}

/// Maps `queues` queues to counters, and zeroes the counters that count for them by reading them (section
/// 4.6.5). What other queues are mapped to does not matter: they count nothing.
pub(crate) fn initialise(registers: &Registers, queues: u16) {
    for four in 0..u32::from(queues).div_ceil(4) {
        let counters = [0, 1, 2, 3].map(|n| ((4 * four + n) % u32::from(QUEUE_COUNTERS)) as u8);
        registers.write(CounterMap::Rqsmr(four), u32::from_le_bytes(counters));
        registers.write(CounterMap::Tqsm(four), u32::from_le_bytes(counters));
    }
    // A device that is gone is found out by the next step; what was read is of no interest.
    let _zeroed = Statistics::new(queues).add_from(registers);
}
