//! What of a file goes where in memory.
//!
//! Invariant: a [`Plan`] that exists is safe to carry out: its segments follow each other page by page from
//! zero, none is both writable and executable, every relocation changes eight bytes of a writable segment
//! and points into the image, and the entry lies in code.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use elf::abi::{PF_R, PF_W, PF_X, PT_DYNAMIC, PT_GNU_RELRO, PT_LOAD, R_X86_64_RELATIVE};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::parse::ParsingTable;
use elf::relocation::Rela;
use elf::segment::ProgramHeader;

use super::LoadError;
use super::dynamic::Dynamic;
use super::header::Headers;
use super::memory::{Access, PAGE};

/// The most bytes of an image in memory.
pub const LIMIT: u64 = 64 << 20;

/// A part of the image.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// Where it is, from the image's base.
    pub range: Range<usize>,
    /// What is there at first; zeros follow.
    pub contents: &'a [u8],
    /// What may be done with it.
    pub access: Access,
}

impl Segment<'_> {
    /// Its pages, from the image's base.
    pub fn pages(&self) -> Range<usize> {
        self.range.start / PAGE * PAGE..self.range.end.next_multiple_of(PAGE)
    }
}

/// Bytes and where they are, from the image's base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub at: usize,
    pub contents: Vec<u8>,
}

/// A place that holds an address inside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// The place, from the image's base.
    pub at: usize,
    /// What it points to, from the image's base.
    pub to: usize,
}

/// What goes where.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    segments: Vec<Segment<'a>>,
    relro: Option<Range<usize>>,
    relocations: &'a [u8],
    entry: usize,
}

impl<'a> Plan<'a> {
    pub(super) fn new(image: &'a [u8], headers: &Headers) -> Result<Self, LoadError> {
        let mut plan = Self {
            segments: segments(image, headers)?,
            relro: None,
            relocations: &[],
            entry: 0,
        };
        plan.relro = plan.find_relro(headers)?;
        let dynamic = plan.dynamic(headers)?;
        if let Some((at, bytes)) = dynamic.relocations()? {
            plan.relocations = plan
                .contents(at, bytes)
                .ok_or(LoadError::Dynamic("its relocations lie outside the file"))?;
        }
        plan.check_relocations()?;
        let entry = dynamic.entry(|at, bytes| plan.contents(at, bytes))?;
        plan.entry = plan.find_code(entry).ok_or(LoadError::EntryPlace(entry))?;
        Ok(plan)
    }

