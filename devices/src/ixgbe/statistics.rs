//! Statistics registers (section 8.2.3.23): totals kept forever, registers that clear on read.
//!
//! Invariant: a register reads what was counted since it was last read, and sticks at its maximum;
//! [`Totals`] are never cleared.

/// Statistics registers exist for this many queues.
pub const QUEUE_COUNTERS: usize = 16;
/// Bytes of a frame check sequence, which every byte counter includes.
pub const FCS: u64 = 4;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident $name:literal: $low:literal $(, $high:literal)?;)*) => {
        /// A counter with registers of its own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        impl Counter {
            /// Every counter.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in the datasheet, of both words where it has two registers.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            fn at(offset: u32) -> Option<(Self, Part)> {
                match offset {
                    $($low => Some((Self::$variant, counters!(@low $($high)?))),)*
                    $($($high => Some((Self::$variant, Part::High)),)?)*
                    _ => None,
                }
            }
        }
    };
    (@low) => { Part::Whole };
    (@low $high:literal) => { Part::Low };
}

/// Which part of a counter a register shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Low,
    High,
}

counters! {
    /// CRCERRS: frames with a wrong frame check sequence.
    CrcErrors "CRCERRS": 0x4000;
    /// ILLERRC: frames with illegal bytes.
    IllegalBytes "ILLERRC": 0x4004;
    /// RLEC: frames whose 802.3 length field is wrong.
    LengthErrors "RLEC": 0x4040;
    /// MPC(0): frames lost for want of a descriptor.
    Missed "MPC": 0x3FA0;
    /// PRC64: frames of 64 bytes received; the next five by size.
    Received64 "PRC64": 0x405C;
    /// PRC127.
    Received127 "PRC127": 0x4060;
    /// PRC255.
    Received255 "PRC255": 0x4064;
    /// PRC511.
    Received511 "PRC511": 0x4068;
    /// PRC1023.
    Received1023 "PRC1023": 0x406C;
    /// PRC1522: 1,024 bytes to the maximum.
    Received1522 "PRC1522": 0x4070;
    /// GPRC: good frames received, those that were lost afterwards included.
    GoodReceived "GPRC": 0x4074;
    /// BPRC: good broadcast frames received.
    BroadcastReceived "BPRC": 0x4078;
    /// MPRC: good multicast frames received.
    MulticastReceived "MPRC": 0x407C;
    /// GPTC: good frames transmitted.
    GoodTransmitted "GPTC": 0x4080;
    /// GORCL, GORCH: bytes of good frames received.
    GoodBytesReceived "GORC": 0x4088, 0x408C;
    /// GOTCL, GOTCH: bytes of good frames transmitted.
    GoodBytesTransmitted "GOTC": 0x4090, 0x4094;
    /// RUC: frames below 64 bytes.
    Undersize "RUC": 0x40A4;
    /// ROC: frames beyond the maximum.
    Oversize "ROC": 0x40AC;
    /// TORL, TORH: bytes of all frames received.
    TotalBytesReceived "TOR": 0x40C0, 0x40C4;
    /// TPR: all frames received.
    TotalReceived "TPR": 0x40D0;
    /// TPT: all frames transmitted.
    TotalTransmitted "TPT": 0x40D4;
    /// PTC64: frames of 64 bytes transmitted; the next five by size.
    Transmitted64 "PTC64": 0x40D8;
    /// PTC127.
    Transmitted127 "PTC127": 0x40DC;
    /// PTC255.
    Transmitted255 "PTC255": 0x40E0;
    /// PTC511.
    Transmitted511 "PTC511": 0x40E4;
    /// PTC1023.
    Transmitted1023 "PTC1023": 0x40E8;
    /// PTC1522.
    Transmitted1522 "PTC1522": 0x40EC;
    /// MPTC: multicast frames transmitted.
    MulticastTransmitted "MPTC": 0x40F0;
    /// BPTC: broadcast frames transmitted.
    BroadcastTransmitted "BPTC": 0x40F4;
    /// XEC: frames with a wrong IP or TCP/UDP checksum.
    ChecksumErrors "XEC": 0x4120;
    /// RXDGPC: frames delivered by the receive DMA.
    DmaReceived "RXDGPC": 0x2F50;
    /// TXDGPC: frames fetched by the transmit DMA.
    DmaTransmitted "TXDGPC": 0x87A0;
}

