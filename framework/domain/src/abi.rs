//! What host and domain share: the host's table, what the entry returns, and the ABI note.
//!
//! Invariant: everything here is `repr(C)` with fixed offsets (asserted below), so that a loader reads a
//! domain file of another version or another compiler far enough to refuse it with a reason.

use core::mem::{offset_of, size_of, transmute_copy};
use core::ptr::NonNull;

/// The version of everything in this module.
pub const ABI_VERSION: u32 = 1;

/// A hash of the compiler, the target and its processor features, of this build.
pub const COMPILER: u64 = number(env!("SUMAC_COMPILER"));

/// The symbol where a domain is entered: an [`Entry`].
pub const ENTRY_SYMBOL: &str = "sumac_entry";

/// What [`HostTable::fail`] is told after a panic.
pub const CAUSE_PANIC: u32 = 1;
/// What [`HostTable::fail`] is told when the memory quota is used up.
pub const CAUSE_OUT_OF_MEMORY: u32 = 2;

/// What a host does for a domain.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HostTable {
    /// [`ABI_VERSION`] of the host.
    pub version: u32,
    /// The domain's number.
    pub domain: u32,
    /// Gives at least so many bytes of zeroed private pages, page aligned; null when the quota is used up.
    pub grow: unsafe extern "C" fn(bytes: usize) -> *mut u8,
    /// The domain failed and ends here: `cause` is one of the `CAUSE_` numbers, the message UTF-8.
    pub fail: unsafe extern "C" fn(cause: u32, message: *const u8, len: usize) -> !,
    /// Logs a UTF-8 message at a level of 1 (error) to 5 (trace).
    pub log: unsafe extern "C" fn(level: u32, message: *const u8, len: usize),
}

// SAFETY: numbers and function addresses that never change; the host's functions serve any thread.
unsafe impl Sync for HostTable {}

/// Where a domain is entered, once: makes its root object.
pub type Entry = unsafe extern "C" fn(host: &'static HostTable) -> EntryResult;

/// The parts of the root object, an `Object<Root>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryResult {
    /// The object.
    pub data: *mut (),
    /// The methods of the root interface on it.
    pub vtable: *const (),
    /// Its maker's way of dropping it.
    pub drop: *const (),
}

impl EntryResult {
    /// Takes a reference to an interface apart.
    ///
    /// Compiles for interfaces only: a reference of another size is an error.
    pub fn of<I: ?Sized>(object: NonNull<I>, drop: unsafe fn(NonNull<I>)) -> Self {
        const { assert!(size_of::<NonNull<I>>() == size_of::<[*mut (); 2]>()) };
        // SAFETY: of the same size, and any bytes are two addresses.
        let [data, vtable]: [*mut (); 2] = unsafe { transmute_copy(&object) };
        Self {
            data,
            vtable,
            drop: drop as *const (),
        }
    }

    /// Puts a reference to an interface together again.
    ///
    /// # Safety
    /// These are the parts of an `I`: an image compiled by this compiler made them by [`of`](Self::of), with
    /// this very interface (the loader compared both).
    pub unsafe fn into_parts<I: ?Sized>(self) -> (NonNull<I>, unsafe fn(NonNull<I>)) {
        const { assert!(size_of::<NonNull<I>>() == size_of::<[*mut (); 2]>()) };
        // SAFETY: of the same size; by the caller's promise the bytes are of a `NonNull<I>`.
        let object = unsafe { transmute_copy(&[self.data, self.vtable.cast_mut()]) };
        // SAFETY: a function's address of this type, by the caller's promise.
        let drop = unsafe { transmute_copy(&self.drop) };
        (object, drop)
    }
}

/// The name of the owner of the ABI note, as ELF has it.
pub const NOTE_OWNER: [u8; 8] = *b"Sumac\0\0\0";
/// The ABI note's type, of its owner's numbering.
pub const NOTE_TYPE: u32 = 1;
/// What the note's contents begin with.
pub const NOTE_MAGIC: [u8; 8] = *b"SUMACABI";
/// The longest name of a root interface, in bytes.
pub const ROOT_NAME: usize = 64;

