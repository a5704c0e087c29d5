//! The frames a generator makes: where their marks are and how they are checked.
//!
//! Ethernet, IPv4 and UDP, then, from byte 42: magic (2 bytes), generator (2), flow (2), sequence
//! number (8), check word (4), all little-endian. Frames longer than 60 bytes go on with a pattern
//! that depends on the sequence number, so that what an earlier frame left in a buffer is noticed.
//!
//! The check word covers everything from the EtherType to the sequence number but the UDP checksum
//! (which offloads may fill in); the addresses before it are a forwarder's to rewrite. It is made to
//! be cheap twice over: words are rotated by different amounts and added, so that a generator keeps
//! one sum a flow and adds the sequence number, and a multiplication spreads every bit upwards, so
//! that no single changed bit or swapped word goes unnoticed.

use crate::frame::checksum::Sum;
use crate::frame::{Layout, ReceiveChecksums, Verdict};

/// Bytes of the shortest generated frame, without frame check sequence.
pub(super) const HEAD: usize = 60;
const MAGIC: u16 = 0xACE5;
/// EtherType IPv4, version and header length, no differentiated services.
const IPV4_BEGIN: [u8; 4] = [0x08, 0x00, 0x45, 0x00];
/// 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
/// The UDP checksum's place in the word at byte 40.
const UDP_CHECKSUM: u64 = 0xFFFF;
const PATTERN_PERIOD: usize = 256;

/// The first bytes of a generated frame.
pub(super) type Head = [u8; HEAD];

#[inline]
fn word(head: &Head, at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[inline]
fn half(head: &Head, at: usize) -> u16 {
    u16::from_le_bytes([head[at], head[at + 1]])
}

/// The part of the check word that is the same for all frames of a flow.
#[inline]
fn flow_sum(head: &Head) -> u64 {
    (word(head, 12) & 0xFFFF_FFFF)
        .wrapping_add(word(head, 16).rotate_left(7))
        .wrapping_add(word(head, 24).rotate_left(19))
        .wrapping_add(word(head, 32).rotate_left(31))
        .wrapping_add((word(head, 40) & !UDP_CHECKSUM).rotate_left(43))
}

#[inline]
fn check_word(flow_sum: u64, sequence: u64) -> u32 {
    (flow_sum.wrapping_add(sequence).wrapping_mul(SPREAD) >> 32) as u32
}

/// What differs between the flows of a generator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    /// Bytes 24 to 48: from the IP checksum to the flow number.
    words: [u64; 3],
    sum: u64,
    sequence: u64,
}

impl Flow {
    /// Works out flow `flow` of `generator` for frames of `length` bytes whose first bytes are in
    /// `head`.
    pub(super) fn new(generator: u16, flow: u16, length: usize, head: &mut Head) -> Self {
        let [high, low] = flow.to_be_bytes();
        let ip_length = (length - 14) as u16;
        head[12..16].copy_from_slice(&IPV4_BEGIN);
        head[16..18].copy_from_slice(&ip_length.to_be_bytes());
        head[18..22].fill(0);
        head[22..24].copy_from_slice(&[64, 17]);
        head[24..26].fill(0);
        // The network for benchmarks (RFC 2544, section C.2.2).
        head[26..34].copy_from_slice(&[198, 18, high, low, 198, 19, low, high]);
        head[34..36].copy_from_slice(&(0xC000 | flow & 0x3FFF).to_be_bytes());
        head[36..38].copy_from_slice(&(1024 + (generator & 0x3FFF)).to_be_bytes());
        head[38..40].copy_from_slice(&(ip_length - 20).to_be_bytes());
        head[40..42].fill(0);
        head[42..44].copy_from_slice(&MAGIC.to_le_bytes());
        head[44..46].copy_from_slice(&generator.to_le_bytes());
        head[46..48].copy_from_slice(&flow.to_le_bytes());
        let checksum = Sum::default().bytes(&head[14..34]).checksum();
        head[24..26].copy_from_slice(&checksum.to_be_bytes());
        let words = [word(head, 24), word(head, 32), word(head, 40)];
        Self {
            words,
            sum: flow_sum(head),
            sequence: 0,
        }
    }

    /// Stamps `head`, the first bytes of any frame of this generator, as this flow's next frame.
    /// Returns its sequence number.
    #[inline]
    pub(super) fn stamp(&mut self, head: &mut Head) -> u64 {
        let sequence = self.sequence;
        self.sequence += 1;
        head[24..32].copy_from_slice(&self.words[0].to_le_bytes());
        head[32..40].copy_from_slice(&self.words[1].to_le_bytes());
        head[40..48].copy_from_slice(&self.words[2].to_le_bytes());
        head[48..56].copy_from_slice(&sequence.to_le_bytes());
        head[56..60].copy_from_slice(&check_word(self.sum, sequence).to_le_bytes());
        sequence
    }
}

/// A template that is one flow's for good: stamping it anew changes its number and check word only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    sum: u64,
    sequence: u64,
}

