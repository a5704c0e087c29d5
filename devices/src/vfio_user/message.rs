//! vfio-user messages, as they are on the socket: for whoever serves a device and whoever uses one.
//!
//! A message is a [`Header`] and a body. Numbers are in the processor's byte order: both ends are on
//! one machine. What a body holds is VFIO's own structures (linux/vfio.h), a few of them shortened.
//!
//! Invariant: nothing here believes a length: parsing takes what is there or nothing.

use serde_json::{Value, json};

/// The version of the protocol this speaks: peers accept 0.0 and refuse what is later.
pub const VERSION: (u16, u16) = (0, 0);
/// Descriptors a message may carry.
pub const MAX_FDS: usize = 16;
/// Bytes of data one access may move, as both sides announce it.
pub const MAX_DATA: usize = 1 << 20;
/// No body of this protocol is longer: the largest access and what describes it.
pub const MAX_BODY: usize = MAX_DATA + 256;

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// Which version, and what each side can do.
    Version = 1,
    /// The device may reach memory.
    DmaMap = 2,
    /// It may no longer.
    DmaUnmap = 3,
    /// What kind of device it is.
    DeviceInfo = 4,
    /// Where a region is and what can be done with it.
    RegionInfo = 5,
    /// Descriptors that stand for accesses to a region.
    RegionIoFds = 6,
    /// How many interrupts there are of one kind.
    IrqInfo = 7,
    /// Where interrupts go.
    SetIrqs = 8,
    /// A read of a region.
    RegionRead = 9,
    /// A write to it.
    RegionWrite = 10,
    /// The device reads memory that it has no descriptor of.
    DmaRead = 11,
    /// It writes there.
    DmaWrite = 12,
    /// Device reset.
    DeviceReset = 13,
}

impl Command {
    /// The command of this number.
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Version,
            2 => Self::DmaMap,
            3 => Self::DmaUnmap,
            4 => Self::DeviceInfo,
            5 => Self::RegionInfo,
            6 => Self::RegionIoFds,
            7 => Self::IrqInfo,
            8 => Self::SetIrqs,
            9 => Self::RegionRead,
            10 => Self::RegionWrite,
            11 => Self::DmaRead,
            12 => Self::DmaWrite,
            13 => Self::DeviceReset,
            _ => return None,
        })
    }
}

/// Where a message's numbers are taken from.
macro_rules! structure {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl $name {
            /// Bytes it has on the socket.
            pub const SIZE: usize = 0 $(+ size_of::<$kind>())*;

            /// Takes it from the start of `bytes`; `None` if there are too few.
            pub fn parse(bytes: &[u8]) -> Option<Self> {
                let rest = bytes;
                $(
                    let (start, rest) = rest.split_first_chunk()?;
                    let $field = <$kind>::from_ne_bytes(*start);
                )*
                let _ = rest;
                Some(Self { $($field,)* })
            }

            /// Appends it to `out`.
            pub fn put(&self, out: &mut Vec<u8>) {
                $(out.extend_from_slice(&self.$field.to_ne_bytes());)*
            }
        }
    )*};
}

