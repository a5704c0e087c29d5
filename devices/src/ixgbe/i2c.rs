//! The I2C bus to the SFP+ cage (I2CCTL, section 8.2.3.1.5; SFF-8472): the lines a driver moves by hand
//! through I2CCTL, and the EEPROM of a module, if one is plugged in.
//!
//! Invariant: the lines are open drain: the data line is low when either side pulls it low, and
//! nobody pulls when there is no module.

/// I2CCTL bit 0: level of the clock line.
const CLOCK_IN: u32 = 1 << 0;
/// I2CCTL bit 1: what software drives on it.
const CLOCK_OUT: u32 = 1 << 1;
/// I2CCTL bit 2: level of the data line.
const DATA_IN: u32 = 1 << 2;
/// I2CCTL bit 3: what software drives on it.
const DATA_OUT: u32 = 1 << 3;

/// Bus address of a module's identification EEPROM, as written (bit 0 is read).
const MODULE_ADDRESS: u8 = 0xA0;

/// What is plugged into the SFP+ cage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Module {
    /// Nothing; also the right choice for backplane devices, which have no cage.
    #[default]
    Absent,
    /// A 10GBASE-SR optical module.
    ShortRange,
    /// A passive copper cable.
    DirectAttach,
}

impl Module {
    /// The EEPROM's first 256 bytes (SFF-8472, table 3.1).
    fn eeprom(self) -> Option<Box<[u8; 256]>> {
        let mut bytes = Box::new([0_u8; 256]);
        bytes[0] = 0x03;
        bytes[1] = 0x04;
        match self {
            Self::Absent => return None,
            Self::ShortRange => {
                bytes[2] = 0x07;
                bytes[3] = 0x10;
            }
            Self::DirectAttach => {
                bytes[2] = 0x21;
                bytes[8] = 0x04;
            }
        }
        bytes[12] = 103;
        bytes[20..36].copy_from_slice(b"Sumac           ");
        // Intel's vendor number: drivers refuse others by default.
        bytes[37..40].copy_from_slice(&[0x00, 0x1B, 0x21]);
        bytes[40..56].copy_from_slice(b"SOFTWARE        ");
        let check = |range: &[u8]| range.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
        bytes[63] = check(&bytes[..63]);
        bytes[95] = check(&bytes[64..95]);
        Some(bytes)
    }
}

/// What a byte the driver sends means.
#[derive(Clone, Copy)]
enum Role {
    Address,
    Pointer,
    Data,
}

#[derive(Clone, Copy)]
enum State {
    /// Not addressed.
    Idle,
    /// Taking bits of a byte.
    Receive { role: Role, bits: u8, value: u8 },
    /// Pulling the data line to acknowledge a byte.
    Acknowledge { role: Role, value: u8 },
    /// Giving bits of a byte.
    Send { bits: u8, value: u8 },
    /// The driver acknowledges, or not, what it got.
    Acknowledged { by_driver: bool },
}

/// The bus with its module.
pub(super) struct I2c {
    eeprom: Option<Box<[u8; 256]>>,
    clock: bool,
    data: bool,
    /// The module pulls the data line low.
    pulls: bool,
    pointer: u8,
    state: State,
}

impl I2c {
    pub fn new(module: Module) -> Self {
        Self {
            eeprom: module.eeprom(),
            clock: true,
            data: true,
            pulls: false,
            pointer: 0,
            state: State::Idle,
        }
    }

    /// What I2CCTL reads.
    pub fn read(&self) -> u32 {
        let bit = |set, bit| if set { bit } else { 0 };
        bit(self.clock, CLOCK_IN | CLOCK_OUT)
            | bit(self.data, DATA_OUT)
            | bit(self.data && !self.pulls, DATA_IN)
    }

    /// The driver moves its lines.
    pub fn write(&mut self, value: u32) {
        let (clock, data) = (value & CLOCK_OUT != 0, value & DATA_OUT != 0);
        let (clock_was, data_was) = (self.clock, self.data);
        (self.clock, self.data) = (clock, data);
        if self.eeprom.is_none() {
            return;
        }
        if clock_was && clock {
            match (data_was, data) {
                (true, false) => self.start(),
                (false, true) => self.release(State::Idle),
                _ => {}
            }
        } else if clock {
            self.clock_rises();
        } else if clock_was {
            self.clock_falls();
        }
    }

    fn start(&mut self) {
        self.release(State::Receive {
            role: Role::Address,
            bits: 0,
            value: 0,
        });
    }

    fn release(&mut self, next: State) {
        self.pulls = false;
        self.state = next;
    }