impl Place {
    /// Makes `head` a template of `flow`'s, whose first frame has this sequence number.
    pub(super) fn new(flow: &Flow, sequence: u64, head: &mut Head) -> Self {
        let mut flow = *flow;
        flow.sequence = sequence;
        flow.stamp(head);
        Self {
            sum: flow.sum,
            sequence,
        }
    }

    /// Stamps the place's template, padded, as its next frame; the one after it comes `step` frames of the
    /// flow later.
    #[inline(always)]
    pub(super) fn stamp(&mut self, head: &mut [u8; 64], step: u64) {
        let sequence = self.sequence;
        self.sequence += step;
        head[48..56].copy_from_slice(&sequence.to_le_bytes());
        head[56..60].copy_from_slice(&check_word(self.sum, sequence).to_le_bytes());
    }
}

/// What frames of a flow have in common, once one was found intact: the next ones are known by it.
/// Frames with a UDP checksum are not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// Bytes 12 to 44.
    bytes: [u8; 32],
    sum: u64,
    /// Zero: nothing is known.
    length: u32,
}

impl Known {
    /// Learns from an intact frame.
    pub(super) fn learn(frame: &[u8]) -> Self {
        match frame.first_chunk::<HEAD>() {
            Some(head) if half(head, 40) == 0 && frame.len() == HEAD => {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(&head[12..44]);
                Self {
                    bytes,
                    sum: flow_sum(head),
                    length: HEAD as u32,
                }
            }
            _ => Self::default(),
        }
    }

    /// Whether `head`, of the flow and generator that this was learned from, is a whole frame,
    /// intact and number `sequence`.
    #[inline(always)]
    pub(super) fn is(&self, head: &Head, sequence: u64) -> bool {
        self.length == HEAD as u32
            && head[12..44] == self.bytes
            && word(head, 48) == sequence
            && u32::from_le_bytes([head[56], head[57], head[58], head[59]])
                == check_word(self.sum, sequence)
    }
}

/// Generator and flow that a frame names; whether it is one's at all is to be seen.
#[inline(always)]
pub(super) fn names(head: &Head) -> (u16, u16) {
    (half(head, 44), half(head, 46))
}

/// Fills in the UDP checksum of a stamped frame.
pub(super) fn fill_udp_checksum(frame: &mut [u8]) {
    let length = (frame.len() - 34) as u16;
    let pseudo = Sum::default().bytes(&frame[26..34]).word(17).word(length);
    let checksum = match pseudo.bytes(&frame[34..]).checksum() {
        0 => 0xFFFF,
        checksum => checksum,
    };
    frame[40..42].copy_from_slice(&checksum.to_be_bytes());
}

/// What a frame's marks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// No generator made it.
    Foreign,
    /// A generator made it, and it was altered on the way.
    Corrupt,
    /// As it was made.
    Intact {
        /// Which generator.
        generator: u16,
        /// Which of its flows.
        flow: u16,
        /// Which frame of the flow.
        sequence: u64,
    },
}

/// The contents of frames behind their first 60 bytes.
#[derive(Debug)]
pub(super) struct Pattern(Box<[u8]>);

impl Pattern {
    pub(super) fn new() -> Self {
        let numbers = (1u64..).map(|n| (n.wrapping_mul(SPREAD) >> 56) as u8);
        Self(numbers.take(super::MAX_FRAME + PATTERN_PERIOD).collect())
    }

    /// The `length` bytes behind byte 60 of the frame with this sequence number; fewer if the frame
    /// is longer than any.
    #[inline]
    fn tail(&self, sequence: u64, length: usize) -> &[u8] {
        let begin = sequence as usize % PATTERN_PERIOD;
        self.0.get(begin..begin + length).unwrap_or_default()
    }

    /// Fills what comes behind byte 60 of the frame with this sequence number.
    #[inline]
    pub(super) fn fill(&self, sequence: u64, tail: &mut [u8]) {
        tail.copy_from_slice(self.tail(sequence, tail.len()));
    }

    /// Reads and checks a frame's marks.
    #[inline]
    pub(super) fn inspect(&self, frame: &[u8]) -> Mark {
        let Some((head, tail)) = frame.split_first_chunk::<HEAD>() else {
            return Mark::Foreign;
        };
        if head[12..16] != IPV4_BEGIN || half(head, 42) != MAGIC {
            return Mark::Foreign;
        }
        let sequence = word(head, 48);
        let check = u32::from_le_bytes([head[56], head[57], head[58], head[59]]);
        let ip_length = usize::from(u16::from_be_bytes([head[16], head[17]]));
        let sound = check == check_word(flow_sum(head), sequence) && frame.len() == ip_length + 14;
        if !sound || (!tail.is_empty() && tail != self.tail(sequence, tail.len())) {
            return Mark::Corrupt;
        }
        if half(head, 40) != 0 {
            let checksums = ReceiveChecksums::verify(frame, &Layout::of(frame));
            if checksums.l4 != Verdict::Good {
                return Mark::Corrupt;
            }
        }
        Mark::Intact {
            generator: half(head, 44),
            flow: half(head, 46),
            sequence,
        }
    }
}