structure! {
    /// What every message begins with.
    Header {
        /// Chosen by who asks; the answer has the same.
        id: u16,
        /// A [`Command`]'s number.
        command: u16,
        /// Bytes of the whole message, header included.
        size: u32,
        /// [`flag`]s.
        flags: u32,
        /// Of an answer with [`flag::ERROR`]: the errno.
        error: u32,
    }
    /// Body of [`Command::Version`], before [`Capabilities`] as text.
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    }
    /// Body of [`Command::DmaMap`]; with it comes the descriptor of the memory, if there is one.
    DmaMap {
        /// Bytes of this structure.
        argsz: u32,
        /// [`dma`] flags.
        flags: u32,
        /// Where in the file the memory starts.
        offset: u64,
        /// Its bus address.
        address: u64,
        /// Its length.
        size: u64,
    }
    /// Body of [`Command::DmaUnmap`] and of its answer.
    DmaUnmap {
        /// Bytes of this structure.
        argsz: u32,
        /// [`dma`] flags.
        flags: u32,
        /// First bus address.
        address: u64,
        /// How many bytes.
        size: u64,
    }
    /// Body of [`Command::DeviceInfo`] and of its answer.
    DeviceInfo {
        /// Bytes of this structure.
        argsz: u32,
        /// [`device`] flags.
        flags: u32,
        /// Number of regions.
        regions: u32,
        /// Number of kinds of interrupts.
        irqs: u32,
    }
    /// Body of [`Command::RegionInfo`] and of its answer, before the answer's capabilities.
    RegionInfo {
        /// Bytes there is room for; of an answer, bytes that are needed.
        argsz: u32,
        /// [`region`] flags.
        flags: u32,
        /// Which region.
        index: u32,
        /// Where the first capability is, from the start of this structure; 0 if there is none.
        capabilities: u32,
        /// Length of the region; 0 if it does not exist.
        size: u64,
        /// Where in the descriptor that comes with the answer the region starts.
        offset: u64,
    }
    /// A capability of a region: [`region::CAPABILITY_SPARSE`], [`region::CAPABILITY_TYPE`].
    Capability {
        /// Which.
        id: u16,
        /// Its version.
        version: u16,
        /// Where the next is, from the start of the [`RegionInfo`]; 0 if there is none.
        next: u32,
    }
    /// What follows the [`Capability`] of a region that can be mapped in part; then the areas.
    SparseHeader {
        /// Number of [`Area`]s.
        areas: u32,
        /// Zero.
        reserved: u32,
    }
    /// Part of a region that can be mapped.
    Area {
        /// Where in the region it starts.
        offset: u64,
        /// Its length.
        size: u64,
    }
    /// What follows the [`Capability`] of a region that is no BAR.
    RegionType {
        /// Bit 31 and a PCI vendor, or a type of VFIO's own.
        kind: u32,
        /// Number within the type.
        subtype: u32,
    }
    /// Body of [`Command::RegionIoFds`] and of its answer, before the answer's sub-regions.
    RegionIoFds {
        /// Bytes there is room for; of an answer, bytes that are needed.
        argsz: u32,
        /// Zero.
        flags: u32,
        /// Which region.
        index: u32,
        /// How many sub-regions follow.
        count: u32,
    }
    /// Body of [`Command::IrqInfo`] and of its answer.
    IrqInfo {
        /// Bytes of this structure.
        argsz: u32,
        /// [`irq`] flags.
        flags: u32,
        /// Which kind of interrupt.
        index: u32,
        /// How many there are.
        count: u32,
    }
    /// Body of [`Command::SetIrqs`], before its data; descriptors come with it.
    SetIrqs {
        /// Bytes of this structure and its data.
        argsz: u32,
        /// [`irq`] flags: one that says what the data is, one what to do.
        flags: u32,
        /// Which kind of interrupt.
        index: u32,
        /// The first of them.
        start: u32,
        /// How many.
        count: u32,
    }
    /// Body of [`Command::RegionRead`] and [`Command::RegionWrite`] and of their answers, before the
    /// data of a write's request or a read's answer.
    RegionAccess {
        /// Where in the region.
        offset: u64,
        /// Which region.
        region: u32,
        /// How many bytes.
        count: u32,
    }
    /// Body of [`Command::DmaRead`] and [`Command::DmaWrite`] and of their answers, before the data
    /// of a write's request or a read's answer.
    DmaAccess {
        /// Bus address.
        address: u64,
        /// How many bytes.
        count: u64,
    }
}

impl Header {
    /// The header of a request with a body of `body` bytes.
    pub const fn request(id: u16, command: Command, body: usize) -> Self {
        Self {
            id,
            command: command as u16,
            size: (Self::SIZE + body) as u32,
            flags: flag::REQUEST,
            error: 0,
        }
    }