    fn clock_rises(&mut self) {
        match &mut self.state {
            State::Receive { bits, value, .. } => {
                *value = *value << 1 | u8::from(self.data);
                *bits += 1;
            }
            State::Acknowledged { by_driver } => *by_driver = !self.data,
            _ => {}
        }
    }

    fn clock_falls(&mut self) {
        match self.state {
            State::Receive {
                role,
                bits: 8,
                value,
            } => self.byte_received(role, value),
            State::Acknowledge { role, value } => self.after_acknowledge(role, value),
            State::Send { bits: 7, .. } => self.release(State::Acknowledged { by_driver: false }),
            State::Send { bits, value } => self.send_bit(bits + 1, value),
            State::Acknowledged { by_driver: true } => {
                self.pointer = self.pointer.wrapping_add(1);
                self.send_bit(0, self.byte());
            }
            State::Acknowledged { by_driver: false } => self.release(State::Idle),
            State::Idle | State::Receive { .. } => {}
        }
    }

    fn byte_received(&mut self, role: Role, value: u8) {
        if matches!(role, Role::Address) && value & 0xFE != MODULE_ADDRESS {
            return self.release(State::Idle);
        }
        self.pulls = true;
        self.state = State::Acknowledge { role, value };
    }

    fn after_acknowledge(&mut self, role: Role, value: u8) {
        let receive = |role| State::Receive {
            role,
            bits: 0,
            value: 0,
        };
        match role {
            Role::Address if value & 1 != 0 => self.send_bit(0, self.byte()),
            Role::Address => self.release(receive(Role::Pointer)),
            Role::Pointer => {
                self.pointer = value;
                self.release(receive(Role::Data));
            }
            // The EEPROM is write protected.
            Role::Data => self.release(receive(Role::Data)),
        }
    }

    fn send_bit(&mut self, bits: u8, value: u8) {
        self.pulls = value >> (7 - bits) & 1 == 0;
        self.state = State::Send { bits, value };
    }

    fn byte(&self) -> u8 {
        (self.eeprom.as_ref()).map_or(0xFF, |bytes| bytes[usize::from(self.pointer)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bus master as SFF-8472 and the I2C specification have it.
    struct Master(I2c);

    impl Master {
        fn lines(&mut self, clock: bool, data: bool) {
            let bit = |set, bit| if set { bit } else { 0 };
            self.0.write(bit(clock, CLOCK_OUT) | bit(data, DATA_OUT));
        }
        fn start(&mut self) {
            self.lines(false, true);
            self.lines(true, true);
            self.lines(true, false);
            self.lines(false, false);
        }
        fn bit_out(&mut self, data: bool) {
            self.lines(false, data);
            self.lines(true, data);
            self.lines(false, data);
        }
        fn bit_in(&mut self) -> bool {
            self.lines(false, true);
            self.lines(true, true);
            let level = self.0.read() & DATA_IN != 0;
            self.lines(false, true);
            level
        }
        /// Whether the module acknowledged.
        fn byte_out(&mut self, value: u8) -> bool {
            (0..8)
                .rev()
                .for_each(|bit| self.bit_out(value >> bit & 1 != 0));
            !self.bit_in()
        }
        fn byte_in(&mut self, more: bool) -> u8 {
            let value = (0..8).fold(0, |value, _| value << 1 | u8::from(self.bit_in()));
            self.bit_out(!more);
            value
        }
        fn read(&mut self, address: u8, count: usize) -> Option<Vec<u8>> {
            self.start();
            if !self.byte_out(0xA0) || !self.byte_out(address) {
                return None;
            }
            self.start();
            if !self.byte_out(0xA1) {
                return None;
            }
            Some((1..=count).map(|byte| self.byte_in(byte < count)).collect())
        }
    }

    #[test]
    fn a_module_tells_what_it_is() {
        let mut master = Master(I2c::new(Module::ShortRange));
        assert_eq!(master.read(0, 4), Some(vec![0x03, 0x04, 0x07, 0x10]));
        assert_eq!(master.read(37, 3), Some(vec![0x00, 0x1B, 0x21]));
    }

    #[test]
    fn an_empty_cage_acknowledges_nothing() {
        let mut master = Master(I2c::new(Module::Absent));
        assert_eq!(master.read(0, 1), None);
    }

    #[test]
    fn another_address_is_not_acknowledged() {
        let mut master = Master(I2c::new(Module::DirectAttach));
        master.start();
        assert!(!master.byte_out(0xF8));
        assert_eq!(master.read(8, 1), Some(vec![0x04]));
    }
}
