//! A device's registers: 32-bit cells in a BAR, reached by offset enums, and doorbells.
//!
//! A driver declares its registers once, with [`register_offsets!`](crate::register_offsets), each
//! with its access; [`Bar`] then takes only those types. Registers that hold a *bus address* are a
//! kind of their own ([`AddressRegister`]): they take an [`Iova`], which exists only for memory the
//! driver owns, so that no plain write can point a device at foreign memory.

use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::Iova;

/// A BAR as the host provides it: mapped, trapped, or a mixture.
///
/// # Safety
/// Implementers promise that a pointer returned by [`mapped`](Self::mapped) stays valid, aligned
/// and shared (written by others at most atomically) for as long as `self` lives.
pub unsafe trait RegisterIo: Send + Sync {
    /// Length of the BAR in bytes.
    fn len(&self) -> u32;

    /// Whether the BAR has no registers at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the register at `offset`. A device that is gone, or an offset outside the BAR, reads
    /// as all ones, as on PCI Express.
    fn read32(&self, offset: u32) -> u32;

    /// Writes the register at `offset`; outside the BAR the write is lost.
    fn write32(&self, offset: u32, value: u32);

    /// The cell behind `offset`, if it may be stored to without telling the host.
    fn mapped(&self, offset: u32) -> Option<NonNull<AtomicU32>>;
}

/// A register a driver may read.
pub trait Readable: Copy {
    /// Byte offset in the BAR.
    fn offset(self) -> u32;
}

/// A register a driver may write.
pub trait Writable: Copy {
    /// Byte offset in the BAR.
    fn offset(self) -> u32;
}

/// A pair of registers (low word at `offset`, high word at `offset + 4`) that holds a bus address.
pub trait AddressRegister: Copy {
    /// Byte offset of the low word in the BAR.
    fn offset(self) -> u32;
}

/// A device's registers.
#[derive(Clone)]
pub struct Bar {
    io: Arc<dyn RegisterIo>,
}

impl Bar {
    /// Wraps the BAR that the host provides.
    pub fn new(io: Arc<dyn RegisterIo>) -> Self {
        Self { io }
    }

    /// The BAR itself, for a host that passes a driver's accesses on.
    ///
    /// # Safety
    /// The caller writes no address register but with what a driver wrote through a [`Bar`].
    pub unsafe fn io(&self) -> &dyn RegisterIo {
        &*self.io
    }

    /// Reads a register.
    pub fn read(&self, register: impl Readable) -> u32 {
        self.io.read32(register.offset())
    }

    /// Writes a register.
    pub fn write(&self, register: impl Writable, value: u32) {
        self.io.write32(register.offset(), value);
    }

    /// Points the device at memory of the driver's.
    pub fn write_address(&self, register: impl AddressRegister, address: Iova) {
        let address = address.to_bits();
        self.io.write32(register.offset(), address as u32);
        self.io
            .write32(register.offset() + 4, (address >> 32) as u32);
    }

    /// A register written on the fast path, as a cell of its own.
    pub fn doorbell(&self, register: impl Writable) -> Doorbell {
        let offset = register.offset();
        Doorbell {
            cell: self.io.mapped(offset),
            offset,
            io: self.io.clone(),
        }
    }
}

impl core::fmt::Debug for Bar {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Bar({} bytes)", self.io.len())
    }
}

/// One register through which a driver tells the device that a ring moved: a tail or doorbell.
///
/// Where the host maps the register, ringing is one store; else it is one call.
pub struct Doorbell {
    /// Valid as long as `io` lives ([`RegisterIo::mapped`]).
    cell: Option<NonNull<AtomicU32>>,
    offset: u32,
    io: Arc<dyn RegisterIo>,
}

// SAFETY: the cell is an atomic that `io`, which is Send + Sync, keeps alive.
unsafe impl Send for Doorbell {}

impl Doorbell {
    /// Writes `value`, after everything written before it: descriptors are visible to the device
    /// when the doorbell is.
    #[inline(always)]
    pub fn ring(&self, value: u32) {
        match self.cell {
            // SAFETY: `RegisterIo::mapped` promises a valid, shared cell while `self.io` lives.
            Some(cell) => unsafe { cell.as_ref() }.store(value, Ordering::Release),
            None => self.io.write32(self.offset, value),
        }
    }
}

/// Declares a family of registers: an enum whose variants (plain or indexed) know their offsets.
///
/// ```
/// sumac_device::register_offsets! {
///     /// Control registers.
///     pub enum Control: read write {
///         /// Device control (section 8.2.3.1.1).
///         Ctrl = 0x0000,
///         /// Receive descriptor control, queue 0 to 63 (section 8.2.3.8.9).
///         Rxdctl(q: 64) = 0x1028 + 0x40 * q,
///     }
/// }
/// ```
/// An index at or above its bound is folded into the range, so that no index can reach a register
/// of another kind; the driver's own types keep it from happening.
#[macro_export]
macro_rules! register_offsets {
    ($(#[$meta:meta])* $vis:vis enum $name:ident: $($access:ident)+ {
        $($(#[$vmeta:meta])* $variant:ident $(($index:ident: $bound:literal))? = $offset:expr),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $($(#[$vmeta])* $variant $((
                #[doc = concat!("Index below ", stringify!($bound), ".")]
                $crate::register_offsets!(@u32 $index)
            ))?),+
        }
        impl $name {
            /// Byte offset in the BAR.
            pub const fn byte_offset(self) -> u32 {
                match self {
                    $(Self::$variant $(($index))? => {
                        $(let $index = $index % $bound;)?
                        $offset
                    }),+
                }
            }
        }
        $($crate::register_offsets!(@access $access $name);)+
    };
    (@u32 $index:ident) => { u32 };
    (@access read $name:ident) => {
        impl $crate::registers::Readable for $name {
            fn offset(self) -> u32 { self.byte_offset() }
        }
    };
    (@access write $name:ident) => {
        impl $crate::registers::Writable for $name {
            fn offset(self) -> u32 { self.byte_offset() }
        }
    };
    (@access address $name:ident) => {
        impl $crate::registers::AddressRegister for $name {
            fn offset(self) -> u32 { self.byte_offset() }
        }
    };
}