    /// The segments, in order of their places.
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments
    }

    /// Bytes of the image in memory.
    pub fn bytes(&self) -> usize {
        self.segments.last().map_or(0, |last| last.pages().end)
    }

    /// Pages that are only read once relocated.
    pub fn relro(&self) -> Option<Range<usize>> {
        self.relro.clone()
    }

    /// Every relocation.
    pub fn relocations(&self) -> impl Iterator<Item = Relocation> + '_ {
        // `check_relocations` found all of them to be of this form.
        relas(self.relocations).filter_map(|rela| {
            Some(Relocation {
                at: usize::try_from(rela.r_offset).ok()?,
                to: usize::try_from(rela.r_addend).ok()?,
            })
        })
    }

    /// The pages of writable segments, relocated for an image at `base`.
    pub(super) fn relocated(&self, base: usize) -> Vec<Block> {
        let writable = |segment: &&Segment<'_>| segment.access == Access::Write;
        let block = |segment: &Segment<'_>| {
            let pages = segment.pages();
            let mut contents = vec![0; pages.len()];
            let offset = segment.range.start - pages.start;
            contents[offset..offset + segment.contents.len()].copy_from_slice(segment.contents);
            Block {
                at: pages.start,
                contents,
            }
        };
        let mut blocks: Vec<Block> = self.segments.iter().filter(writable).map(block).collect();
        for Relocation { at, to } in self.relocations() {
            let address = base.wrapping_add(to).to_le_bytes();
            // `check_relocations` found each to lie in one of them.
            let place = blocks.iter_mut().find_map(|block| {
                let offset = at.checked_sub(block.at)?;
                block.contents.get_mut(offset..offset + address.len())
            });
            if let Some(place) = place {
                place.copy_from_slice(&address);
            }
        }
        blocks
    }

    /// What of [`relocated`](Self::relocated) stays writable.
    pub(super) fn variables(&self, blocks: Vec<Block>) -> Vec<Block> {
        let Some(relro) = &self.relro else {
            return blocks;
        };
        let parts = blocks.into_iter().flat_map(|Block { at, contents }| {
            let cut = |place: usize| place.saturating_sub(at).min(contents.len());
            let (before, after) = (0..cut(relro.start), cut(relro.end)..contents.len());
            [before, after].map(|part| Block {
                at: at + part.start,
                contents: contents[part].to_vec(),
            })
        });
        parts.filter(|block| !block.contents.is_empty()).collect()
    }

    /// Where the image is entered, from its base.
    pub fn entry(&self) -> usize {
        self.entry
    }

    /// From the first byte of code to the last, from the image's base.
    pub fn code(&self) -> Range<usize> {
        let mut code = self
            .segments
            .iter()
            .filter(|segment| segment.access == Access::Execute)
            .map(|segment| segment.range.clone());
        let first = code.next().unwrap_or(0..0);
        first.start..code.next_back().map_or(first.end, |last| last.end)
    }

    /// The file's bytes at an address, if they are of one segment.
    fn contents(&self, at: u64, bytes: u64) -> Option<&'a [u8]> {
        let at = usize::try_from(at).ok()?;
        let bytes = usize::try_from(bytes).ok()?;
        self.segments.iter().find_map(|segment| {
            let start = at.checked_sub(segment.range.start)?;
            segment.contents.get(start..start.checked_add(bytes)?)
        })
    }

    fn find_code(&self, at: u64) -> Option<usize> {
        let at = usize::try_from(at).ok()?;
        let code = self
            .segments
            .iter()
            .any(|segment| segment.access == Access::Execute && segment.range.contains(&at));
        code.then_some(at)
    }

    fn find_relro(&self, headers: &Headers) -> Result<Option<Range<usize>>, LoadError> {
        let Some(relro) = headers.of(PT_GNU_RELRO).next() else {
            return Ok(None);
        };
        let refuse = |reason| LoadError::SegmentPlace {
            address: relro.p_vaddr,
            reason,
        };
        let range = range(relro).ok_or_else(|| refuse("its end is beyond all addresses"))?;
        let segment = self
            .segments
            .iter()
            .filter(|segment| segment.access == Access::Write)
            .find(|segment| {
                segment.pages().start <= range.start && range.end <= segment.pages().end
            })
            .ok_or_else(|| {
                refuse("to be protected after relocation, but in no writable segment")
            })?;
        // Its first and last pages are shared with nothing, or variables would lose the right to be written.
        let whole = |at: usize, end: usize| at.is_multiple_of(PAGE) || at == end;
        if !whole(range.start, segment.range.start)
            || !(whole(range.end, segment.range.end) || range.end > segment.range.end)
        {
            return Err(refuse(
                "to be protected after relocation, but not of whole pages",
            ));
        }
        Ok(Some(
            range.start / PAGE * PAGE..range.end.next_multiple_of(PAGE),
        ))
    }

    fn dynamic(&self, headers: &Headers) -> Result<Dynamic, LoadError> {
        let dynamic = headers
            .of(PT_DYNAMIC)
            .next()
            .ok_or(LoadError::Dynamic("there is none"))?;
        let table = self
            .contents(dynamic.p_vaddr, dynamic.p_filesz)
            .ok_or(LoadError::Dynamic("it lies outside the image"))?;
        Dynamic::parse(table)
    }

    fn check_relocations(&self) -> Result<(), LoadError> {
        for rela in relas(self.relocations) {
            let at = rela.r_offset;
            if rela.r_type != R_X86_64_RELATIVE || rela.r_sym != 0 {
                return Err(LoadError::RelocationType {
                    kind: rela.r_type,
                    at,
                });
            }
            let place = usize::try_from(at)
                .ok()
                .and_then(|at| Some(at..at.checked_add(8)?));
            let writable = place.is_some_and(|place| {
                self.segments.iter().any(|segment| {
                    segment.access == Access::Write
                        && segment.range.start <= place.start
                        && place.end <= segment.range.end
                })
            });
            if !writable {
                return Err(LoadError::RelocationPlace {
                    at,
                    reason: "it is not in a writable segment",
                });
            }
            if usize::try_from(rela.r_addend).is_ok_and(|to| to <= self.bytes()) {
                continue;
            }
            return Err(LoadError::RelocationPlace {
                at,
                reason: "it points outside the image",
            });
        }
        Ok(())
    }
}

