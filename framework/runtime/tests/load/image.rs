//! A small domain image made by hand, as a linker makes them, and its parts to be changed.
//!
//! It has one of everything that the loader reads, within little more than a kilobyte: every byte of it can
//! be tried. It is never entered.

use ed25519_dalek::{Signer, SigningKey};
use sumac_domain::abi::{self, Note};
use sumac_domain::file;

/// Where the parts begin in the file. In memory each segment is a page further on.
pub const PROGRAM_HEADERS: usize = 0x40;
pub const NOTE: usize = 0x270;
pub const SYMBOLS: usize = 0x2e8;
pub const HASH: usize = 0x318;
pub const STRINGS: usize = 0x330;
pub const RELOCATIONS: usize = 0x340;
pub const CODE: usize = 0x370;
pub const DYNAMIC: usize = 0x380;
pub const POINTER: usize = 0x440;
pub const VARIABLE: usize = 0x448;
pub const END: usize = 0x450;

/// Where the program headers of each kind are in the table.
pub const CONSTANTS_LOAD: usize = 0;
pub const CODE_LOAD: usize = 1;
pub const RELRO_LOAD: usize = 2;
pub const VARIABLES_LOAD: usize = 3;
pub const DYNAMIC_HEADER: usize = 4;
pub const RELRO_HEADER: usize = 5;
pub const NOTE_HEADER: usize = 6;
pub const STACK_HEADER: usize = 7;
/// A header of a type that says nothing, for tests to make something of.
pub const SPARE_HEADER: usize = 8;

/// Fields of a program header: their offsets in it.
pub const TYPE: usize = 0;
pub const FLAGS: usize = 4;
pub const OFFSET: usize = 8;
pub const ADDRESS: usize = 16;
pub const FILE_BYTES: usize = 32;
pub const MEMORY_BYTES: usize = 40;
pub const ALIGN: usize = 48;

/// Entries of the dynamic table that tests change: their places in it.
pub const DYNAMIC_SPARE: usize = 8;

const PAGE: u64 = 0x1000;
pub const NAME: &str = "Root";
pub const FINGERPRINT: u64 = 0x1122_3344_5566_7788;
pub const LAYOUT: u64 = 0x99aa_bbcc_ddee_ff00;

/// An image under change.
#[derive(Clone)]
pub struct Image(pub Vec<u8>);

