//! Contents of the general, EEPROM and PCIe registers (sections 8.2.3.1, 8.2.3.2 and 8.2.3.4).

use bitfield_struct::bitfield;

use crate::registers::contents;

/// CTRL, device control (section 8.2.3.1.1).
#[bitfield(u32)]
pub struct Ctrl {
    #[bits(2)]
    __: u8,
    /// Stop issuing PCIe requests (section 5.2.5.3.2).
    pub master_disable: bool,
    /// Link reset; clears itself.
    pub link_reset: bool,
    #[bits(22)]
    __: u32,
    /// Software reset; clears itself.
    pub reset: bool,
    #[bits(5)]
    __: u8,
}

/// STATUS, device status (section 8.2.3.1.2).
#[bitfield(u32)]
pub struct Status {
    #[bits(2)]
    __: u8,
    /// Which of the chip's ports this is.
    #[bits(2)]
    pub lan_id: u8,
    #[bits(15)]
    __: u16,
    /// PCIe requests may still be issued.
    pub master_enabled: bool,
    #[bits(12)]
    __: u16,
}

/// CTRL_EXT, extended device control (section 8.2.3.1.3).
#[bitfield(u32)]
pub struct CtrlExt {
    __: u16,
    /// No "no snoop" in PCIe requests.
    pub no_snoop_disable: bool,
    /// No relaxed ordering in PCIe requests.
    pub relaxed_ordering_disable: bool,
    #[bits(10)]
    __: u16,
    /// Tells the firmware that a driver is in charge.
    pub driver_loaded: bool,
    #[bits(3)]
    __: u8,
}

/// ESDP, software-definable pins (section 8.2.3.1.4). Software reset leaves them alone.
#[bitfield(u32)]
pub struct Esdp {
    /// Levels of pins 0 to 7.
    pub levels: u8,
    /// Pins 0 to 7 that are outputs.
    pub outputs: u8,
    __: u16,
}

/// I2CCTL, the SFP+ module's two wires (section 8.2.3.1.5). A wire is low when anybody pulls it.
#[bitfield(u32)]
pub struct I2cctl {
    /// The clock wire's level.
    pub clock_in: bool,
    /// Let the clock wire go high.
    pub clock_out: bool,
    /// The data wire's level.
    pub data_in: bool,
    /// Let the data wire go high.
    pub data_out: bool,
    #[bits(28)]
    __: u32,
}

/// EICR, interrupt causes (section 8.2.3.5.1); reading clears them, masked or not.
#[bitfield(u32)]
pub struct Eicr {
    /// Queue causes.
    pub queues: u16,
    #[bits(4)]
    __: u8,
    /// The link went up or down.
    pub link_changed: bool,
    #[bits(11)]
    __: u16,
}

/// EEC, EEPROM and flash control (section 8.2.3.2.1).
#[bitfield(u32)]
pub struct Eec {
    __: u8,
    /// There is an EEPROM with a valid signature.
    pub present: bool,
    /// The hardware has read it; also set without an EEPROM.
    pub auto_read_done: bool,
    /// Sixteen address bits instead of eight.
    pub large_address: bool,
    /// log2 of the size in 1 Kib units.
    #[bits(4)]
    pub size: u8,
    #[bits(17)]
    __: u32,
}

impl Eec {
    /// How many 16-bit words the EEPROM has.
    pub const fn words(self) -> u32 {
        1 << (self.size() + 6)
    }
}

/// EERD, EEPROM read (section 8.2.3.2.2).
#[bitfield(u32)]
pub struct Eerd {
    /// Start the read.
    pub start: bool,
    /// The data is there.
    pub done: bool,
    /// Word address.
    #[bits(14)]
    pub address: u16,
    /// The word.
    pub data: u16,
}

/// SWSM, software semaphore (section 8.2.3.4.9).
#[bitfield(u32)]
pub struct Swsm {
    /// Between drivers: reading it as clear takes it.
    pub driver: bool,
    /// Between driver and firmware: taken when a written one reads back.
    pub firmware: bool,
    #[bits(30)]
    __: u32,
}

/// SW_FW_SYNC, resources shared with firmware (section 8.2.3.4.11).
#[bitfield(u32)]
pub struct SwFwSync {
    /// Resources that software holds.
    #[bits(5)]
    pub software: u8,
    /// Resources that firmware holds, in the same order.
    #[bits(5)]
    pub firmware: u8,
    #[bits(21)]
    __: u32,
    /// Register semaphore (X540 and X550): reading it as clear takes it.
    pub register_semaphore: bool,
}

/// GCR_EXT, PCIe control extended (section 8.2.3.4.12).
#[bitfield(u32)]
pub struct GcrExt {
    #[bits(30)]
    __: u32,
    /// Drop what is left in the function's data path.
    pub buffers_clear: bool,
    __: bool,
}

contents! {
    Ctrl => General::Ctrl,
    Status => GeneralStatus::Status,
    CtrlExt => General::CtrlExt,
    Esdp => General::Esdp,
    I2cctl => General::I2cctl,
    Eicr => GeneralStatus::Eicr,
    Eec => General::Eec,
    Eerd => General::Eerd,
    Swsm => General::Swsm,
    SwFwSync => General::SwFwSync,
    GcrExt => General::GcrExt,
}

const _: () = {
    assert!(
        Ctrl::new()
            .with_reset(true)
            .with_link_reset(true)
            .into_bits()
            == 0x0400_0008
    );
    assert!(Status::new().with_master_enabled(true).into_bits() == 1 << 19);
    assert!(CtrlExt::new().with_no_snoop_disable(true).into_bits() == 1 << 16);
    assert!(CtrlExt::new().with_driver_loaded(true).into_bits() == 0x1000_0000);
    assert!(I2cctl::new().with_data_out(true).into_bits() == 8);
    assert!(Eicr::new().with_link_changed(true).into_bits() == 0x0010_0000);
    assert!(Eec::new().with_auto_read_done(true).into_bits() == 0x200);
    assert!(Eec::new().with_size(0xf).into_bits() == 0x7800);
    assert!(Eerd::new().with_start(true).with_address(0x3f).into_bits() == 0xfd);
    assert!(SwFwSync::new().with_firmware(1).into_bits() == 0x20);
    assert!(SwFwSync::new().with_register_semaphore(true).into_bits() == 1 << 31);
    assert!(GcrExt::new().with_buffers_clear(true).into_bits() == 1 << 30);
};
