//! The software Intel 82599: a model of the silicon at the register and descriptor level, written
//! from the datasheet (Intel 82599 10 GbE Controller Datasheet, revision 3.4).
//!
//! [`device`] holds the core, [`registers`], `control`, `receive` and `transmit` what it does, `receive_plain` and
//! `transmit_plain` their fast loops; [`strict`] counts what a driver does wrong and [`faults`] what the device does
//! wrong on request. `interrupts` is what reaches a driver that sleeps. [`in_process`] is the front for drivers
//! in this process, `stepped` a clock for those under test.
//!
//! Invariant: nothing here knows a driver. Whatever a driver writes is possible input.

pub mod config_space;
mod control;
mod describe;
mod descriptor;
pub mod device;
mod eeprom;
pub mod faults;
mod filters;
mod i2c;
pub mod in_process;
mod interrupts;
mod loopback;
pub(crate) mod port;
mod posted;
mod queues;
mod receive;
mod receive_plain;
pub mod registers;
mod rss;
mod segments;
pub mod statistics;
mod stepped;
pub mod strict;
mod transmit;
mod transmit_plain;
mod verdict;
mod watch;
mod write_back;

#[cfg(test)]
mod tests;

pub use device::{Access32, Cells, Core};
pub use faults::{Fault, FaultKind};
pub use i2c::Module;
pub use in_process::{Sim82599, Sim82599Config};
pub use interrupts::{InterruptHook, VECTORS};
pub use port::{DeviceThread, Polled};
pub use statistics::{Counter, Totals};
pub use stepped::SteppedClock;
pub use strict::{Violation, Violations};

/// Intel's PCI vendor id.
pub const VENDOR: u16 = 0x8086;
/// The device id of an 82599 with SFP+ cages (X520).
pub const DEVICE_SFP: u16 = 0x10FB;
/// The device id of an 82599 on a KX4 backplane.
pub const DEVICE_KX4: u16 = 0x10F7;
/// The device id of an 82599 on a KR backplane.
pub const DEVICE_KR: u16 = 0x1517;

/// What sets one device apart from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PCI device id.
    pub device_id: u16,
    /// Address in the EEPROM.
    pub mac: [u8; 6],
    /// PCI function: 0 or 1 (LAN 0 or LAN 1).
    pub function: u8,
    /// What is in the SFP+ cage.
    pub module: Module,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            device_id: DEVICE_SFP,
            mac: [0x02, 0x53, 0x55, 0x4D, 0x41, 0x00],
            function: 0,
            module: Module::Absent,
        }
    }
}

impl Identity {
    /// AUTOC as the EEPROM loads it: link mode in bits 15:13, PMA in bits 8:7, and what a
    /// backplane advertises.
    fn link_mode(&self) -> u32 {
        match self.device_id {
            DEVICE_KX4 => 4 << 13 | 1 << 7 | 1 << 9 | 1 << 31 | 1 << 30,
            DEVICE_KR => 4 << 13 | 1 << 16 | 1 << 9 | 1 << 30,
            _ => 3 << 13,
        }
    }
}