    /// The header of the answer to `self` with a body of `body` bytes.
    pub const fn answer(&self, body: usize) -> Self {
        Self {
            id: self.id,
            command: self.command,
            size: (Self::SIZE + body) as u32,
            flags: flag::REPLY,
            error: 0,
        }
    }

    /// The header of the answer to `self` that says what went wrong.
    pub const fn refusal(&self, errno: u32) -> Self {
        Self {
            flags: flag::REPLY | flag::ERROR,
            error: errno,
            ..self.answer(0)
        }
    }

    /// Bytes that follow; `None` if the message is said to be shorter than its header.
    pub const fn body(&self) -> Option<usize> {
        (self.size as usize).checked_sub(Self::SIZE)
    }

    /// Whether this is a request (and no answer).
    pub const fn is_request(&self) -> bool {
        self.flags & flag::TYPE == flag::REQUEST
    }

    /// Whether the sender of this request wants no answer.
    pub const fn is_posted(&self) -> bool {
        self.flags & flag::NO_REPLY != 0
    }

    /// The errno of an answer that refuses.
    pub const fn refused(&self) -> Option<u32> {
        if self.flags & flag::ERROR != 0 {
            Some(self.error)
        } else {
            None
        }
    }
}

impl DmaUnmap {
    /// The first and the last address it speaks of, which may be the last there is; `None` if it contradicts itself or
    /// asks for more than memory to be taken back.
    pub const fn range(&self) -> Option<(u64, u64)> {
        if (self.argsz as usize) < Self::SIZE {
            return None;
        }
        match (self.flags, self.address, self.size) {
            (dma::ALL, 0, 0) => Some((0, u64::MAX)),
            (0, first, size @ 1..) => match first.checked_add(size - 1) {
                Some(last) => Some((first, last)),
                None => None,
            },
            _ => None,
        }
    }
}

/// Flags of a [`Header`].
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

/// Flags of [`DmaMap`] and [`DmaUnmap`].
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

/// Flags of [`DeviceInfo`].
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
    /// Only parts can be mapped: [`SparseHeader`](super::SparseHeader).
    pub const CAPABILITY_SPARSE: u16 = 1;
    /// What it is: [`RegionType`](super::RegionType).
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
    /// Of [`IrqInfo`](super::IrqInfo): they can be sent to an eventfd.
    pub const EVENTFD: u32 = 1 << 0;
    /// They can be masked.
    pub const MASKABLE: u32 = 1 << 1;
    /// One masks itself when it happens.
    pub const AUTOMASKED: u32 = 1 << 2;
    /// All are set up at once or none.
    pub const NO_RESIZE: u32 = 1 << 3;
    /// Of [`SetIrqs`](super::SetIrqs): there is no data; what is to be done is for all of them.
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

/// What one side can do, as JSON text after a [`Version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Descriptors it takes in one message.
    pub max_fds: usize,
    /// Bytes of data it takes in one access.
    pub max_data: usize,
}

impl Default for Capabilities {
    /// What one that says nothing can do, by the protocol.
    fn default() -> Self {
        Self {
            max_fds: 1,
            max_data: MAX_DATA,
        }
    }
}

impl Capabilities {
    /// What this implementation can do.
    pub const OURS: Self = Self {
        max_fds: MAX_FDS,
        max_data: MAX_DATA,
    };