impl Image {
    /// Right in every respect.
    pub fn sound() -> Self {
        let mut image = Self(vec![0; END]);
        image.header();
        image.program_headers();
        image.note(&Note::new(LAYOUT, NAME, FINGERPRINT));
        image.symbols();
        image.relocations();
        image.dynamic();
        image.put(CODE, &[0x0f, 0x0b]);
        image.put(VARIABLE, &[0xcd; 8]);
        image
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn put16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    pub fn put32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    pub fn put64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// Where a field of a program header is.
    pub fn field(header: usize, field: usize) -> usize {
        PROGRAM_HEADERS + header * 56 + field
    }

    /// Sets an entry of the dynamic table.
    pub fn set_dynamic(&mut self, entry: usize, tag: u64, value: u64) {
        self.put64(DYNAMIC + entry * 16, tag);
        self.put64(DYNAMIC + entry * 16 + 8, value);
    }

    fn header(&mut self) {
        self.put(0, b"\x7fELF\x02\x01\x01");
        self.put16(16, 3);
        self.put16(18, 62);
        self.put32(20, 1);
        self.put64(32, PROGRAM_HEADERS as u64);
        self.put16(52, 64);
        self.put16(54, 56);
        self.put16(56, 9);
        self.put16(58, 64);
    }

    fn program_header(&mut self, at: usize, kind: u32, flags: u32, place: [u64; 4], align: u64) {
        let [offset, address, file, memory] = place;
        self.put32(Self::field(at, TYPE), kind);
        self.put32(Self::field(at, FLAGS), flags);
        self.put64(Self::field(at, OFFSET), offset);
        self.put64(Self::field(at, ADDRESS), address);
        self.put64(Self::field(at, ADDRESS + 8), address);
        self.put64(Self::field(at, FILE_BYTES), file);
        self.put64(Self::field(at, MEMORY_BYTES), memory);
        self.put64(Self::field(at, ALIGN), align);
    }

    fn program_headers(&mut self) {
        let [code, dynamic, variable] = [CODE as u64, DYNAMIC as u64, VARIABLE as u64];
        let relro = 2 * PAGE + dynamic;
        self.program_header(CONSTANTS_LOAD, 1, 4, [0, 0, code, code], PAGE);
        self.program_header(CODE_LOAD, 1, 5, [code, PAGE + code, 16, 16], PAGE);
        let bytes = variable - dynamic;
        self.program_header(
            RELRO_LOAD,
            1,
            6,
            [dynamic, relro, bytes, PAGE - dynamic],
            PAGE,
        );
        let place = [variable, 3 * PAGE + variable, 8, 0x100];
        self.program_header(VARIABLES_LOAD, 1, 6, place, PAGE);
        self.program_header(DYNAMIC_HEADER, 2, 6, [dynamic, relro, 0xc0, 0xc0], 8);
        let place = [dynamic, relro, bytes, PAGE - dynamic];
        self.program_header(RELRO_HEADER, 0x6474_e552, 4, place, 1);
        let note = NOTE as u64;
        self.program_header(NOTE_HEADER, 4, 4, [note, note, 120, 120], 4);
        self.program_header(STACK_HEADER, 0x6474_e551, 6, [0; 4], 0);
    }

    /// Puts a note in place, field by field as its offsets are promised.
    pub fn note(&mut self, note: &Note) {
        self.put32(NOTE, note.owner_len);
        self.put32(NOTE + 4, note.contents_len);
        self.put32(NOTE + 8, note.kind);
        self.put(NOTE + 12, &abi::NOTE_OWNER);
        self.put(NOTE + 20, &abi::NOTE_MAGIC);
        self.put32(NOTE + 28, note.version);
        for (at, halves) in [
            (32, note.compiler),
            (40, note.layout),
            (48, note.root_fingerprint),
        ] {
            self.put32(NOTE + at, halves[0]);
            self.put32(NOTE + at + 4, halves[1]);
        }
        self.put(NOTE + 56, &note.root_name);
    }

    fn symbols(&mut self) {
        self.put(STRINGS, b"\0sumac_entry\0");
        let entry = SYMBOLS + 24;
        self.put32(entry, 1);
        // A global function, in some section.
        self.put(entry + 4, &[0x12, 0]);
        self.put16(entry + 6, 1);
        self.put64(entry + 8, PAGE + CODE as u64);
        self.put64(entry + 16, 2);
        // One bucket, two symbols.
        self.put32(HASH, 1);
        self.put32(HASH + 4, 2);
        self.put32(HASH + 8, 1);
    }

    /// Two: a constant address of code, and a variable with the address of a constant.
    fn relocations(&mut self) {
        let pointer = 2 * PAGE + POINTER as u64;
        let variable = 3 * PAGE + VARIABLE as u64;
        for (at, (place, to)) in [(pointer, PAGE + CODE as u64), (variable, STRINGS as u64)]
            .into_iter()
            .enumerate()
        {
            self.put64(RELOCATIONS + at * 24, place);
            self.put64(RELOCATIONS + at * 24 + 8, 8);
            self.put64(RELOCATIONS + at * 24 + 16, to);
        }
    }

    fn dynamic(&mut self) {
        for (entry, (tag, value)) in [
            (7, RELOCATIONS as u64),
            (8, 48),
            (9, 24),
            (6, SYMBOLS as u64),
            (11, 24),
            (5, STRINGS as u64),
            (10, 13),
            (4, HASH as u64),
        ]
        .into_iter()
        .enumerate()
        {
            self.set_dynamic(entry, tag, value);
        }
    }

    /// The image as a file, signed.
    pub fn signed(&self, key: &SigningKey, description: &str) -> Vec<u8> {
        let public = key.verifying_key().to_bytes();
        let mut file = [&self.0, description.as_bytes()].concat();
        let words = u32::try_from(description.len()).expect("a short description");
        file.extend_from_slice(&file::unsigned_trailer(words, &public));
        let signature = key.sign(&file).to_bytes();
        file.extend_from_slice(&signature);
        file
    }
}
