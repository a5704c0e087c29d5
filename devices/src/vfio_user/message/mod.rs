//! vfio-user messages, as they are on the socket: for whoever serves a device and whoever uses one.
//!
//! A message is a [`Header`] and a body. Numbers are in the processor's byte order: both ends are on
//! one machine. What a body holds is VFIO's own structures (linux/vfio.h), a few of them shortened.
//!
//! Invariant: nothing here believes a length: parsing takes what is there or nothing.

mod capabilities;
mod flags;

pub use capabilities::Capabilities;
pub use flags::{device, dma, flag, irq, region};

/// The version of the protocol this speaks: peers accept 0.0 and refuse what is later.
pub const VERSION: (u16, u16) = (0, 0);
/// Descriptors a message may carry.
pub const MAX_FDS: usize = 16;
/// Bytes of data one access may move, as both sides announce it.
pub const MAX_DATA: usize = 1 << 20;
/// Pieces of memory a client may lend at a time: each is a mapping of the server's process, which has a
/// limited number of them.
pub const MAX_MAPS: usize = 16 * 1024;
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
    }
}
