//! Strict mode: what a driver did against the datasheet, counted by name.
//!
//! Invariant: recording a violation never changes what the device does; silicon would not complain
//! either, it would misbehave.

use std::fmt;

/// How many violations of a kind are kept with a description.
const DESCRIBED: usize = 8;

macro_rules! violations {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A rule a driver broke.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Violation {
            $($(#[$doc])* $variant,)*
        }

        impl Violation {
            /// Every rule there is.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name reports use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

violations! {
    /// A reserved register bit was set.
    ReservedBit = "reserved-bit",
    /// A tail at or beyond the ring's length.
    TailBeyondRing = "tail-beyond-ring",
    /// A ring length of zero, or no multiple of 128 bytes.
    RingLength = "ring-length",
    /// Base, length, head or buffer sizes of a queue written while it is enabled.
    QueueWriteWhileEnabled = "queue-write-while-enabled",
    /// Whether frame check sequences are stripped, changed while the receiver is enabled.
    ControlWriteWhileReceiving = "control-write-while-receiving",
    /// A tail moved before the queue was enabled, or a queue enabled with one that is not its head
    /// (sections 4.6.7.1 and 4.6.8.1).
    TailWhileDisabled = "tail-while-disabled",
    /// A transmit queue enabled before DMATXCTL.TE.
    TransmitEnableOrder = "transmit-enable-order",
    /// TXDCTL.PTHRESH and WTHRESH add up to more descriptors than the device holds of a queue.
    ThresholdsTooHigh = "thresholds-too-high",
    /// Head write-back with TXDCTL.WTHRESH above zero.
    HeadWriteBackThreshold = "head-write-back-threshold",
    /// MTQC written while the descriptor arbiter runs.
    MtqcWithArbiter = "mtqc-with-arbiter",
    /// HLREG0 and RDRXCTL disagree on stripping the frame check sequence.
    CrcStripMismatch = "crc-strip-mismatch",
    /// A receive buffer posted while the device still owns it (deep checks only).
    PostedTwice = "posted-twice",
    /// A reserved bit or a stale DD in a descriptor.
    DescriptorReserved = "descriptor-reserved",
    /// A descriptor type or option this device does not have.
    DescriptorType = "descriptor-type",
    /// A transmit descriptor without data.
    ZeroLength = "zero-length",
    /// A frame that asks for a context nobody wrote.
    MissingContext = "missing-context",
    /// PAYLEN is not the sum of the frame's buffers.
    PayloadLength = "payload-length",
    /// A frame longer than the MAC may send.
    FrameTooLong = "frame-too-long",
    /// A frame without IFCS while the MAC adds no frame check sequence, or the reverse.
    FrameCheckSequence = "frame-check-sequence",
    /// Segmentation with header lengths that do not fit the frame, or segments of no bytes.
    SegmentContext = "segment-context",
    /// Header split, which this model does not have.
    HeaderSplitUnsupported = "header-split-unsupported",
    /// Checksum offload with header lengths that do not fit the frame.
    ChecksumContext = "checksum-context",
    /// A bus address that is no memory of the driver's.
    DmaFault = "dma-fault",
    /// A register access outside the BAR or not at a multiple of four.
    BarAccess = "bar-access",
}

/// Violations by name, with the first few described.
#[derive(Clone, Debug)]
pub struct Violations {
    counts: [u64; Violation::ALL.len()],
    described: Vec<(Violation, String)>,
}

impl Violations {
    pub(super) fn new() -> Self {
        Self {
            counts: [0; Violation::ALL.len()],
            described: Vec::new(),
        }
    }

    /// Counts one violation; `describe` is called for the first few only.
    #[cold]
    pub(super) fn record(&mut self, violation: Violation, describe: impl FnOnce() -> String) {
        let count = &mut self.counts[violation as usize];
        *count += 1;
        if *count <= DESCRIBED as u64 {
            self.described.push((violation, describe()));
        }
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of one kind there were.
    pub fn count(&self, violation: Violation) -> u64 {
        self.counts[violation as usize]
    }

    /// Those that happened, by name, with their number.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        (Violation::ALL.iter())
            .map(|&violation| (violation.name(), self.count(violation)))
            .filter(|&(_, count)| count != 0)
    }

    /// The first few, with what exactly happened.
    pub fn described(&self) -> impl Iterator<Item = (Violation, &str)> + '_ {
        (self.described.iter()).map(|(violation, text)| (*violation, text.as_str()))
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violations", self.total())?;
        for (name, count) in self.by_name() {
            write!(f, ", {name} {count}")?;
        }
        for (violation, text) in self.described() {
            write!(f, "\n  {}: {text}", violation.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_but_describes_only_the_first() {
        let mut violations = Violations::new();
        for index in 0..100 {
            violations.record(Violation::ZeroLength, || format!("descriptor {index}"));
        }
        assert_eq!(violations.total(), 100);
        assert_eq!(
            violations.by_name().collect::<Vec<_>>(),
            [("zero-length", 100)]
        );
        assert_eq!(violations.described().count(), DESCRIBED);
        assert!(violations.to_string().contains("descriptor 0"));
    }
}