/// The ABI note: what a loader compares before it maps a byte. Little endian.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Bytes of `owner` (6: the zero counts, the padding does not).
    pub owner_len: u32,
    /// Bytes from `magic` on.
    pub contents_len: u32,
    /// [`NOTE_TYPE`].
    pub kind: u32,
    /// [`NOTE_OWNER`].
    pub owner: [u8; 8],
    /// [`ABI_VERSION`] of the domain, after [`NOTE_MAGIC`].
    pub magic: [u8; 8],
    /// [`ABI_VERSION`] of the domain.
    pub version: u32,
    /// [`COMPILER`] of the domain, in two halves: ELF notes are aligned to four bytes.
    pub compiler: [u32; 2],
    /// A hash of the sizes and alignments of what host and domain exchange.
    pub layout: [u32; 2],
    /// The fingerprint of the root interface.
    pub root_fingerprint: [u32; 2],
    /// The name of the root interface, padded with zeros.
    pub root_name: [u8; ROOT_NAME],
}

/// Where the note's contents begin.
pub const NOTE_CONTENTS: usize = offset_of!(Note, magic);

const _: () = {
    assert!(size_of::<Note>() == 120);
    assert!(offset_of!(Note, owner) == 12);
    assert!(NOTE_CONTENTS == 20);
    assert!(offset_of!(Note, version) == 28);
    assert!(offset_of!(Note, compiler) == 32);
    assert!(offset_of!(Note, layout) == 40);
    assert!(offset_of!(Note, root_fingerprint) == 48);
    assert!(offset_of!(Note, root_name) == 56);
};

impl Note {
    /// The note of a domain built now, with this root interface.
    ///
    /// # Panics
    /// At compile time, if the name has more than [`ROOT_NAME`] bytes.
    pub const fn new(layout: u64, root_name: &str, root_fingerprint: u64) -> Self {
        assert!(
            root_name.len() <= ROOT_NAME,
            "the interface's name is too long"
        );
        let mut name = [0; ROOT_NAME];
        let mut i = 0;
        while i < root_name.len() {
            name[i] = root_name.as_bytes()[i];
            i += 1;
        }
        Self {
            owner_len: 6,
            contents_len: (size_of::<Self>() - NOTE_CONTENTS) as u32,
            kind: NOTE_TYPE,
            owner: NOTE_OWNER,
            magic: NOTE_MAGIC,
            version: ABI_VERSION,
            compiler: halves(COMPILER),
            layout: halves(layout),
            root_fingerprint: halves(root_fingerprint),
            root_name: name,
        }
    }
}

const fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// A hash of types' sizes and alignments, and of fields' offsets.
#[derive(Clone, Copy, Debug)]
pub struct Layout(u64);

impl Layout {
    /// Of the types of this module.
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
            .of::<HostTable>()
            .of::<EntryResult>()
            .of::<&dyn Sync>()
            .of::<Option<&dyn Sync>>()
    }

    /// Takes a type in: its size and its alignment, and where `Option` finds room for `None`.
    pub const fn of<T>(self) -> Self {
        self.number(size_of::<T>())
            .number(align_of::<T>())
            .number(size_of::<Option<T>>())
    }

    /// Takes a number in, such as a field's offset.
    pub const fn number(mut self, number: usize) -> Self {
        let bytes = (number as u64).to_le_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self.0 = (self.0 ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            i += 1;
        }
        self
    }

    /// Takes numbers in, in order.
    pub const fn numbers(mut self, numbers: &[usize]) -> Self {
        let mut i = 0;
        while i < numbers.len() {
            self = self.number(numbers[i]);
            i += 1;
        }
        self
    }

    /// The hash.
    pub const fn finish(self) -> u64 {
        self.0
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self::new()
    }
}

/// A decimal number, at compile time.
const fn number(digits: &str) -> u64 {
    let digits = digits.as_bytes();
    let mut value = 0;
    let mut i = 0;
    while i < digits.len() {
        value = value * 10 + (digits[i] - b'0') as u64;
        i += 1;
    }
    value
}
