//! A PCI function's command register and its resets, however configuration space is reached.

use std::fmt;
use std::io;
use std::sync::Arc;

use sumac_device::registers::{Readable, Writable};
use sumac_device::{Bar, Clock, DeviceBacking, DmaSpace, PciId};

use crate::time::LinuxClock;

/// Configuration space (PCI Local Bus Specification 3.0, chapter 6).
pub(crate) trait Config {
    /// Reads `bytes` at `offset`.
    fn read(&self, offset: u16, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes them.
    fn write(&self, offset: u16, bytes: &[u8]) -> io::Result<()>;
}

/// Vendor and device id (section 6.2.1).
const IDS: u16 = 0x00;
/// Revision and class (sections 6.2.1 and 6.2.5): a dword that no layer between keeps a copy of, and that is not all ones.
const CLASS: u16 = 0x08;
/// The command register (section 6.2.2).
const COMMAND: u16 = 0x04;
/// It decodes memory.
const MEMORY: u16 = 1 << 1;
/// It does DMA, and sends interrupts as messages.
const BUS_MASTER: u16 = 1 << 2;
/// Intel's vendor id.
const INTEL: u16 = 0x8086;

/// What configuration space says of vendor and device.
///
/// # Errors
/// The device is gone, or configuration space cannot be reached.
pub(crate) fn ids(config: &impl Config) -> io::Result<PciId> {
    Ok(PciId {
        vendor: read16(config, IDS)?,
        device: read16(config, IDS + 2)?,
    })
}

/// Whether the function answers at all; one that does not reaches no memory either.
pub(crate) fn answers(config: &impl Config) -> bool {
    let mut class = [0; 4];
    config.read(CLASS, &mut class).is_ok() && class != [0xFF; 4]
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the device is gone")
}

/// Whether a driver can reach the device: the function answers, and so does the first of its registers, which is all ones
/// in no device driven here.
pub(crate) fn is_there(config: &impl Config, bar: &Bar) -> bool {
    answers(config) && bar.read(First) != u32::MAX
}

/// Lets the function do DMA or not; memory decoding is on in either case. Looks whether it took effect.
///
/// # Errors
/// It did not, or the device is gone.
pub(crate) fn set_bus_master(config: &impl Config, on: bool) -> io::Result<()> {
    let command = read16(config, COMMAND)? | MEMORY;
    let wanted = match on {
        true => command | BUS_MASTER,
        false => command & !BUS_MASTER,
    };
    config.write(COMMAND, &wanted.to_le_bytes())?;
    match read16(config, COMMAND)? & BUS_MASTER == wanted & BUS_MASTER {
        true => Ok(()),
        false if !answers(config) => Err(gone()),
        false => Err(io::Error::other("bus mastering stays as it was")),
    }
}

/// What a driver takes of the device that `name` stands for.
pub(crate) fn backing(name: String, id: PciId, bar: &Bar, dma: Arc<dyn DmaSpace>) -> DeviceBacking {
    DeviceBacking {
        name,
        id,
        bar: bar.clone(),
        dma,
        clock: Arc::new(LinuxClock),
    }
}

/// Ends a function's DMA, and resets it: by `reset`, or if that fails by its own registers. It stands still when
/// this returns.
///
/// # Errors
/// It does not, or the device is gone.
pub(crate) fn halt(
    config: &impl Config,
    id: PciId,
    bar: &Bar,
    clock: &dyn Clock,
    reset: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    if !answers(config) {
        return Err(gone());
    }
    // One that goes on all the same is what a reset is for.
    let quiet = set_bus_master(config, false);
    let reset = reset().or_else(|error| {
        log::info!("no function-level reset ({error}); the device's own instead");
        own_reset(id, bar, clock)
    });
    reset.and(quiet)?;
    match read16(config, COMMAND)? & BUS_MASTER {
        0 => Ok(()),
        _ => Err(io::Error::other("it is bus master again after its reset")),
    }
}

/// Whether a device stands still after [`halt`]; also if it does not, but is not there to do harm. Says why not.
pub(crate) fn stopped(
    device: &dyn fmt::Display,
    halted: io::Result<()>,
    is_there: impl FnOnce() -> bool,
) -> bool {
    match halted {
        Ok(()) => true,
        Err(_) if !is_there() => true,
        Err(error) => {
            log::error!(
                "{device}: cannot be stopped, so what it could reach is not used again: {error}"
            );
            false
        }
    }
}

fn read16(config: &impl Config, offset: u16) -> io::Result<u16> {
    let mut bytes = [0; 2];
    config.read(offset, &mut bytes)?;
    match u16::from_le_bytes(bytes) {
        // No register read here can be all ones in a device that is there.
        u16::MAX => Err(gone()),
        value => Ok(value),
    }
}

/// A function's first register.
#[derive(Clone, Copy)]
struct First;

impl Readable for First {
    fn offset(self) -> u32 {
        0
    }
}

/// The reset that a function has in its own registers, where it is known.
#[derive(Clone, Copy)]
struct OwnReset {
    /// The register.
    register: u32,
    /// The bit, which clears itself when the reset is over.
    bit: u32,
}

impl Readable for OwnReset {
    fn offset(self) -> u32 {
        self.register
    }
}

impl Writable for OwnReset {
    fn offset(self) -> u32 {
        self.register
    }
}

/// Resets a function by its own registers.
///
/// # Errors
/// None is known for it, or it did not come back.
fn own_reset(id: PciId, bar: &Bar, clock: &dyn Clock) -> io::Result<()> {
    let reset = match id.vendor {
        // CTRL.RST of Intel's network controllers (82599 datasheet, section 8.2.3.1.1).
        INTEL => OwnReset {
            register: 0,
            bit: 1 << 26,
        },
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it has no reset",
            ));
        }
    };
    bar.write(reset, bar.read(reset) | reset.bit);
    // The datasheet wants a millisecond before the bit is looked at.
    clock.sleep_ns(1_000_000);
    let done = || bar.read(reset) & reset.bit == 0;
    (clock.wait_until(100_000, 100_000_000, done))
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "its reset does not end"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::bar::{Calls, MappedBar};

    struct Space(RefCell<[u8; 64]>, u16);

    /// Registers that all read so.
    struct Same(u32);

    impl Calls for Same {
        fn read32(&self, _offset: u32) -> u32 {
            self.0
        }

        fn write32(&self, _offset: u32, _value: u32) {}
    }

    impl Config for Space {
        fn read(&self, offset: u16, bytes: &mut [u8]) -> io::Result<()> {
            let at = usize::from(offset);
            bytes.copy_from_slice(&self.0.borrow()[at..at + bytes.len()]);
            Ok(())
        }

        fn write(&self, offset: u16, bytes: &[u8]) -> io::Result<()> {
            let at = usize::from(offset);
            let value = u16::from_le_bytes([bytes[0], bytes[1]]) | self.1;
            self.0.borrow_mut()[at..at + 2].copy_from_slice(&value.to_le_bytes());
            Ok(())
        }
    }

    #[test]
    fn bus_mastering_is_switched_and_looked_at() {
        let space = Space(RefCell::new([0; 64]), 0);
        set_bus_master(&space, true).unwrap();
        assert_eq!(space.0.borrow()[4..6], [6, 0]);
        set_bus_master(&space, false).unwrap();
        assert_eq!(space.0.borrow()[4..6], [2, 0]);
        let stuck = Space(RefCell::new([0; 64]), BUS_MASTER);
        assert!(set_bus_master(&stuck, false).is_err());
    }

    #[test]
    fn a_function_that_keeps_the_bus_is_reset() {
        let stuck = Space(RefCell::new([0; 64]), BUS_MASTER);
        let mut resets = 0;
        let id = PciId {
            vendor: INTEL,
            device: 0x10FB,
        };
        let bar = Bar::new(sumac_testbed::host::Registers::new());
        let stopped = halt(&stuck, id, &bar, &LinuxClock, || {
            resets += 1;
            Ok(())
        });
        assert!(stopped.is_err());
        assert_eq!(resets, 1);
    }

    #[test]
    fn a_device_that_is_gone_is_noticed() {
        let space = Space(RefCell::new([0xFF; 64]), 0);
        let error = set_bus_master(&space, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        assert!(ids(&space).is_err() && !answers(&space));
        // vfio-pci answers for ids and most of the command register itself.
        let behind_vfio = Space(RefCell::new([0xFF; 64]), 0);
        behind_vfio.0.borrow_mut()[..2].copy_from_slice(&INTEL.to_le_bytes());
        behind_vfio.0.borrow_mut()[4..6].copy_from_slice(&[0xFF, 0xFB]);
        assert!(!answers(&behind_vfio));
        let bar =
            |register: u32| Bar::new(Arc::new(MappedBar::new(16, Vec::new(), Same(register))));
        assert!(!is_there(&space, &bar(0)));
        let answering = Space(RefCell::new([0; 64]), 0);
        assert!(is_there(&answering, &bar(0)));
        assert!(!is_there(&answering, &bar(u32::MAX)));
    }
}