    /// Takes them from the text; what it does not say, or says strangely, is as by default. `None`: it is
    /// neither empty nor JSON text with a NUL at its end.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let usual = Self::default();
        if text.is_empty() {
            return Some(usual);
        }
        let text = text.strip_suffix(b"\0")?;
        let value: Value = serde_json::from_slice(text).ok()?;
        let number = |name: &str, usual: usize| {
            let number = value.get("capabilities")?.get(name)?.as_u64()?;
            usize::try_from(number)
                .ok()
                .filter(|&n| n > 0)
                .or(Some(usual))
        };
        Some(Self {
            max_fds: number("max_msg_fds", usual.max_fds).unwrap_or(usual.max_fds),
            max_data: number("max_data_xfer_size", usual.max_data).unwrap_or(usual.max_data),
        })
    }

    /// Appends the text.
    pub fn put(&self, out: &mut Vec<u8>) {
        let text = json!({
            "capabilities": {
                "max_msg_fds": self.max_fds,
                "max_data_xfer_size": self.max_data,
                "pgsizes": 4096,
                "max_dma_maps": 65535,
            }
        });
        out.extend_from_slice(text.to_string().as_bytes());
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn structures_have_the_sizes_of_vfio_user() {
        assert_eq!(Header::SIZE, 16);
        assert_eq!((DmaMap::SIZE, DmaUnmap::SIZE), (32, 24));
        assert_eq!((DeviceInfo::SIZE, RegionInfo::SIZE), (16, 32));
        assert_eq!((IrqInfo::SIZE, SetIrqs::SIZE), (16, 20));
        assert_eq!((RegionAccess::SIZE, DmaAccess::SIZE), (16, 16));
    }

    #[test]
    fn a_command_has_its_number() {
        for number in 0..=u16::MAX {
            if let Some(command) = Command::from_number(number) {
                assert_eq!(command as u16, number);
            }
        }
        assert_eq!(Command::from_number(14), None);
    }

    #[test]
    fn an_answer_belongs_to_its_request() {
        let request = Header::request(7, Command::RegionRead, RegionAccess::SIZE);
        assert_eq!(request.body(), Some(16));
        let refusal = request.refusal(22);
        assert_eq!(
            (refusal.id, refusal.command, refusal.refused()),
            (7, 9, Some(22))
        );
        assert!(request.is_request() && !refusal.is_request());
        let short = Header {
            size: 15,
            ..request
        };
        assert_eq!(short.body(), None);
    }

    #[test]
    fn capabilities_that_nobody_names_are_the_usual_ones() {
        let text = |text: &str| Capabilities::parse(text.as_bytes());
        assert_eq!(text(""), Some(Capabilities::default()));
        assert_eq!(text("{}\0"), Some(Capabilities::default()));
        let some = text("{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":\"x\"}}\0");
        let expected = Capabilities {
            max_fds: 8,
            ..Capabilities::default()
        };
        assert_eq!(some, Some(expected));
        for wrong in ["{}", "{\0", "\0", "[1,2\0"] {
            assert_eq!(text(wrong), None, "{wrong:?}");
        }
        let mut ours = Vec::new();
        Capabilities::OURS.put(&mut ours);
        assert_eq!(Capabilities::parse(&ours), Some(Capabilities::OURS));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 32)) {
            fn check<T: PartialEq>(
                bytes: &[u8],
                parse: impl Fn(&[u8]) -> Option<T>,
                put: impl Fn(&T, &mut Vec<u8>),
                size: usize,
            ) -> bool {
                let Some(value) = parse(bytes) else { return false };
                let mut written = Vec::new();
                put(&value, &mut written);
                written == bytes[..size] && parse(&bytes[..size - 1]).is_none()
            }
            prop_assert!(check(&bytes, Header::parse, Header::put, Header::SIZE));
            prop_assert!(check(&bytes, DmaMap::parse, DmaMap::put, DmaMap::SIZE));
            prop_assert!(check(&bytes, SetIrqs::parse, SetIrqs::put, SetIrqs::SIZE));
            prop_assert!(check(&bytes, RegionInfo::parse, RegionInfo::put, RegionInfo::SIZE));
        }

        #[test]
        fn any_text_makes_capabilities_or_none(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Capabilities::parse(&text);
        }
    }
}
