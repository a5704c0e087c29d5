//! Resources shared with the firmware and the other port (section 10.5.4).
//!
//! A [`Held`] resource is given back when dropped. A driver that died, or whose device went away,
//! holding SWSM.SMBI or a resource leaves it held for ever, through resets too, so it is overruled
//! when its time is over. Firmware is not.

use sumac_device::Clock;

use crate::error::{Fault, Wait};
use crate::ids::Generation;
use crate::registers::{MICROSECOND, MILLISECOND, Registers, SwFwSync, Swsm};

/// What can be held: bits of SW_FW_SYNC (section 8.2.3.4.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// MDIO and I2C of port 0.
    Phy0 = 1 << 1,
    /// MDIO and I2C of port 1.
    Phy1 = 1 << 2,
    /// MAC registers shared with firmware: AUTOC.
    MacRegisters = 1 << 3,
}

impl Resource {
    /// The PHY resource of the port on `lan` (STATUS.LAN_ID).
    pub fn phy(lan: u8) -> Self {
        if lan == 0 { Self::Phy0 } else { Self::Phy1 }
    }
}

/// SMBI and SWESMBI are held for a few register accesses only.
const SEMAPHORE_TIMEOUT: u64 = 100 * MILLISECOND;
/// Between two tries at a semaphore.
const SEMAPHORE_INTERVAL: u64 = 50 * MICROSECOND;
/// Firmware may hold a resource this long (section 10.5.4).
const RESOURCE_TIMEOUT: u64 = 1_000 * MILLISECOND;
/// Between two tries at a resource.
const RESOURCE_INTERVAL: u64 = 5 * MILLISECOND;

/// A resource this driver holds.
pub struct Held<'a> {
    registers: &'a Registers,
    clock: &'a dyn Clock,
    generation: Generation,
    resource: Resource,
}

/// Takes `resource`, waiting for whoever has it.
///
/// # Errors
/// [`Fault::TimedOut`] naming the semaphore or the resource, or [`Fault::DeviceGone`].
pub fn acquire<'a>(
    registers: &'a Registers,
    clock: &'a dyn Clock,
    generation: Generation,
    resource: Resource,
) -> Result<Held<'a>, Fault> {
    let taken = wait_for(registers, clock, generation, resource);
    let held_too_long = Wait::SharedResource;
    if !matches!(taken, Err(Fault::TimedOut { wait, .. }) if wait == held_too_long) {
        return taken;
    }
    forget_drivers(registers, clock, generation)?;
    wait_for(registers, clock, generation, resource)
}

/// Takes `resource` once nobody has it.
fn wait_for<'a>(
    registers: &'a Registers,
    clock: &'a dyn Clock,
    generation: Generation,
    resource: Resource,
) -> Result<Held<'a>, Fault> {
    let bit = resource as u8;
    let mut failed = None;
    // Given back if the device is found gone after all.
    let mut held = None;
    let waited = registers.wait(
        clock,
        Wait::SharedResource,
        RESOURCE_INTERVAL,
        RESOURCE_TIMEOUT,
        |registers| {
            if let Err(fault) = lock_sync(registers, clock, generation) {
                failed = Some(fault);
                return true;
            }
            let sync: SwFwSync = registers.get();
            let free = (sync.software() | sync.firmware()) & bit == 0;
            if free {
                registers.set(sync.with_software(sync.software() | bit));
                held = Some(resource);
            }
            unlock_sync(registers, generation);
            free
        },
    );
    let held = held.map(|resource| Held {
        registers,
        clock,
        generation,
        resource,
    });
    failed.map_or(waited, Err)?;
    held.ok_or(Fault::DeviceGone)
}

/// Takes from drivers what they hold: none holds a resource as long as was waited and lives. This one
/// holds none itself, since it waits for one only then.
fn forget_drivers(
    registers: &Registers,
    clock: &dyn Clock,
    generation: Generation,
) -> Result<(), Fault> {
    lock_sync(registers, clock, generation)?;
    registers.update(|sync: SwFwSync| sync.with_software(0));
    unlock_sync(registers, generation);
    Ok(())
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Without the lock firmware's bits may change meanwhile, and writing them back would have it
        // hold for ever what it let go of, or lose what it took. Whoever wants the resource next takes
        // it from a driver that held it too long.
        if lock_sync(self.registers, self.clock, self.generation).is_ok() {
            let kept = !(self.resource as u8);
            self.registers
                .update(|sync: SwFwSync| sync.with_software(sync.software() & kept));
            unlock_sync(self.registers, self.generation);
        }
    }
}

/// Takes the right to change SW_FW_SYNC: SMBI against other drivers, then SWESMBI (82599) or
/// REGSMP (X540, X550) against firmware.
fn lock_sync(
    registers: &Registers,
    clock: &dyn Clock,
    generation: Generation,
) -> Result<(), Fault> {
    let wait = |wait, take: fn(&Registers) -> bool| {
        registers.wait(clock, wait, SEMAPHORE_INTERVAL, SEMAPHORE_TIMEOUT, take)
    };
    let driver = |registers: &Registers| !registers.get::<Swsm>().driver();
    if let Err(fault) = wait(Wait::DriverSemaphore, driver) {
        if fault == Fault::DeviceGone {
            return Err(fault);
        }
        // Nobody holds it this long and lives.
        registers.update(|swsm: Swsm| swsm.with_driver(false).with_firmware(false));
        wait(Wait::DriverSemaphore, driver)?;
    }
    let firmware = wait(
        Wait::FirmwareSemaphore,
        match generation {
            Generation::I82599 => |registers| {
                registers.update(|swsm: Swsm| swsm.with_driver(true).with_firmware(true));
                registers.get::<Swsm>().firmware()
            },
            Generation::X540 | Generation::X550 => {
                |registers| !registers.get::<SwFwSync>().register_semaphore()
            }
        },
    );
    if firmware.is_err() {
        registers.update(|swsm: Swsm| swsm.with_driver(false));
    }
    firmware
}

/// Gives it back, in the opposite order.
fn unlock_sync(registers: &Registers, generation: Generation) {
    if generation != Generation::I82599 {
        registers.update(|sync: SwFwSync| sync.with_register_semaphore(false));
    }
    registers.update(|swsm: Swsm| swsm.with_driver(false).with_firmware(false));
}
