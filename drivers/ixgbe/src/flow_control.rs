//! Pause frames (sections 3.7.7.3 and 4.6.3.2).

use crate::ids::Generation;
use crate::registers::{Fccfg, Fcrth, Fcrtl, Mflcn, Pause, Registers};

/// Which pause frames a port sends and obeys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowControl {
    /// Neither.
    #[default]
    None,
    /// Obeys them.
    Receive,
    /// Sends them when its packet buffer fills.
    Transmit,
    /// Both.
    Full,
}

impl FlowControl {
    /// Whether pause frames are obeyed.
    pub const fn receives(self) -> bool {
        matches!(self, Self::Receive | Self::Full)
    }

    /// Whether pause frames are sent.
    pub const fn transmits(self) -> bool {
        matches!(self, Self::Transmit | Self::Full)
    }
}

/// Room kept above the high threshold: frames on their way when XOFF is sent (section 4.6.3.2).
const HEADROOM_BYTES: u32 = 0x6000;
/// How long a partner pauses, in slot times of 64 bytes.
const PAUSE_TIME: u32 = 0x0680;
/// Thresholds are in units of this many bytes.
const THRESHOLD_UNIT: u32 = 32;

/// Sets both directions. FCRTH is needed even without flow control (section 4.6.3.2); without
/// it every other register is zero.
pub(crate) fn apply(registers: &Registers, generation: Generation, mode: FlowControl) {
    let high = generation.receive_buffer_kib() * 1024 - HEADROOM_BYTES;
    let low = high / 2;
    let units = |bytes: u32| (bytes / THRESHOLD_UNIT) as u16;
    let sends = mode.transmits();

    let time = if sends { PAUSE_TIME } else { 0 };
    registers.write(Pause::Fcttv(0), time << 16 | time);
    for pair in 1..4 {
        registers.write(Pause::Fcttv(pair), 0);
    }
    registers.write(Pause::Fcrtv, time / 2);
    let low = Fcrtl::new()
        .with_threshold(if sends { units(low) } else { 0 })
        .with_xon(sends);
    registers.set_at(0, low);
    registers.set_at(0, Fcrth::new().with_threshold(units(high)).with_xoff(sends));
    for class in 1..8 {
        registers.set_at(class, Fcrtl::new());
        registers.set_at(class, Fcrth::new());
    }
    registers.update(|fccfg: Fccfg| fccfg.with_transmit(u8::from(sends)));
    registers.update(|mflcn: Mflcn| {
        mflcn
            .with_receive_priority(false)
            .with_receive_pause(mode.receives())
            .with_discard_pause(true)
    });
}
