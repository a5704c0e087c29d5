//! The EEPROM: words through EERD, its checksum, the MAC address (chapter 6).
//!
//! The X550 has no EERD; its non-volatile memory is the firmware's affair and is not read here.

use sumac_device::Clock;

use crate::error::{Fault, Wait};
use crate::ids::Generation;
use crate::mac_address::Station;
use crate::registers::{Eec, Eerd, Filter, MICROSECOND, MILLISECOND, Rah, Registers};
use sumac_interface::net::MacAddress;

/// How long a word may take (section 8.2.3.2.2 gives none; 64 words take under 3 ms).
const WORD_TIMEOUT: u64 = 50 * MILLISECOND;
/// Between two looks at DONE.
const WORD_INTERVAL: u64 = 5 * MICROSECOND;
/// What the words sum to (section 6.1).
const CHECKSUM: u16 = 0xbaba;
/// Where the word is that makes them (section 6.1).
const CHECKSUM_WORD: u16 = 0x3f;
/// Pointers to the sections that are summed too; the firmware's (0x0F) is not.
const SECTION_POINTERS: core::ops::Range<u16> = 0x03..0x0f;
/// Of those, PHY and option ROM are not summed by the X540.
const X540_UNSUMMED: [u16; 2] = [0x04, 0x05];

/// Reads word `address`.
///
/// # Errors
/// [`Fault::TimedOut`] or [`Fault::DeviceGone`].
pub fn read_word(registers: &Registers, clock: &dyn Clock, address: u16) -> Result<u16, Fault> {
    registers.set(Eerd::new().with_start(true).with_address(address & 0x3fff));
    let mut eerd = Eerd::new();
    registers.wait(
        clock,
        Wait::EepromWord,
        WORD_INTERVAL,
        WORD_TIMEOUT,
        |registers| {
            eerd = registers.get();
            eerd.done()
        },
    )?;
    Ok(eerd.data())
}

/// Checks the checksum over the first words and the sections they point to (section 6.1).
///
/// A device without an EEPROM, and the X550, pass: there is nothing to check.
///
/// # Errors
/// [`Fault::EepromChecksum`], [`Fault::EepromLayout`], or why a word could not be read.
pub fn check(
    registers: &Registers,
    clock: &dyn Clock,
    generation: Generation,
) -> Result<(), Fault> {
    let eec: Eec = registers.get();
    if generation == Generation::X550 || !eec.present() {
        return Ok(());
    }
    let read = |address| read_word(registers, clock, address);
    let mut sum: u16 = 0;
    for address in 0..CHECKSUM_WORD {
        sum = sum.wrapping_add(read(address)?);
    }
    for pointer in SECTION_POINTERS {
        if generation == Generation::X540 && X540_UNSUMMED.contains(&pointer) {
            continue;
        }
        sum = sum.wrapping_add(section_sum(read, pointer, eec.words())?);
    }
    let expected = CHECKSUM.wrapping_sub(sum);
    match read(CHECKSUM_WORD)? {
        found if found == expected => Ok(()),
        found => Err(Fault::EepromChecksum { found, expected }),
    }
}

/// The sum of the section `pointer` points to: a length, then that many words.
fn section_sum(
    read: impl Fn(u16) -> Result<u16, Fault>,
    pointer: u16,
    words: u32,
) -> Result<u16, Fault> {
    const UNUSED: [u16; 2] = [0, 0xffff];
    let start = read(pointer)?;
    if UNUSED.contains(&start) {
        return Ok(0);
    }
    if u32::from(start) >= words {
        return Err(Fault::EepromLayout { pointer });
    }
    let length = read(start)?;
    if UNUSED.contains(&length) {
        return Ok(0);
    }
    if u32::from(start) + u32::from(length) >= words {
        return Err(Fault::EepromLayout { pointer });
    }
    let mut sum: u16 = 0;
    for address in start + 1..=start + length {
        sum = sum.wrapping_add(read(address)?);
    }
    Ok(sum)
}

/// The MAC address that reset loaded from the EEPROM into receive address 0
/// (section 8.2.3.7.9).
///
/// # Errors
/// [`Fault::NoStationAddress`].
pub fn mac_address(registers: &Registers) -> Result<MacAddress, Fault> {
    let low = registers.read(Filter::Ral(0));
    let high: Rah = registers.get_at(0);
    let mac = MacAddress::from_registers(low, high.address());
    if mac.is_station() {
        Ok(mac)
    } else {
        Err(Fault::NoStationAddress(mac))
    }
}
