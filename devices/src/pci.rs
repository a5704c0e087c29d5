//! The configuration space of a PCI Express function.
//!
//! Invariant: every byte has a mask of bits that software may write and one of bits that it clears by
//! writing ones; nothing else ever changes what a device put there.

/// Bytes of a PCI Express function's configuration space.
pub const CONFIG_BYTES: usize = 4096;
/// Command and status.
pub const COMMAND: usize = 0x04;
/// COMMAND bit 2: the function may use the bus.
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// COMMAND bit 10: the function may not use its interrupt pin.
pub const COMMAND_INTX_OFF: u16 = 1 << 10;
/// Status.
pub const STATUS: usize = 0x06;
/// STATUS bit 3: the interrupt pin is asserted.
pub const STATUS_INTX: u16 = 1 << 3;
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// What a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Subsystem vendor.
    pub subsystem_vendor: u16,
    /// Subsystem.
    pub subsystem: u16,
    /// Revision.
    pub revision: u8,
    /// Class code: class, subclass, interface.
    pub class: u32,
}

/// A function's configuration space.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: Box<[u8; CONFIG_BYTES]>,
    /// As at power-on.
    initial: Box<[u8; CONFIG_BYTES]>,
    writable: Box<[u8; CONFIG_BYTES]>,
    /// Bits that are cleared by writing ones.
    cleared: Box<[u8; CONFIG_BYTES]>,
    /// Where the last capability's pointer to the next is, in the space up to 0xFF and beyond.
    last: usize,
    last_extended: Option<usize>,
}

impl ConfigSpace {
    /// A type 0 header with an interrupt pin and nothing else.
    pub fn new(ids: Ids) -> Self {
        let zeros = || Box::new([0; CONFIG_BYTES]);
        let mut space = Self {
            bytes: zeros(),
            initial: zeros(),
            writable: zeros(),
            cleared: zeros(),
            last: 0x34,
            last_extended: None,
        };
        space.put16(0x00, ids.vendor);
        space.put16(0x02, ids.device);
        space.put16(STATUS, STATUS_CAPABILITIES);
        space.put32(0x08, ids.class << 8 | u32::from(ids.revision));
        space.put16(0x2C, ids.subsystem_vendor);
        space.put16(0x2E, ids.subsystem);
        space.put8(0x3D, 1);
        // I/O, memory, bus master, parity, SERR, INTx off.
        space.allow16(COMMAND, 0x0547);
        space.clear16(STATUS, 0xF900);
        // Cache line size, interrupt line.
        space.allow(0x0C, &[0xFF]);
        space.allow(0x3C, &[0xFF]);
        space
    }

    /// A BAR of memory with 64 bits, prefetchable, of `bytes` (a power of two); takes the next BAR's place, too.
    pub fn memory_bar(&mut self, bar: usize, bytes: u32) {
        let at = 0x10 + 4 * bar;
        self.put32(at, 0b1100);
        self.allow(at, &(!(bytes - 1)).to_le_bytes());
        self.allow(at + 4, &[0xFF; 4]);
    }

    /// A capability of `bytes` at `at`, without its first two bytes, and which bits of these can be
    /// written.
    pub fn capability(&mut self, at: usize, id: u8, bytes: &[u8], writable: &[u8]) {
        self.put8(self.last, at as u8);
        self.put8(at, id);
        self.last = at + 1;
        self.put(at + 2, bytes);
        self.allow(at + 2, writable);
    }

