//! The 82599's configuration space (section 9.3), without what this model has not: virtual functions, an
//! expansion ROM, the I/O BAR.
//!
//! Invariant: everything a write sets in motion is told by [`Changes`].

use super::registers::BAR_BYTES;
use super::{DEVICE_SFP, Identity, VENDOR};
use crate::pci::{COMMAND, COMMAND_BUS_MASTER, COMMAND_INTX_OFF, ConfigSpace, Ids};

/// Length of the MSI-X BAR, number 4 (section 9.3.6.1).
pub const MSIX_BAR_BYTES: u32 = 16 * 1024;
/// Where the pending bits are in it (section 9.3.8).
pub const MSIX_PENDING: u32 = 0x2000;
/// Number of MSI-X vectors (section 9.3.8.1).
pub const MSIX_VECTORS: u16 = 64;

const POWER: usize = 0x40;
const MSI: usize = 0x50;
const MSIX: usize = 0x70;
const EXPRESS: usize = 0xA0;
/// Device control, inside the PCI Express capability (section 9.3.10.4).
const DEVICE_CONTROL: usize = EXPRESS + 8;
/// Device control bit 15: initiate a function level reset.
const FUNCTION_RESET: u16 = 1 << 15;
/// Power management control and status (section 9.3.5.4).
const POWER_STATE: usize = POWER + 4;
/// Subsystem of an X520-2.
const SUBSYSTEM_X520: u16 = 0x0003;

