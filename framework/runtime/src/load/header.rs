//! The ELF header and the table of segments: that the file is of the one kind domains are, and that it has
//! segments of the expected types only.

use alloc::vec::Vec;

use elf::abi::{
    EM_X86_64, ET_DYN, EV_CURRENT, PF_X, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_GNU_RELRO, PT_GNU_STACK,
    PT_INTERP, PT_LOAD, PT_NOTE, PT_NULL, PT_PHDR, PT_SHLIB, PT_TLS,
};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParsingTable;
use elf::segment::ProgramHeader;

use super::LoadError;

/// Bytes of `e_ident`.
const IDENT: usize = 16;
/// Bytes of the ELF header.
const HEADER: usize = 64;
/// Bytes of a program header.
const PROGRAM_HEADER: usize = 56;
/// The most program headers: a linker makes about ten.
const MOST: usize = 32;

/// The program headers, each of an expected type.
#[derive(Debug)]
pub(super) struct Headers {
    /// In the order of the file.
    segments: Vec<ProgramHeader>,
}

impl Headers {
    pub(super) fn parse(image: &[u8]) -> Result<Self, LoadError> {
        let (header, _) = image
            .split_first_chunk::<HEADER>()
            .ok_or(LoadError::Header("shorter than an ELF header"))?;
        let (ident, tail) = header.split_at(IDENT);
        let kind = parse_ident::<LittleEndian>(ident)
            .map_err(|_| LoadError::Header("no ELF file of little endian numbers"))?;
        if kind.1 != Class::ELF64 || kind.2 != 0 || kind.3 != 0 {
            return Err(LoadError::Header("not of 64 bits and the System V ABI"));
        }
        let header = FileHeader::parse_tail(kind, tail)
            .map_err(|_| LoadError::Header("shorter than an ELF header"))?;
        if header.e_machine != EM_X86_64 {
            return Err(LoadError::Header("not for x86-64"));
        }
        if header.e_type != ET_DYN {
            return Err(LoadError::Header("not a shared object (ET_DYN)"));
        }
        if header.version != u32::from(EV_CURRENT) || header.e_flags != 0 {
            return Err(LoadError::Header("of another version, or with flags"));
        }
        if usize::from(header.e_ehsize) != HEADER
            || usize::from(header.e_phentsize) != PROGRAM_HEADER
        {
            return Err(LoadError::Header(
                "its header tables have entries of other sizes",
            ));
        }
        let count = usize::from(header.e_phnum);
        if count == 0 || count > MOST {
            return Err(LoadError::Header("no segments, or too many"));
        }
        let table = usize::try_from(header.e_phoff)
            .ok()
            .and_then(|start| image.get(start..start.checked_add(count * PROGRAM_HEADER)?))
            .ok_or(LoadError::Header(
                "its table of segments lies outside the file",
            ))?;
        Self::segments(table)
    }

    fn segments(table: &[u8]) -> Result<Self, LoadError> {
        let mut segments = Vec::new();
        for segment in
            ParsingTable::<_, ProgramHeader>::new(LittleEndian, Class::ELF64, table).iter()
        {
            let kind = segment.p_type;
            match kind {
                PT_NULL | PT_PHDR | PT_LOAD | PT_GNU_EH_FRAME => {}
                // These say how others are to be read: two of a kind could disagree.
                PT_DYNAMIC | PT_NOTE | PT_GNU_RELRO | PT_GNU_STACK => {
                    let known = segments
                        .iter()
                        .any(|other: &ProgramHeader| other.p_type == kind);
                    if known {
                        return Err(LoadError::Header("two segments of a type that comes once"));
                    }
                }
                _ => {
                    let name = name(kind);
                    return Err(LoadError::SegmentType { kind, name });
                }
            }
            if kind == PT_GNU_STACK && segment.p_flags & PF_X != 0 {
                return Err(LoadError::SegmentFlags {
                    address: segment.p_vaddr,
                    flags: segment.p_flags,
                });
            }
            segments.push(segment);
        }
        Ok(Self { segments })
    }

    /// The segments of one type.
    pub(super) fn of(&self, kind: u32) -> impl Iterator<Item = &ProgramHeader> {
        self.segments
            .iter()
            .filter(move |segment| segment.p_type == kind)
    }

    /// The one segment with notes.
    pub(super) fn note(&self) -> Option<&ProgramHeader> {
        self.of(PT_NOTE).next()
    }
}

fn name(kind: u32) -> &'static str {
    match kind {
        PT_INTERP => "PT_INTERP",
        PT_TLS => "PT_TLS",
        PT_SHLIB => "PT_SHLIB",
        _ => "unknown to the loader",
    }
}
