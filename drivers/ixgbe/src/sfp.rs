//! The SFP+ module: its identification over I2C, bit by bit (sections 3.5 and 8.2.3.1.5, SFF-8472).
//!
//! Nobody answering is a finding ([`None`]), not a failure: a cage may be empty. Invariant: the
//! wires are let go, and the semaphore given back, whatever happens.

use sumac_device::Clock;

use crate::error::Fault;
use crate::ids::Generation;
use crate::registers::{I2cctl, MICROSECOND, Registers, Status};
use crate::semaphore::{self, Resource};

/// I2C address of the identification memory, write direction (SFF-8472, section 4).
const IDENTIFICATION: u8 = 0xa0;
/// Half a clock period: 100 kHz standard mode.
const HALF_PERIOD: u64 = 5 * MICROSECOND;
/// How often the clock wire is looked at while a module holds it low.
const STRETCH_LOOKS: u32 = 100;
/// Tries at a byte before a module counts as silent.
const TRIES: u32 = 3;

/// Bytes of the identification (SFF-8472, table 4-1).
const IDENTIFIER: u8 = 0;
const ETHERNET_10G: u8 = 3;
const ETHERNET_1G: u8 = 6;
const CABLE: u8 = 8;

/// What a module says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Kind of transceiver; 3 is SFP or SFP+.
    pub identifier: u8,
    /// 10G compliance codes.
    pub ethernet_10g: u8,
    /// 1G compliance codes.
    pub ethernet_1g: u8,
    /// Cable technology.
    pub cable: u8,
}

impl Module {
    /// A name for people.
    pub const fn name(&self) -> &'static str {
        match *self {
            Self { cable, .. } if cable & 0x04 != 0 => "passive direct-attach cable",
            Self { cable, .. } if cable & 0x08 != 0 => "active direct-attach cable",
            Self { ethernet_10g, .. } if ethernet_10g & 0x10 != 0 => "10GBASE-SR",
            Self { ethernet_10g, .. } if ethernet_10g & 0x20 != 0 => "10GBASE-LR",
            Self { ethernet_1g, .. } if ethernet_1g & 0x08 != 0 => "1000BASE-T",
            Self { ethernet_1g, .. } if ethernet_1g & 0x01 != 0 => "1000BASE-SX",
            Self { ethernet_1g, .. } if ethernet_1g & 0x02 != 0 => "1000BASE-LX",
            _ => "unknown module",
        }
    }
}

/// Reads the identification of the module in the cage, if there is one.
///
/// # Errors
/// [`Fault::TimedOut`] for the semaphore, or [`Fault::DeviceGone`].
pub fn identify(
    registers: &Registers,
    clock: &dyn Clock,
    generation: Generation,
) -> Result<Option<Module>, Fault> {
    let lan = registers.get::<Status>().lan_id();
    let _held = semaphore::acquire(registers, clock, generation, Resource::phy(lan))?;
    let wires = Wires { registers, clock };
    let read = |offset| (0..TRIES).find_map(|_| wires.read_byte(offset).ok());
    let module = read(IDENTIFIER).and_then(|identifier| {
        Some(Module {
            identifier,
            ethernet_10g: read(ETHERNET_10G)?,
            ethernet_1g: read(ETHERNET_1G)?,
            cable: read(CABLE)?,
        })
    });
    registers.alive()?;
    Ok(module)
}

/// Nobody pulled the data wire low in the ninth clock, or the clock wire was held for ever.
struct Silent;

/// The two wires; each is low when anybody pulls it.
struct Wires<'a> {
    registers: &'a Registers,
    clock: &'a dyn Clock,
}

impl Wires<'_> {
    /// One random read: address, offset, address again, one byte.
    fn read_byte(&self, offset: u8) -> Result<u8, Silent> {
        let byte = self.addressed_read(offset);
        self.stop();
        byte
    }

    fn addressed_read(&self, offset: u8) -> Result<u8, Silent> {
        self.start()?;
        self.send(IDENTIFICATION)?;
        self.send(offset)?;
        self.start()?;
        self.send(IDENTIFICATION | 1)?;
        let mut byte = 0;
        for _ in 0..8 {
            byte = byte << 1 | u8::from(self.receive_bit()?);
        }
        // Not acknowledged: no more, please.
        self.send_bit(true)?;
        Ok(byte)
    }

    fn data(&self, high: bool) {
        self.registers
            .update(|wires: I2cctl| wires.with_data_out(high));
        self.clock.sleep_ns(HALF_PERIOD);
    }

    fn clock_low(&self) {
        self.registers
            .update(|wires: I2cctl| wires.with_clock_out(false));
        self.clock.sleep_ns(HALF_PERIOD);
    }

    /// Lets the clock wire go and waits until nobody holds it (clock stretching).
    fn clock_high(&self) -> Result<(), Silent> {
        self.registers
            .update(|wires: I2cctl| wires.with_clock_out(true));
        for _ in 0..STRETCH_LOOKS {
            self.clock.sleep_ns(HALF_PERIOD);
            if self.registers.get::<I2cctl>().clock_in() {
                return Ok(());
            }
        }
        Err(Silent)
    }

    fn start(&self) -> Result<(), Silent> {
        self.data(true);
        self.clock_high()?;
        self.data(false);
        self.clock_low();
        Ok(())
    }

    /// Data goes high while the clock is high; both wires are free afterwards.
    fn stop(&self) {
        self.clock_low();
        self.data(false);
        // Held down or not, the wire was let go, which is all a stop can do.
        let _held_down = self.clock_high();
        self.data(true);
    }

    fn send_bit(&self, bit: bool) -> Result<(), Silent> {
        self.data(bit);
        self.clock_high()?;
        self.clock_low();
        Ok(())
    }

    fn receive_bit(&self) -> Result<bool, Silent> {
        self.data(true);
        self.clock_high()?;
        let bit = self.registers.get::<I2cctl>().data_in();
        self.clock_low();
        Ok(bit)
    }

    /// Sends a byte, highest bit first; the module acknowledges by pulling the data wire low.
    fn send(&self, byte: u8) -> Result<(), Silent> {
        for place in (0..8).rev() {
            self.send_bit(byte >> place & 1 != 0)?;
        }
        match self.receive_bit()? {
            false => Ok(()),
            true => Err(Silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cable_is_a_cable_whatever_else_it_claims() {
        let cable = Module {
            identifier: 3,
            ethernet_10g: 0x10,
            ethernet_1g: 0,
            cable: 4,
        };
        assert_eq!(cable.name(), "passive direct-attach cable");
        let optics = Module {
            identifier: 3,
            ethernet_10g: 0x20,
            ethernet_1g: 0,
            cable: 0,
        };
        assert_eq!(optics.name(), "10GBASE-LR");
    }
}