const COUNTERS: usize = Counter::ALL.len();
/// Per-queue counters: QPRC, QBRC, QPRDC, QPTC, QBTC.
const PER_QUEUE: usize = 5;

/// Everything counted since the device was made.
#[derive(Clone, Debug)]
pub struct Totals {
    counts: [u64; COUNTERS],
    queues: [[u64; PER_QUEUE]; QUEUE_COUNTERS],
    /// What wide counters were cleared of between a driver's reading of their two words.
    unread: [u64; COUNTERS],
}

impl Totals {
    /// One counter's total.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize]
    }

    /// What the driver has not seen of a wide counter, since it was counted between its reading of the low word and of the
    /// high one, which clears both.
    pub fn unread(&self, counter: Counter) -> u64 {
        self.unread[counter as usize]
    }

    /// Frames received by the queues mapped to statistics set `set`.
    pub fn queue_received(&self, set: usize) -> u64 {
        self.queues.get(set).map_or(0, |queue| queue[0])
    }

    /// Frames the queues mapped to statistics set `set` had no descriptor for.
    pub fn queue_dropped(&self, set: usize) -> u64 {
        self.queues.get(set).map_or(0, |queue| queue[2])
    }

    /// Frames that there was no room or no descriptor for.
    pub fn missed(&self) -> u64 {
        let of_queues = self.queues.iter().map(|queue| queue[2]);
        self.get(Counter::Missed) + of_queues.sum::<u64>()
    }

    /// Frames that no filter let in: neither good ones nor wrong.
    pub fn filtered(&self) -> u64 {
        let wrong = [
            Counter::CrcErrors,
            Counter::IllegalBytes,
            Counter::LengthErrors,
            Counter::Undersize,
            Counter::Oversize,
        ];
        let wrong: u64 = wrong.iter().map(|&counter| self.get(counter)).sum();
        let others = self.get(Counter::GoodReceived) + wrong;
        self.get(Counter::TotalReceived).saturating_sub(others)
    }

    /// Frames transmitted by the queues mapped to statistics set `set`.
    pub fn queue_transmitted(&self, set: usize) -> u64 {
        self.queues.get(set).map_or(0, |queue| queue[3])
    }
}

/// What one batch adds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    pub frames: u64,
    /// Without frame check sequences.
    pub bytes: u64,
    pub broadcast: u64,
    pub multicast: u64,
    /// Frames of more than 64 bytes, in all and by size class.
    larger: u64,
    sizes: [u64; 5],
}

/// The broadcast address as a word; also the mask of an address in a word.
pub(super) const BROADCAST: u64 = 0xFFFF_FFFF_FFFF;

impl Batch {
    /// One frame.
    pub fn of(frame: &[u8]) -> Self {
        let mut batch = Self::default();
        batch.add(frame);
        batch
    }

    /// Says that `frames` of the frames begin with the eight bytes `start`, byte 0 lowest.
    #[inline(always)]
    pub fn add_destination(&mut self, start: u64, frames: u64) {
        if start & BROADCAST == BROADCAST {
            self.broadcast += frames;
        } else if start & 1 != 0 {
            self.multicast += frames;
        }
    }

    /// Adds one frame of `len` bytes (without frame check sequence).
    #[inline(always)]
    pub fn add(&mut self, frame: &[u8]) {
        let len = frame.len();
        self.frames += 1;
        self.bytes += len as u64;
        if len > 60 {
            self.larger += 1;
            self.sizes[size_class(len)] += 1;
        }
        if frame.first().is_some_and(|first| first & 1 != 0) {
            if frame.starts_with(&[0xFF; 6]) {
                self.broadcast += 1;
            } else {
                self.multicast += 1;
            }
        }
    }
}

/// The size class of a frame of `len` bytes, above 60, without frame check sequence.
#[inline(always)]
fn size_class(len: usize) -> usize {
    match len + FCS as usize {
        0..=127 => 0,
        128..=255 => 1,
        256..=511 => 2,
        512..=1023 => 3,
        _ => 4,
    }
}

/// Totals, and what has been read of them.
pub(super) struct Statistics {
    totals: Totals,
    read: Totals,
    /// Totals of wide counters when their low word was read last.
    low: [u64; COUNTERS],
}

