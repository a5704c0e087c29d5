//! The EEPROM (section 6): what drivers read of it, with a checksum that holds.
//!
//! Invariant: words 0x00 to 0x3F add up to 0xBABA; pointers to modules lead to a module or say
//! that there is none.

use super::Identity;

/// Words in the image.
const WORDS: usize = 256;
/// Where the checksum is, and what the words up to it add up to.
const CHECKSUM: usize = 0x3F;
const SUM: u16 = 0xBABA;
/// "No such module."
const NONE: u16 = 0xFFFF;
/// Pointer to the firmware module; +4 there leads to the patch configuration, +7 of that is the
/// firmware's version.
const FIRMWARE_POINTER: usize = 0x0F;
const FIRMWARE: u16 = 0x40;
const PATCH_CONFIGURATION: u16 = 0x50;
const FIRMWARE_VERSION: u16 = 0x0006;
/// Pointer to the list of SFP+ set-up sequences: its length, then pairs of module kind and sequence.
const PHY_LIST_POINTER: usize = 0x2B;
const PHY_LIST: u16 = 0x60;
const EMPTY_SEQUENCE: u16 = 0x80;
/// Kinds of module the list knows.
const MODULE_KINDS: u16 = 12;
const CAPABILITIES: usize = 0x2C;

/// The image.
pub(super) struct Eeprom {
    words: [u16; WORDS],
}

impl Eeprom {
    /// An image for a device of this identity.
    pub fn new(identity: &Identity) -> Self {
        let mut words = [0_u16; WORDS];
        // Pointers to PCIe, core and LAN sections: drivers sum what they lead to.
        words[0x03..=0x0E].fill(NONE);
        words[0x00] = 0x0400;
        words[FIRMWARE_POINTER] = FIRMWARE;
        words[0x27..=0x28].fill(NONE);
        words[PHY_LIST_POINTER] = PHY_LIST;
        words[CAPABILITIES] = 0x0001;
        words[0x37] = NONE;
        for (word, pair) in words[0x10..0x13]
            .iter_mut()
            .zip(identity.mac.chunks_exact(2))
        {
            *word = u16::from_le_bytes([pair[0], pair[1]]);
        }
        words[0x2D] = 0x8000;
        words[0x2E] = identity.device_id;
        words[usize::from(FIRMWARE) + 4] = PATCH_CONFIGURATION;
        words[usize::from(PATCH_CONFIGURATION) + 7] = FIRMWARE_VERSION;
        // A section begins with its length.
        words[usize::from(PHY_LIST)] = 2 * MODULE_KINDS + 1;
        for kind in 0..MODULE_KINDS {
            let at = usize::from(PHY_LIST + 1 + 2 * kind);
            words[at] = kind;
            words[at + 1] = EMPTY_SEQUENCE;
        }
        words[usize::from(PHY_LIST + 1 + 2 * MODULE_KINDS)] = NONE;
        words[usize::from(EMPTY_SEQUENCE) + 1] = NONE;
        let sum = (words[..CHECKSUM].iter()).fold(0_u16, |sum, &word| sum.wrapping_add(word));
        words[CHECKSUM] = SUM.wrapping_sub(sum);
        Self { words }
    }

    /// One word; beyond the image the part reads as erased.
    pub fn word(&self, address: u32) -> u16 {
        (self.words.get(address as usize)).copied().unwrap_or(NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Eeprom {
        Eeprom::new(&Identity::default())
    }

    #[test]
    fn the_checksum_holds() {
        let eeprom = image();
        let sum = (0..=0x3F).fold(0_u16, |sum, at| sum.wrapping_add(eeprom.word(at)));
        assert_eq!(sum, SUM);
    }

    #[test]
    fn the_firmware_version_is_found_through_its_pointers() {
        let eeprom = image();
        let firmware = u32::from(eeprom.word(0x0F));
        let patch = u32::from(eeprom.word(firmware + 4));
        assert!(eeprom.word(patch + 7) > 5);
    }

    #[test]
    fn every_module_kind_has_a_sequence_that_ends() {
        let eeprom = image();
        let mut at = u32::from(eeprom.word(0x2B)) + 1;
        let mut kinds = 0;
        while eeprom.word(at) != NONE {
            let mut sequence = u32::from(eeprom.word(at + 1)) + 1;
            while eeprom.word(sequence) != NONE {
                sequence += 1;
            }
            kinds += 1;
            at += 2;
        }
        assert_eq!(kinds, MODULE_KINDS);
    }

    #[test]
    fn beyond_the_part_all_is_erased() {
        assert_eq!(image().word(0x3FFF), 0xFFFF);
    }
}
