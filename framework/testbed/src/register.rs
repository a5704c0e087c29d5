//! A register of any device, for tests that look at one without its driver.

use sumac_device::registers::{AddressRegister, Readable, Writable};

/// A register, by its byte offset in the BAR.
#[derive(Clone, Copy, Debug)]
pub struct Register(pub u32);

impl Readable for Register {
    fn offset(self) -> u32 {
        self.0
    }
}

impl Writable for Register {
    fn offset(self) -> u32 {
        self.0
    }
}

impl AddressRegister for Register {
    fn offset(self) -> u32 {
        self.0
    }
}