    /// An extended capability of `bytes` at `at`, without its first four bytes.
    pub fn extended_capability(&mut self, at: usize, id: u16, version: u8, bytes: &[u8]) {
        if let Some(last) = self.last_extended {
            let header = u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.bytes[last + byte]));
            self.put32(last, header | (at as u32) << 20);
        }
        self.put32(at, u32::from(version) << 16 | u32::from(id));
        self.last_extended = Some(at);
        self.put(at + 4, bytes);
    }

    /// Takes what was put so far as the state at power-on.
    pub fn finish(mut self) -> Self {
        self.initial = self.bytes.clone();
        self
    }

    /// As at power-on.
    pub fn reset(&mut self) {
        self.bytes = self.initial.clone();
    }

    /// Reads; beyond the end all is one.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0xFF);
        }
    }

    /// Writes what may be written.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, &value) in (offset..).zip(data) {
            let Some(byte) = self.bytes.get_mut(at) else {
                return;
            };
            let writable = self.writable[at];
            *byte = *byte & !writable | value & writable;
            *byte &= !(value & self.cleared[at]);
        }
    }

    /// Sixteen bits at `at`.
    pub fn get16(&self, at: usize) -> u16 {
        let mut bytes = [0; 2];
        self.read(at, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// The device sets what software may read.
    pub fn put16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn put8(&mut self, at: usize, value: u8) {
        self.put(at, &[value]);
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        self.writable[at..at + mask.len()].copy_from_slice(mask);
    }

    fn allow16(&mut self, at: usize, mask: u16) {
        self.allow(at, &mask.to_le_bytes());
    }

    fn clear16(&mut self, at: usize, mask: u16) {
        self.cleared[at..at + 2].copy_from_slice(&mask.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> ConfigSpace {
        let mut space = ConfigSpace::new(Ids {
            vendor: 0x8086,
            device: 0x10FB,
            subsystem_vendor: 0x8086,
            subsystem: 3,
            revision: 1,
            class: 0x02_0000,
        });
        space.memory_bar(0, 512 * 1024);
        space.capability(0x40, 1, &[3, 0, 0, 0], &[0, 0, 3, 0]);
        space.capability(0x50, 5, &[0, 0], &[1, 0]);
        space.extended_capability(0x100, 1, 1, &[0; 4]);
        space.extended_capability(0x140, 3, 1, &[1, 2, 3, 4]);
        space.finish()
    }

    fn read32(space: &ConfigSpace, at: usize) -> u32 {
        u32::from(space.get16(at)) | u32::from(space.get16(at + 2)) << 16
    }

    #[test]
    fn a_bar_tells_its_size() {
        let mut space = space();
        space.write(0x10, &[0xFF; 8]);
        assert_eq!(read32(&space, 0x10), 0xFFF8_000C);
        assert_eq!(read32(&space, 0x14), u32::MAX);
        space.write(0x18, &[0xFF; 4]);
        assert_eq!(read32(&space, 0x18), 0, "there is no BAR 2");
    }

    #[test]
    fn capabilities_are_found_one_after_another() {
        let space = space();
        assert_ne!(space.get16(STATUS) & STATUS_CAPABILITIES, 0);
        assert_eq!(space.get16(0x34) & 0xFF, 0x40);
        assert_eq!(space.get16(0x40), 0x5001);
        assert_eq!(space.get16(0x50), 0x0005);
        assert_eq!(read32(&space, 0x100), 0x1401_0001);
        assert_eq!(read32(&space, 0x140), 0x0001_0003);
    }

    #[test]
    fn only_what_may_be_written_changes_and_reset_undoes_it() {
        let mut space = space();
        let before: Vec<u8> = space.bytes.to_vec();
        space.write(0, &[0xFF; CONFIG_BYTES + 8]);
        assert_eq!(space.get16(0), 0x8086);
        assert_eq!(space.get16(COMMAND), 0x0547);
        assert_eq!(space.get16(0x44), 3);
        space.write(0, &[0; CONFIG_BYTES]);
        space.write(CONFIG_BYTES + 4, &[0xFF; 4]);
        assert_eq!(space.get16(0x02), 0x10FB);
        space.reset();
        assert_eq!(space.bytes[..], before[..]);
        let mut beyond = [0; 4];
        space.read(CONFIG_BYTES - 2, &mut beyond);
        assert_eq!(beyond, [0, 0, 0xFF, 0xFF]);
    }
}
