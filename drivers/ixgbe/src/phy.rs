//! The PHY behind MDIO: clause 45 accesses through MSCA and MSRWD (sections 3.7.2 and 8.2.3.22.11).

use sumac_device::Clock;

use crate::error::{Fault, Wait};
use crate::ids::Generation;
use crate::registers::{MICROSECOND, MILLISECOND, Msca, Msrwd, Registers, Status};
use crate::semaphore::{self, Resource};

/// How long one MDIO cycle may take.
const MDIO_TIMEOUT: u64 = 10 * MILLISECOND;
/// Between two looks at the command bit.
const MDIO_INTERVAL: u64 = 10 * MICROSECOND;
/// PHYs an MDIO bus can have (IEEE 802.3, clause 45).
const PHY_ADDRESSES: u8 = 32;
/// The PMA/PMD device in a PHY (clause 45).
const PMA: u8 = 1;
/// Identifier registers of any device in a PHY (clause 45).
const ID_HIGH: u16 = 2;
const ID_LOW: u16 = 3;

/// MSCA operations.
const ADDRESS: u8 = 0;
const WRITE: u8 = 1;
const READ: u8 = 3;

/// A PHY that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phy {
    /// Its address on the bus.
    pub address: u8,
    /// Its identifier, with the revision in the low four bits.
    pub id: u32,
}

/// MDIO accesses on behalf of one port.
pub struct Mdio<'a> {
    registers: &'a Registers,
    clock: &'a dyn Clock,
    generation: Generation,
}

impl<'a> Mdio<'a> {
    /// MDIO accesses through `registers`.
    pub fn new(registers: &'a Registers, clock: &'a dyn Clock, generation: Generation) -> Self {
        Self {
            registers,
            clock,
            generation,
        }
    }

    /// Reads a clause 45 register.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] (MDIO or the semaphore before it) or [`Fault::DeviceGone`].
    pub fn read(&self, phy: u8, device: u8, register: u16) -> Result<u16, Fault> {
        let _held = self.hold()?;
        self.read_held(phy, device, register)
    }

    /// Writes a clause 45 register.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] (MDIO or the semaphore before it) or [`Fault::DeviceGone`].
    pub fn write(&self, phy: u8, device: u8, register: u16, value: u16) -> Result<(), Fault> {
        let _held = self.hold()?;
        self.registers.set(Msrwd::new().with_write(value));
        self.cycle(phy, device, register, ADDRESS)?;
        self.cycle(phy, device, register, WRITE)
    }

    /// Looks for a PHY on every address; `None` is a finding (most 82599 ports have none), not a
    /// failure.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] (MDIO or the semaphore before it) or [`Fault::DeviceGone`].
    pub fn find(&self) -> Result<Option<Phy>, Fault> {
        let _held = self.hold()?;
        for address in 0..PHY_ADDRESSES {
            let high = self.read_held(address, PMA, ID_HIGH)?;
            let low = self.read_held(address, PMA, ID_LOW)?;
            let id = u32::from(high) << 16 | u32::from(low);
            // An idle bus reads as ones; a PHY in reset as zeros.
            if ![0, 0xffff].contains(&high) {
                return Ok(Some(Phy { address, id }));
            }
        }
        Ok(None)
    }

    fn hold(&self) -> Result<semaphore::Held<'a>, Fault> {
        let lan = self.registers.get::<Status>().lan_id();
        semaphore::acquire(
            self.registers,
            self.clock,
            self.generation,
            Resource::phy(lan),
        )
    }

    fn read_held(&self, phy: u8, device: u8, register: u16) -> Result<u16, Fault> {
        self.cycle(phy, device, register, ADDRESS)?;
        self.cycle(phy, device, register, READ)?;
        Ok(self.registers.get::<Msrwd>().read())
    }

    fn cycle(&self, phy: u8, device: u8, register: u16, operation: u8) -> Result<(), Fault> {
        let command = Msca::new()
            .with_address(register)
            .with_device(device)
            .with_phy(phy)
            .with_operation(operation)
            .with_command(true);
        self.registers.set(command);
        self.registers.wait(
            self.clock,
            Wait::Mdio,
            MDIO_INTERVAL,
            MDIO_TIMEOUT,
            |registers| !registers.get::<Msca>().command(),
        )
    }
}