fn relas(bytes: &[u8]) -> impl Iterator<Item = Rela> + '_ {
    ParsingTable::<_, Rela>::new(LittleEndian, Class::ELF64, bytes).iter()
}

/// Where a segment is in memory.
fn range(header: &ProgramHeader) -> Option<Range<usize>> {
    let start = usize::try_from(header.p_vaddr).ok()?;
    let bytes = usize::try_from(header.p_memsz).ok()?;
    Some(start..start.checked_add(bytes)?)
}

/// The segments to be loaded: page after page from zero, without a gap and without sharing a page.
fn segments<'a>(image: &'a [u8], headers: &Headers) -> Result<Vec<Segment<'a>>, LoadError> {
    let mut segments: Vec<Segment<'a>> = Vec::new();
    for header in headers.of(PT_LOAD) {
        let segment = segment(image, header)?;
        let end = segments.last().map_or(0, |last| last.pages().end);
        let refuse = |reason| LoadError::SegmentPlace {
            address: header.p_vaddr,
            reason,
        };
        match segment.pages().start {
            start if start < end => {
                return Err(refuse(
                    "it overlaps the segment before it, or comes before it",
                ));
            }
            start if start > end => return Err(refuse("a gap of pages comes before it")),
            _ => segments.push(segment),
        }
    }
    if segments.is_empty() {
        return Err(LoadError::Header("nothing to load"));
    }
    Ok(segments)
}

fn segment<'a>(image: &'a [u8], header: &ProgramHeader) -> Result<Segment<'a>, LoadError> {
    let address = header.p_vaddr;
    let refuse = |reason| LoadError::SegmentPlace { address, reason };
    let access = match header.p_flags {
        PF_R => Access::Read,
        flags if flags == PF_R | PF_W => Access::Write,
        flags if flags == PF_R | PF_X => Access::Execute,
        flags => return Err(LoadError::SegmentFlags { address, flags }),
    };
    let too_big = |bytes| LoadError::TooBig {
        bytes,
        limit: LIMIT,
    };
    let end = address
        .checked_add(header.p_memsz)
        .ok_or_else(|| too_big(u64::MAX))?;
    if end > LIMIT {
        return Err(too_big(end));
    }
    if header.p_filesz > header.p_memsz {
        return Err(refuse("it has more bytes in the file than in memory"));
    }
    if header.p_memsz == 0 {
        return Err(refuse("it is empty"));
    }
    let page = PAGE as u64;
    if header.p_align != page || header.p_offset % page != address % page {
        return Err(refuse("it is not aligned to pages of 4096 bytes"));
    }
    let contents = usize::try_from(header.p_offset)
        .ok()
        .zip(usize::try_from(header.p_filesz).ok())
        .and_then(|(start, len)| image.get(start..start.checked_add(len)?))
        .ok_or_else(|| refuse("it lies outside the file"))?;
    Ok(Segment {
        range: range(header).ok_or_else(|| too_big(end))?,
        contents,
        access,
    })
}
