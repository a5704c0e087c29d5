//! A register file that remembers who wrote what when, and answers the few bits that bring-up waits
//! for. It is no model of the device: order and bounds are all that is checked with it.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::module::WiredModule;
use sumac_device::{Bar, Clock, DeviceBacking, DmaError, DmaMemory, DmaSpace, PciId, RegisterIo};

pub const CTRL: u32 = 0x00000;
pub const STATUS: u32 = 0x00008;
pub const EIMC: u32 = 0x00888;
pub const FCTRL: u32 = 0x05080;
pub const MRQC: u32 = 0x05818;
pub const RDRXCTL: u32 = 0x02f00;
pub const RXCTRL: u32 = 0x03000;
pub const SECRXCTRL: u32 = 0x08d00;
pub const SECRXSTAT: u32 = 0x08d04;
pub const RTTDCS: u32 = 0x04900;
pub const DTXMXSZRQ: u32 = 0x08100;
pub const MTQC: u32 = 0x08120;
pub const DMATXCTL: u32 = 0x04a80;
pub const HLREG0: u32 = 0x04240;
pub const MAXFRS: u32 = 0x04268;
pub const AUTOC: u32 = 0x042a0;
pub const LINKS: u32 = 0x042a4;
pub const RXDCTL0: u32 = 0x01028;
pub const TXDCTL0: u32 = 0x06028;
pub const I2CCTL: u32 = 0x00028;
pub const EEC: u32 = 0x10010;
pub const EERD: u32 = 0x10014;
pub const SWSM: u32 = 0x10140;
pub const SW_FW_SYNC: u32 = 0x10160;
pub const RAL0: u32 = 0x05400;
pub const RAH0: u32 = 0x05404;

const RESET_BITS: u32 = 0x0400_0008;
const MASTER_DISABLE: u32 = 1 << 2;
const MASTER_ENABLED: u32 = 1 << 19;

#[derive(Default)]
struct State {
    cells: HashMap<u32, u32>,
    /// What reads of a register give whatever was written.
    stuck: HashMap<u32, u32>,
    log: Vec<(u32, u32)>,
    module: Option<WiredModule>,
}

/// The register file.
#[derive(Default)]
pub struct RegisterFile(Mutex<State>);

impl RegisterFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `offset` reads as `value`.
    pub fn stick(&self, offset: u32, value: u32) {
        self.state().stuck.insert(offset, value);
    }

    /// From now on `offset` reads as it was written.
    pub fn unstick(&self, offset: u32) {
        self.state().stuck.remove(&offset);
    }

    /// Puts a module into the cage.
    pub fn insert(&self, module: WiredModule) {
        self.state().module = Some(module);
    }

    /// Every write so far, in order; forgets them.
    pub fn take_log(&self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.state().log)
    }

    /// What a register holds.
    pub fn cell(&self, offset: u32) -> u32 {
        self.state().cells.get(&offset).copied().unwrap_or(0)
    }
}

/// Word `address` of an EEPROM without sections whose checksum is right.
fn eeprom_word(address: u32) -> u32 {
    let plain = |address: u32| {
        if (3..15).contains(&address) {
            0xffff
        } else {
            address
        }
    };
    match address {
        0x3f => 0xbaba_u32.wrapping_sub((0..0x3f).map(plain).sum::<u32>()) & 0xffff,
        address => plain(address),
    }
}

// SAFETY: nothing is mapped.
unsafe impl RegisterIo for RegisterFile {
    fn len(&self) -> u32 {
        0x20000
    }

    fn read32(&self, offset: u32) -> u32 {
        let mut state = self.state();
        if let Some(value) = state.stuck.get(&offset) {
            return *value;
        }
        let value = state.cells.get(&offset).copied().unwrap_or(0);
        match offset {
            STATUS => match state.cells.get(&CTRL).copied().unwrap_or(0) & MASTER_DISABLE {
                0 => MASTER_ENABLED,
                _ => 0,
            },
            EEC => 0x0300 | 4 << 11,
            EERD => eeprom_word(value >> 2 & 0x3fff) << 16 | value | 2,
            RDRXCTL => value | 8,
            SECRXSTAT => 1,
            I2CCTL => {
                let (clock, data) = (value & 2 != 0, value & 8 != 0);
                let lets_go = state.module.as_ref().is_none_or(WiredModule::lets_data_go);
                value & !5 | u32::from(clock) | u32::from(data && lets_go) << 2
            }
            RAL0 => 0x0021_1b00,
            RAH0 => 0x8000_0100,
            SWSM => {
                state.cells.insert(SWSM, value | 1);
                value
            }
            _ => value,
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        let mut state = self.state();
        state.log.push((offset, value));
        let kept = if offset == CTRL {
            value & !RESET_BITS
        } else {
            value
        };
        state.cells.insert(offset, kept);
        if offset == I2CCTL
            && let Some(module) = &mut state.module
        {
            module.drive(value & 2 != 0, value & 8 != 0);
        }
    }

    fn mapped(&self, _offset: u32) -> Option<NonNull<AtomicU32>> {
        None
    }
}

/// Time that passes only when somebody sleeps.
#[derive(Default)]
pub struct SleepClock(AtomicU64);

impl Clock for SleepClock {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn sleep_ns(&self, ns: u64) {
        self.0.fetch_add(ns, Ordering::Relaxed);
    }
}

/// No memory at all: the control path needs none.
struct NoMemory;

impl DmaSpace for NoMemory {
    fn allocate(&self, bytes: usize, align: usize) -> Result<DmaMemory, DmaError> {
        Err(DmaError::BadLayout { bytes, align })
    }
}

/// A device of the id given, its registers and its clock.
pub fn device(id: u16) -> (Arc<RegisterFile>, Arc<SleepClock>, DeviceBacking) {
    let registers = Arc::new(RegisterFile::default());
    let clock = Arc::new(SleepClock::default());
    let backing = DeviceBacking {
        name: "test0".into(),
        id: PciId {
            vendor: 0x8086,
            device: id,
        },
        bar: Bar::new(registers.clone()),
        dma: Arc::new(NoMemory),
        clock: clock.clone(),
    };
    (registers, clock, backing)
}
