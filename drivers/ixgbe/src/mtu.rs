//! Frame length: MAXFRS and jumbo reception (sections 4.6.7 and 8.2.3.22.13).

use crate::config::ConfigError;
use crate::registers::{Hlreg0, Maxfrs, Registers};

/// Smallest MTU: what IPv4 needs (RFC 791).
pub const MIN: u16 = 68;
/// Longest frame in bytes, CRC included.
pub const MAX_FRAME: u16 = 9728;
/// Ethernet header and CRC around a packet; the MAC allows for VLAN tags by itself.
pub const FRAME_OVERHEAD: u16 = 18;
/// Largest MTU.
pub const MAX: u16 = MAX_FRAME - FRAME_OVERHEAD;
/// Longest frame without jumbo reception.
const STANDARD_FRAME: u16 = 1518;

/// Whether `mtu` is in range.
///
/// # Errors
/// [`ConfigError::Mtu`].
pub fn check(mtu: u16) -> Result<(), ConfigError> {
    match mtu {
        MIN..=MAX => Ok(()),
        _ => Err(ConfigError::Mtu(mtu)),
    }
}

/// Accepts frames that carry `mtu` bytes; what is longer is counted as oversized and dropped.
///
/// Receive must be halted.
pub(crate) fn apply(registers: &Registers, mtu: u16) {
    let frame = mtu + FRAME_OVERHEAD;
    registers.update(|maxfrs: Maxfrs| maxfrs.with_bytes(frame.max(STANDARD_FRAME)));
    registers.update(|hlreg0: Hlreg0| hlreg0.with_jumbo(frame > STANDARD_FRAME));
}
