//! Numbers that messages hold: flags, kinds and indices, as in linux/vfio.h.

/// Flags of a [`Header`](super::Header).
pub mod flag {
    /// Bits that tell request from answer.
    pub const TYPE: u32 = 0xF;
    /// A request.
    pub const REQUEST: u32 = 0;
    /// An answer.
    pub const REPLY: u32 = 1;
    /// No answer is wanted.
    pub const NO_REPLY: u32 = 1 << 4;
    /// The request failed.
    pub const ERROR: u32 = 1 << 5;
}

/// Flags of [`DmaMap`](super::DmaMap) and [`DmaUnmap`](super::DmaUnmap).
pub mod dma {
    /// The device may read.
    pub const READ: u32 = 1 << 0;
    /// The device may write.
    pub const WRITE: u32 = 1 << 1;
    /// Of a mapping: the descriptor that comes with it can be mapped.
    pub const MAP: u32 = 1 << 2;
    /// Of an unmapping: everything, wherever it is; address and length are zero.
    pub const ALL: u32 = 1 << 1;
}

/// Flags of [`DeviceInfo`](super::DeviceInfo).
pub mod device {
    /// It can be reset.
    pub const RESET: u32 = 1 << 0;
    /// It is a PCI function.
    pub const PCI: u32 = 1 << 1;
}

/// Flags, capabilities and numbers of regions.
pub mod region {
    /// Reads work.
    pub const READ: u32 = 1 << 0;
    /// Writes work.
    pub const WRITE: u32 = 1 << 1;
    /// It can be mapped, through the descriptor that comes with the answer.
    pub const MAP: u32 = 1 << 2;
    /// Capabilities follow.
    pub const CAPABILITIES: u32 = 1 << 3;
    /// Only parts can be mapped: [`SparseHeader`](super::super::SparseHeader).
    pub const CAPABILITY_SPARSE: u16 = 1;
    /// What it is: [`RegionType`](super::super::RegionType).
    pub const CAPABILITY_TYPE: u16 = 2;
    /// The expansion ROM of a PCI function; BARs 0 to 5 come before.
    pub const ROM: u32 = 6;
    /// Its configuration space.
    pub const CONFIG: u32 = 7;
    /// The regions every PCI function has a number for: also VGA's, the last.
    pub const PCI_COUNT: u32 = 9;
}

/// Flags and numbers of interrupts.
pub mod irq {
    /// Of [`IrqInfo`](super::super::IrqInfo): they can be sent to an eventfd.
    pub const EVENTFD: u32 = 1 << 0;
    /// They can be masked.
    pub const MASKABLE: u32 = 1 << 1;
    /// One masks itself when it happens.
    pub const AUTOMASKED: u32 = 1 << 2;
    /// All are set up at once or none.
    pub const NO_RESIZE: u32 = 1 << 3;
    /// Of [`SetIrqs`](super::super::SetIrqs): there is no data; what is to be done is for all of them.
    pub const DATA_NONE: u32 = 1 << 0;
    /// A byte for each says whether it is meant.
    pub const DATA_BOOL: u32 = 1 << 1;
    /// A descriptor for each comes with the message; none stands for taking them away.
    pub const DATA_EVENTFD: u32 = 1 << 2;
    /// What the data is.
    pub const DATA: u32 = 0x7;
    /// Masks them.
    pub const MASK: u32 = 1 << 3;
    /// Unmasks them.
    pub const UNMASK: u32 = 1 << 4;
    /// Says where they go; without descriptors, lets them happen.
    pub const TRIGGER: u32 = 1 << 5;
    /// What is to be done.
    pub const ACTION: u32 = 0x38;
    /// The pin.
    pub const INTX: u32 = 0;
    /// Message signalled, up to 32 vectors in configuration space.
    pub const MSI: u32 = 1;
    /// Message signalled, up to 2,048 vectors in a table.
    pub const MSIX: u32 = 2;
    /// Errors of the bus.
    pub const ERROR: u32 = 3;
    /// The device is wanted back.
    pub const REQUEST: u32 = 4;
    /// How many kinds a PCI function has.
    pub const PCI_COUNT: u32 = 5;
}