impl Statistics {
    pub fn new() -> Self {
        let zero = Totals {
            counts: [0; COUNTERS],
            queues: [[0; PER_QUEUE]; QUEUE_COUNTERS],
            unread: [0; COUNTERS],
        };
        Self {
            totals: zero.clone(),
            read: zero,
            low: [0; COUNTERS],
        }
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Statistics registers read zero after a reset.
    pub fn reset(&mut self) {
        self.read = self.totals.clone();
    }

    pub fn add(&mut self, counter: Counter, count: u64) {
        self.totals.counts[counter as usize] += count;
    }

    fn add_sizes(&mut self, first: Counter, batch: &Batch) {
        self.totals.counts[first as usize] += batch.frames - batch.larger;
        if batch.larger != 0 {
            let classes = &mut self.totals.counts[first as usize + 1..];
            for (total, count) in classes.iter_mut().zip(batch.sizes) {
                *total += count;
            }
        }
    }

    /// Frames that passed the filters and went to the queues of statistics set `set`, which got
    /// `stored` bytes of them: without the frame check sequence and the tag that were stripped
    /// (QBRC counts what was posted to a queue, section 8.2.3.23.73).
    pub fn received(&mut self, set: usize, batch: &Batch, stored: u64) {
        self.arrived(batch);
        self.add(Counter::DmaReceived, batch.frames);
        if let Some(queue) = self.totals.queues.get_mut(set) {
            queue[0] += batch.frames;
            queue[1] += stored;
        }
    }

    /// Frames that passed the filters, whether or not there is a descriptor for them: the MAC counts before. (That GPRC
    /// has what MPC has is nowhere in the datasheet; drivers subtract it.)
    pub fn arrived(&mut self, batch: &Batch) {
        let bytes = batch.bytes + FCS * batch.frames;
        self.add(Counter::GoodReceived, batch.frames);
        self.add(Counter::TotalReceived, batch.frames);
        self.add(Counter::GoodBytesReceived, bytes);
        self.add(Counter::TotalBytesReceived, bytes);
        self.add(Counter::BroadcastReceived, batch.broadcast);
        self.add(Counter::MulticastReceived, batch.multicast);
        self.add_sizes(Counter::Received64, batch);
    }

    /// A frame that queue's statistics set `set` had no descriptor for.
    pub fn dropped(&mut self, set: usize) {
        if let Some(queue) = self.totals.queues.get_mut(set) {
            queue[2] += 1;
        }
    }

    /// Frames that left, of the queues mapped to statistics set `set`.
    pub fn transmitted(&mut self, set: usize, batch: &Batch) {
        let bytes = batch.bytes + FCS * batch.frames;
        self.add(Counter::GoodTransmitted, batch.frames);
        self.add(Counter::TotalTransmitted, batch.frames);
        self.add(Counter::DmaTransmitted, batch.frames);
        self.add(Counter::GoodBytesTransmitted, bytes);
        self.add(Counter::BroadcastTransmitted, batch.broadcast);
        self.add(Counter::MulticastTransmitted, batch.multicast);
        self.add_sizes(Counter::Transmitted64, batch);
        if let Some(queue) = self.totals.queues.get_mut(set) {
            queue[3] += batch.frames;
            queue[4] += bytes;
        }
    }

    /// Reads the register at `offset` and clears it, if it is a statistics register.
    pub fn take(&mut self, offset: u32) -> Option<u32> {
        if let Some((counter, part)) = Counter::at(offset) {
            let index = counter as usize;
            let (total, read) = (self.totals.counts[index], &mut self.read.counts[index]);
            match part {
                Part::Low => self.low[index] = total,
                Part::High => self.totals.unread[index] += total - self.low[index].max(*read),
                Part::Whole => {}
            }
            return Some(take_part(total, read, part));
        }
        let (set, kind, part) = queue_register(offset)?;
        let (total, read) = (
            self.totals.queues[set][kind],
            &mut self.read.queues[set][kind],
        );
        Some(take_part(total, read, part))
    }
}

/// The low word of a wide counter is read first and clears nothing; the high word clears both.
fn take_part(total: u64, read: &mut u64, part: Part) -> u32 {
    let since = total - *read;
    match part {
        Part::Low => since as u32,
        Part::High => {
            *read += since;
            // The counter has 36 bits.
            (since >> 32) as u32 & 0xF
        }
        Part::Whole => {
            *read = total;
            u32::try_from(since).unwrap_or(u32::MAX)
        }
    }
}

/// Statistics set, counter and part of a per-queue register.
fn queue_register(offset: u32) -> Option<(usize, usize, Part)> {
    let in_block = |base: u32| ((offset - base) / 0x40) as usize;
    match offset {
        0x1030..0x1430 if offset % 0x40 == 0x30 => Some((in_block(0x1030), 0, Part::Whole)),
        0x1034..0x1434 if offset % 0x40 == 0x34 => Some((in_block(0x1034), 1, Part::Low)),
        0x1038..0x1438 if offset % 0x40 == 0x38 => Some((in_block(0x1038), 1, Part::High)),
        0x1430..0x1830 if offset % 0x40 == 0x30 => Some((in_block(0x1430), 2, Part::Whole)),
        0x8680..0x86C0 => Some((((offset - 0x8680) / 4) as usize, 3, Part::Whole)),
        0x6030..0x6430 if offset % 0x40 == 0x30 => Some((in_block(0x6030), 3, Part::Whole)),
        0x8700..0x8780 if offset.is_multiple_of(8) => {
            Some((((offset - 0x8700) / 8) as usize, 4, Part::Low))
        }
        0x8700..0x8780 => Some((((offset - 0x8700) / 8) as usize, 4, Part::High)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(len: usize) -> Batch {
        Batch::of(&vec![0x02; len])
    }

    #[test]
    fn counters_clear_on_read() {
        let mut statistics = Statistics::new();
        statistics.received(3, &one(60), 60);
        statistics.received(3, &one(1514), 1514);
        assert_eq!(statistics.take(0x4074), Some(2));
        assert_eq!(statistics.take(0x4074), Some(0));
        assert_eq!(statistics.take(0x405C), Some(1));
        assert_eq!(statistics.take(0x4070), Some(1));
        assert_eq!(statistics.take(0x1030 + 3 * 0x40), Some(2));
        assert_eq!(statistics.totals().get(Counter::GoodReceived), 2);
    }

    #[test]
    fn wide_counters_clear_with_the_high_word() {
        let mut statistics = Statistics::new();
        statistics.add(Counter::GoodBytesReceived, 0x5_0000_0007);
        assert_eq!(statistics.take(0x4088), Some(7));
        assert_eq!(statistics.take(0x4088), Some(7));
        assert_eq!(statistics.take(0x408C), Some(5));
        assert_eq!(statistics.take(0x4088), Some(0));
    }

    #[test]
    fn what_comes_between_two_words_is_cleared_unread() {
        let mut statistics = Statistics::new();
        let unread = |statistics: &Statistics| {
            let totals = statistics.totals();
            [Counter::GoodBytesReceived, Counter::GoodReceived].map(|of| totals.unread(of))
        };
        statistics.add(Counter::GoodBytesReceived, 7);
        assert_eq!(statistics.take(0x4088), Some(7));
        assert_eq!(statistics.take(0x408C), Some(0));
        assert_eq!(unread(&statistics), [0, 0]);
        statistics.add(Counter::GoodBytesReceived, 1);
        assert_eq!(statistics.take(0x4088), Some(1));
        statistics.received(0, &one(60), 60);
        assert_eq!(statistics.take(0x408C), Some(0));
        assert_eq!(statistics.take(0x4088), Some(0));
        assert_eq!(statistics.take(0x4074), Some(1));
        assert_eq!(unread(&statistics), [64, 0]);
        // Without a look at the low word all of it is.
        statistics.add(Counter::GoodBytesReceived, 5);
        assert_eq!(statistics.take(0x408C), Some(0));
        assert_eq!(unread(&statistics), [69, 0]);
    }

    #[test]
    fn narrow_counters_stick_at_their_maximum() {
        let mut statistics = Statistics::new();
        statistics.add(Counter::Missed, 1 << 40);
        assert_eq!(statistics.take(0x3FA0), Some(u32::MAX));
    }

    #[test]
    fn bytes_include_the_frame_check_sequence() {
        let mut statistics = Statistics::new();
        statistics.transmitted(0, &one(60));
        assert_eq!(statistics.take(0x4090), Some(64));
        assert_eq!(statistics.take(0x8700), Some(64));
    }

    #[test]
    fn a_queue_counts_the_bytes_it_got() {
        let mut statistics = Statistics::new();
        statistics.received(1, &one(60), 56);
        assert_eq!(statistics.take(0x4088), Some(64));
        assert_eq!(statistics.take(0x1034 + 0x40), Some(56));
    }

    #[test]
    fn sizes_fall_into_their_class() {
        for (len, class) in [(61, 0), (123, 0), (124, 1), (507, 2), (508, 3), (1020, 4)] {
            assert_eq!(size_class(len), class, "{len}");
        }
    }
}
