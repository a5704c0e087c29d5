//! What goes wrong on the control path: which device, what, and what to do about it.
//!
//! Functions inside the driver return a [`Fault`]; what a caller holds adds the device's name and
//! returns an [`Error`].

use alloc::string::String;
use core::fmt;

use sumac_device::{DmaError, PciId, TimedOut};
use sumac_rref::PoolError;

use crate::config::ConfigError;
use sumac_interface::net::MacAddress;

/// A fault and the device it happened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device}: {fault}")]
pub struct Error {
    /// The device, as [`sumac_device::DeviceBacking::name`] calls it.
    pub device: String,
    /// What went wrong.
    pub fault: Fault,
}

impl Error {
    /// Puts the device's name to a fault.
    pub fn new(device: &str, fault: impl Into<Fault>) -> Self {
        Self {
            device: device.into(),
            fault: fault.into(),
        }
    }
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Another kind of device.
    #[error(
        "PCI id {:04x}:{:04x} is no 82599, X540 or X550 physical function; name a port of one of those",
        .0.vendor, .0.device
    )]
    NotSupported(PciId),
    /// Registers read as all ones, as on PCI Express when nobody answers.
    #[error(
        "registers read as all ones: the device was removed or its memory space is off; reseat or rebind it and open it again"
    )]
    DeviceGone,
    /// DMATXCTL.TE, which a started port has set, reads as clear: a reset cleared it (section 8.2.3.9.2).
    #[error(
        "the device was reset by somebody else, or was away for a moment: what was in its rings is lost; open it again"
    )]
    Reset,
    /// A wait on hardware ran out of time.
    #[error("{wait} did not happen within {} ms; {}", .waited_ns / 1_000_000, .wait.remedy())]
    TimedOut {
        /// What was waited for.
        wait: Wait,
        /// How long, in nanoseconds.
        waited_ns: u64,
    },
    /// The EEPROM's words do not sum to 0xBABA (section 6.1).
    #[error(
        "the EEPROM's checksum is {found:#06x} instead of {expected:#06x}; restore its image with the board vendor's tool"
    )]
    EepromChecksum {
        /// What word 0x3F holds.
        found: u16,
        /// What it should hold.
        expected: u16,
    },
    /// A section of the EEPROM reaches beyond the EEPROM.
    #[error(
        "EEPROM word {pointer:#04x} points to a section that does not fit; restore its image with the board vendor's tool"
    )]
    EepromLayout {
        /// The pointer's word address.
        pointer: u16,
    },
    /// Receive address 0 holds no station address.
    #[error(
        "the EEPROM gives {0} as MAC address, which no station may have; set one in the configuration"
    )]
    NoStationAddress(MacAddress),
    /// An address that was asked for is not of the kind needed.
    #[error("{0} is no station address; give one that is neither a group address nor zero")]
    NotAStation(MacAddress),
    /// An address that was asked for is not of the kind needed.
    #[error("{0} is no group address; station addresses go into the unicast list")]
    NotAGroup(MacAddress),
    /// The unicast list is full.
    #[error("all {limit} receive addresses are taken; remove one or turn promiscuous mode on")]
    TooManyAddresses {
        /// How many there are, own address included.
        limit: usize,
    },
    /// A VLAN id above 4,095.
    #[error("{0} is no VLAN id; use 0 to 4095")]
    NoSuchVlan(u16),
    /// A queue number that this port does not have.
    #[error("queue {queue} does not exist; this port has {queues}")]
    NoSuchQueue {
        /// The queue asked for.
        queue: u16,
        /// How many there are.
        queues: u16,
    },
    /// A ring the device cannot take.
    #[error(
        "a ring of {bytes} bytes cannot be; it must be a multiple of 128 up to 1 MiB, at an address that is a multiple of 128"
    )]
    BadRing {
        /// The ring's length in bytes.
        bytes: u32,
    },
    /// A head write-back address that is not one byte into a 4-byte word.
    #[error("head write-back needs the address of the second byte of a 4-byte aligned word")]
    BadHeadWriteBack,
    /// A receive buffer size the device cannot take.
    #[error("receive buffers of {bytes} bytes cannot be; use a multiple of 1,024 up to 16,384")]
    BadBuffer {
        /// The size asked for.
        bytes: u32,
    },
    /// The MDIO or I2C peer did not answer.
    #[error("the {0} did not answer; check that it is seated and powered")]
    NoAnswer(&'static str),
    /// A queue pair was taken and not returned.
    #[error("queue pair {0} is still in use; return it to the port first")]
    QueueAway(u16),
    /// The packet pool cannot fill a receive ring.
    #[error(
        "the packet pool lacks {lacking} buffers for receive queue {queue}; make it larger, or the rings shorter"
    )]
    PoolTooSmall {
        /// The queue whose ring could not be filled.
        queue: u16,
        /// How many buffers more it takes.
        lacking: u32,
    },
    /// The device reports a head that is not in the ring.
    #[error(
        "transmit queue {queue} reports descriptor {head}, which does not exist; reset the port"
    )]
    HeadBeyondRing {
        /// The queue.
        queue: u16,
        /// What TDH says.
        head: u32,
    },
    /// Frames posted for transmit do not leave although the link is up.
    #[error(
        "transmit queue {queue} has stood still for seconds with frames posted; reset the port"
    )]
    TransmitHang {
        /// The queue.
        queue: u16,
    },
    /// The port is started or stopped already.
    #[error("the port is {0} already")]
    Already(&'static str),
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No memory for the rings.
    #[error(transparent)]
    Memory(#[from] DmaError),
    /// No cache of the packet pool for a queue pair.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// Everything this driver waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// CTRL.RST and CTRL.LRST clear themselves (section 4.6.3.2).
    Reset,
    /// EEC.Auto_RD (section 4.6.3).
    EepromAutoRead,
    /// EERD.DONE (section 8.2.3.2.2).
    EepromWord,
    /// RDRXCTL.DMAIDONE (section 4.6.3).
    DmaInit,
    /// SWSM.SMBI, the semaphore between drivers (section 10.5.4).
    DriverSemaphore,
    /// SWSM.SWESMBI, the semaphore with the firmware (section 10.5.4).
    FirmwareSemaphore,
    /// A resource of SW_FW_SYNC (section 10.5.4).
    SharedResource,
    /// SECRXSTAT.SECRX_RDY: the receive path is empty (section 4.6.7).
    ReceivePathEmpty,
    /// RXDCTL.ENABLE reads as set.
    RxQueueEnable(u16),
    /// RXDCTL.ENABLE reads as clear (section 4.6.7.1.2).
    RxQueueDisable(u16),
    /// TXDCTL.ENABLE reads as set.
    TxQueueEnable(u16),
    /// TDH reaches TDT: everything posted was sent (section 4.6.8).
    TxQueueDrain(u16),
    /// TXDCTL.ENABLE reads as clear.
    TxQueueDisable(u16),
    /// MSCA.MDI_COMMAND clears itself (section 8.2.3.22.11).
    Mdio,
}

impl Wait {
    /// What a person can do when the wait runs out.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Reset | Self::DmaInit => {
                "reset the function through the bus (unbind and bind it), or power-cycle the machine"
            }
            Self::EepromAutoRead | Self::EepromWord => {
                "the EEPROM may be missing or empty, or no register answers and all read as zero: check the board, power-cycle the machine"
            }
            Self::DriverSemaphore => "another driver may hold the device: unbind it there",
            Self::FirmwareSemaphore | Self::SharedResource => {
                "the management firmware holds it: try again, or power-cycle the machine"
            }
            Self::ReceivePathEmpty
            | Self::RxQueueEnable(_)
            | Self::RxQueueDisable(_)
            | Self::TxQueueEnable(_)
            | Self::TxQueueDisable(_) => "reset the port",
            Self::TxQueueDrain(_) => {
                "the link may be down or paused by its partner: reset the port to drop what is left"
            }
            Self::Mdio => "the PHY may be missing: check the board",
        }
    }

    /// The fault this wait ends in.
    pub const fn fault(self, timed_out: TimedOut) -> Fault {
        Fault::TimedOut {
            wait: self,
            waited_ns: timed_out.waited_ns,
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("the end of the reset (CTRL.RST)"),
            Self::EepromAutoRead => f.write_str("the EEPROM's automatic read (EEC.Auto_RD)"),
            Self::EepromWord => f.write_str("the read of an EEPROM word (EERD.DONE)"),
            Self::DmaInit => f.write_str("the DMA unit's initialisation (RDRXCTL.DMAIDONE)"),
            Self::DriverSemaphore => f.write_str("the driver semaphore (SWSM.SMBI)"),
            Self::FirmwareSemaphore => f.write_str("the firmware semaphore (SWSM.SWESMBI)"),
            Self::SharedResource => f.write_str("the release of a resource in SW_FW_SYNC"),
            Self::ReceivePathEmpty => {
                f.write_str("the emptying of the receive path (SECRXSTAT.SECRX_RDY)")
            }
            Self::RxQueueEnable(q) => write!(f, "the start of receive queue {q}"),
            Self::RxQueueDisable(q) => write!(f, "the stop of receive queue {q}"),
            Self::TxQueueEnable(q) => write!(f, "the start of transmit queue {q}"),
            Self::TxQueueDrain(q) => write!(f, "the draining of transmit queue {q}"),
            Self::TxQueueDisable(q) => write!(f, "the stop of transmit queue {q}"),
            Self::Mdio => f.write_str("an MDIO access (MSCA.MDI_COMMAND)"),
        }
    }
}
