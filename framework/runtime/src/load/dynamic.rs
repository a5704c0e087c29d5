//! The dynamic table: where relocations and symbols are, and that nothing else is asked of a linker.

use alloc::string::String;

use elf::abi::{
    DF_1_NOW, DF_BIND_NOW, DF_SYMBOLIC, DT_BIND_NOW, DT_DEBUG, DT_FINI, DT_FINI_ARRAY, DT_FLAGS,
    DT_FLAGS_1, DT_GNU_HASH, DT_HASH, DT_INIT, DT_INIT_ARRAY, DT_JMPREL, DT_NEEDED, DT_NULL,
    DT_PLTGOT, DT_PREINIT_ARRAY, DT_REL, DT_RELA, DT_RELACOUNT, DT_RELAENT, DT_RELASZ, DT_RPATH,
    DT_RUNPATH, DT_STRSZ, DT_STRTAB, DT_SYMBOLIC, DT_SYMENT, DT_SYMTAB, DT_TEXTREL, SHN_UNDEF,
    STB_GLOBAL, STT_FUNC,
};
use elf::dynamic::Dyn;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::parse::ParsingTable;
use elf::symbol::Symbol;
use sumac_domain::abi::ENTRY_SYMBOL;

use super::LoadError;

/// Bytes of a relocation with an addend.
pub(super) const RELA: u64 = 24;
/// Bytes of a symbol.
const SYMBOL: u64 = 24;
/// The most symbols: an image exports its entry and a few functions on memory.
const MOST_SYMBOLS: u64 = 4096;

/// What the table tells, each an address or a number of bytes.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    rela: Option<u64>,
    rela_bytes: Option<u64>,
    symbols: Option<u64>,
    strings: Option<u64>,
    strings_bytes: Option<u64>,
    hash: Option<u64>,
}

impl Dynamic {
    /// Reads the table; it must end, and have nothing that a domain may not have.
    pub(super) fn parse(table: &[u8]) -> Result<Self, LoadError> {
        let mut dynamic = Self::default();
        for entry in ParsingTable::<_, Dyn>::new(LittleEndian, Class::ELF64, table).iter() {
            if entry.d_tag == DT_NULL {
                return Ok(dynamic);
            }
            dynamic.take(entry.d_tag, entry.d_val())?;
        }
        Err(LoadError::Dynamic("it does not end"))
    }

    fn take(&mut self, tag: i64, value: u64) -> Result<(), LoadError> {
        let place = match tag {
            DT_RELA => &mut self.rela,
            DT_RELASZ => &mut self.rela_bytes,
            DT_SYMTAB => &mut self.symbols,
            DT_STRTAB => &mut self.strings,
            DT_STRSZ => &mut self.strings_bytes,
            DT_HASH => &mut self.hash,
            DT_RELAENT if value == RELA => return Ok(()),
            DT_SYMENT if value == SYMBOL => return Ok(()),
            DT_FLAGS if value & !(DF_BIND_NOW | DF_SYMBOLIC) as u64 == 0 => return Ok(()),
            DT_FLAGS_1 if value & !(DF_1_NOW as u64) == 0 => return Ok(()),
            DT_GNU_HASH | DT_RELACOUNT | DT_BIND_NOW | DT_SYMBOLIC | DT_DEBUG | DT_PLTGOT => {
                return Ok(());
            }
            _ => {
                return Err(LoadError::DynamicTag {
                    tag,
                    name: name(tag),
                });
            }
        };
        if place.replace(value).is_some() {
            return Err(LoadError::Dynamic("it has an entry twice"));
        }
        Ok(())
    }

    /// Where the relocations are, and their bytes.
    pub(super) fn relocations(&self) -> Result<Option<(u64, u64)>, LoadError> {
        match (self.rela, self.rela_bytes) {
            (None, None) => Ok(None),
            (Some(at), Some(bytes)) if bytes % RELA == 0 => Ok(Some((at, bytes))),
            _ => Err(LoadError::Dynamic(
                "its relocations have no size, or a wrong one",
            )),
        }
    }

    /// Where the entry is. `contents` gives the bytes of the file at an address.
    pub(super) fn entry<'a>(
        &self,
        contents: impl Fn(u64, u64) -> Option<&'a [u8]>,
    ) -> Result<u64, LoadError> {
        let missing = LoadError::Dynamic("it has no symbols");
        let (Some(symbols), Some(strings), Some(strings_bytes), Some(hash)) =
            (self.symbols, self.strings, self.strings_bytes, self.hash)
        else {
            return Err(missing);
        };
        // The hash table begins with the number of its buckets and the number of symbols.
        let count = contents(hash, 8)
            .and_then(|head| head.last_chunk())
            .map(|count| u64::from(u32::from_le_bytes(*count)))
            .filter(|count| *count <= MOST_SYMBOLS)
            .ok_or(LoadError::Dynamic("its hash table lies outside the file"))?;
        let outside = || LoadError::Dynamic("its symbols lie outside the file");
        let symbols = contents(symbols, count * SYMBOL).ok_or_else(outside)?;
        let strings = contents(strings, strings_bytes).ok_or_else(outside)?;
        find_entry(symbols, strings)
    }
}

/// The entry's address; the first symbol is none, and no other may be undefined.
fn find_entry(symbols: &[u8], strings: &[u8]) -> Result<u64, LoadError> {
    let mut entry = None;
    let table = ParsingTable::<_, Symbol>::new(LittleEndian, Class::ELF64, symbols);
    for symbol in table.iter().skip(1) {
        let name = usize::try_from(symbol.st_name)
            .ok()
            .and_then(|at| strings.get(at..)?.split(|byte| *byte == 0).next())
            .ok_or(LoadError::Dynamic("a symbol's name lies outside the file"))?;
        if symbol.st_shndx == SHN_UNDEF {
            return Err(LoadError::Import(
                String::from_utf8_lossy(name).into_owned(),
            ));
        }
        if name == ENTRY_SYMBOL.as_bytes() {
            if symbol.st_symtype() != STT_FUNC || symbol.st_bind() != STB_GLOBAL {
                return Err(LoadError::EntryPlace(symbol.st_value));
            }
            entry = Some(symbol.st_value);
        }
    }
    entry.ok_or(LoadError::NoEntry)
}

fn name(tag: i64) -> &'static str {
    match tag {
        DT_NEEDED => "DT_NEEDED",
        DT_INIT => "DT_INIT",
        DT_FINI => "DT_FINI",
        DT_INIT_ARRAY => "DT_INIT_ARRAY",
        DT_FINI_ARRAY => "DT_FINI_ARRAY",
        DT_PREINIT_ARRAY => "DT_PREINIT_ARRAY",
        DT_JMPREL => "DT_JMPREL",
        DT_REL => "DT_REL",
        DT_TEXTREL => "DT_TEXTREL",
        DT_RPATH => "DT_RPATH",
        DT_RUNPATH => "DT_RUNPATH",
        DT_FLAGS => "DT_FLAGS with flags beside BIND_NOW",
        DT_FLAGS_1 => "DT_FLAGS_1 with flags beside NOW",
        DT_RELAENT => "DT_RELAENT of another size",
        DT_SYMENT => "DT_SYMENT of another size",
        _ => "an entry unknown to the loader",
    }
}