/// A function's configuration space at power-on; without MSI-X if it has no vectors.
pub fn config_space(identity: &Identity, vectors: u16) -> ConfigSpace {
    let mut space = ConfigSpace::new(Ids {
        vendor: VENDOR,
        device: identity.device_id,
        subsystem_vendor: VENDOR,
        subsystem: if identity.device_id == DEVICE_SFP {
            SUBSYSTEM_X520
        } else {
            0
        },
        revision: 1,
        class: 0x02_0000,
    });
    space.memory_bar(0, BAR_BYTES);
    space.memory_bar(4, MSIX_BAR_BYTES);
    // Version 3, device specific initialisation; PME from D0 and D3hot.
    space.capability(
        POWER,
        0x01,
        &[0x23, 0x48, 0x00, 0x00, 0x00, 0x00],
        &[0, 0, 0x03, 0x01, 0, 0],
    );
    // One vector, 64-bit addresses, a mask bit.
    let mut msi = [0; 22];
    msi[..2].copy_from_slice(&0x0180_u16.to_le_bytes());
    let mut writable = [0; 22];
    writable[0] = 0x71;
    writable[2..12].copy_from_slice(&[0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    writable[14] = 1;
    space.capability(MSI, 0x05, &msi, &writable);
    if let Some(last) = vectors.checked_sub(1) {
        let mut msix = [0; 10];
        msix[..2].copy_from_slice(&last.to_le_bytes());
        msix[2..6].copy_from_slice(&4_u32.to_le_bytes());
        msix[6..].copy_from_slice(&(MSIX_PENDING | 4).to_le_bytes());
        space.capability(MSIX, 0x11, &msix, &[0, 0xC0]);
    }
    let (express, writable) = express();
    space.capability(EXPRESS, 0x10, &express, &writable);
    // Advanced error reporting: nothing ever goes wrong.
    space.extended_capability(0x100, 0x0001, 1, &[0; 0x28]);
    // Serial number: the address, with FFFF in the middle (section 9.4.2).
    let m = identity.mac;
    let serial = [m[5], m[4], m[3], 0xFF, 0xFF, m[2], m[1], m[0]];
    space.extended_capability(0x140, 0x0003, 1, &serial);
    space.finish()
}

/// The PCI Express capability without its first two bytes, and what of it can be written (section
/// 9.3.10): an endpoint of version 2 on eight lanes at 5 GT/s.
fn express() -> ([u8; 58], [u8; 58]) {
    let mut bytes = [0; 58];
    let mut writable = [0; 58];
    let put = |bytes: &mut [u8; 58], at: usize, value: u32| {
        bytes[at - 2..at + 2].copy_from_slice(&value.to_le_bytes());
    };
    bytes[..2].copy_from_slice(&0x0002_u16.to_le_bytes());
    // Device capabilities: payload up to 512 bytes, function level reset.
    put(&mut bytes, 0x04, 0x1000_8CC2);
    put(&mut bytes, 0x08, 0x0000_2810);
    put(&mut writable, 0x08, 0x0000_7FFF);
    // Link capabilities, link status: 5 GT/s, eight lanes.
    put(&mut bytes, 0x0C, 0x0003_9C82);
    put(&mut bytes, 0x10, 0x1082_0000);
    put(&mut writable, 0x10, 0x0000_01C3);
    // Device capabilities 2: completion timeouts, and that they can be disabled.
    put(&mut bytes, 0x24, 0x0000_001F);
    put(&mut writable, 0x28, 0x0000_001F);
    put(&mut bytes, 0x30, 0x0000_0002);
    put(&mut writable, 0x30, 0x0000_005F);
    (bytes, writable)
}

/// What a write to configuration space asks the function to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Reset it: a function level reset, or the way back from D3 (section 4.2.1).
    pub reset: bool,
    /// Whether it may use the bus now.
    pub bus_master: bool,
    /// Whether it may use its interrupt pin now.
    pub pin: bool,
}

/// Writes, and says what comes of it. A reset that was asked for has taken place in `space` already.
pub fn write(space: &mut ConfigSpace, offset: usize, data: &[u8]) -> Changes {
    let asleep = power_state(space) == 3;
    space.write(offset, data);
    let flr = (offset..).zip(data).any(|(at, &value)| {
        at == DEVICE_CONTROL + 1 && u16::from(value) << 8 & FUNCTION_RESET != 0
    });
    let reset = flr || asleep && power_state(space) == 0;
    if reset {
        space.reset();
    }
    let command = space.get16(COMMAND);
    Changes {
        reset,
        bus_master: command & COMMAND_BUS_MASTER != 0 && power_state(space) == 0,
        pin: command & COMMAND_INTX_OFF == 0,
    }
}

fn power_state(space: &ConfigSpace) -> u16 {
    space.get16(POWER_STATE) & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(space: &ConfigSpace) -> Vec<(usize, u8)> {
        let mut at = usize::from(space.get16(0x34) & 0xFF);
        let mut found = Vec::new();
        while at != 0 {
            let [id, next] = space.get16(at).to_le_bytes();
            found.push((at, id));
            at = next.into();
        }
        found
    }

    #[test]
    fn its_capabilities_are_the_82599s() {
        let space = config_space(&Identity::default(), MSIX_VECTORS);
        assert_eq!(
            walk(&space),
            [(0x40, 1), (0x50, 5), (0x70, 0x11), (0xA0, 0x10)]
        );
        assert_eq!(space.get16(0x72) & 0x7FF, 63);
        assert_eq!(space.get16(0xB2) & 0x3FF, 0x82, "eight lanes at 5 GT/s");
        assert_eq!([space.get16(0x0A), space.get16(0x2E)], [0x0200, 3]);
    }

    #[test]
    fn a_function_without_vectors_does_not_offer_them() {
        let space = config_space(&Identity::default(), 0);
        assert_eq!(walk(&space), [(0x40, 1), (0x50, 5), (0xA0, 0x10)]);
    }

    #[test]
    fn the_bus_is_used_only_when_allowed_and_awake() {
        let mut space = config_space(&Identity::default(), MSIX_VECTORS);
        assert!(!write(&mut space, 0x0C, &[8]).bus_master);
        assert!(write(&mut space, COMMAND, &[6, 0]).bus_master);
        assert!(!write(&mut space, COMMAND, &[6, 4]).pin);
        assert!(!write(&mut space, POWER_STATE, &[3]).bus_master);
        let awake = write(&mut space, POWER_STATE, &[0]);
        assert!(awake.reset && !awake.bus_master, "D3 forgets everything");
    }

    #[test]
    fn a_function_level_reset_is_asked_for_and_reads_as_zero() {
        let mut space = config_space(&Identity::default(), MSIX_VECTORS);
        write(&mut space, COMMAND, &[6, 0]);
        let control = space.get16(DEVICE_CONTROL);
        let changes = write(
            &mut space,
            DEVICE_CONTROL,
            &(control | FUNCTION_RESET).to_le_bytes(),
        );
        assert!(changes.reset && !changes.bus_master);
        assert_eq!(space.get16(DEVICE_CONTROL), 0x2810);
    }
}
