//! Images that a trusted key signed and that are wrong all the same.

use sumac_runtime::load::plan::LIMIT;
use sumac_runtime::load::{LoadError, inspect};

use crate::image::{
    ADDRESS, ALIGN, CODE, CODE_LOAD, CONSTANTS_LOAD, DYNAMIC, DYNAMIC_HEADER, DYNAMIC_SPARE,
    FILE_BYTES, FLAGS, HASH, Image, MEMORY_BYTES, NOTE_HEADER, OFFSET, PROGRAM_HEADERS,
    RELOCATIONS, RELRO_HEADER, RELRO_LOAD, SPARE_HEADER, STACK_HEADER, STRINGS, SYMBOLS, TYPE,
    VARIABLES_LOAD,
};
use crate::{DESCRIPTION, key, refused};

/// The error for the sound image with one change.
fn changed(change: impl FnOnce(&mut Image)) -> LoadError {
    let mut image = Image::sound();
    change(&mut image);
    refused(&image.signed(&key(), DESCRIPTION))
}

/// The error for one field of one program header.
fn header(header: usize, field: usize, value: u64) -> LoadError {
    changed(|image| image.put64(Image::field(header, field), value))
}

#[track_caller]
fn assert_place(error: &LoadError, text: &str) {
    assert!(matches!(error, LoadError::SegmentPlace { .. }), "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn test_other_kinds_of_files() {
    for (at, byte, text) in [
        (0, 0x7e, "no ELF file"),
        (4, 1, "64 bits"),
        (5, 2, "no ELF file"),
        (6, 2, "no ELF file"),
        (7, 3, "System V"),
        (8, 1, "System V"),
        (16, 2, "ET_DYN"),
        (18, 183, "not for x86-64"),
        (20, 2, "another version"),
        (48, 1, "flags"),
        (52, 63, "other sizes"),
        (54, 55, "other sizes"),
        (56, 0, "no segments"),
        (56, 33, "too many"),
        (33, 0xff, "outside the file"),
        (39, 0xff, "outside the file"),
    ] {
        let error = changed(|image| image.0[at] = byte);
        assert!(matches!(error, LoadError::Header(_)), "byte {at}: {error}");
        assert!(error.to_string().contains(text), "byte {at}: {error}");
    }
    for len in 0..64 {
        let error = changed(|image| image.0.truncate(len));
        assert!(
            matches!(error, LoadError::Header(_)),
            "{len} bytes: {error}"
        );
    }
}

#[test]
fn test_segment_types() {
    for (kind, name) in [
        (3, "PT_INTERP"),
        (7, "PT_TLS"),
        (5, "PT_SHLIB"),
        (0x7000_0001, "unknown"),
    ] {
        let error = changed(|image| image.put32(Image::field(SPARE_HEADER, TYPE), kind));
        assert!(
            matches!(error, LoadError::SegmentType { kind: k, .. } if k == kind),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
    for twice in [2, 4, 0x6474_e551, 0x6474_e552] {
        let error = changed(|image| image.put32(Image::field(SPARE_HEADER, TYPE), twice));
        assert!(error.to_string().contains("comes once"), "{error}");
    }
}

#[test]
fn test_segment_rights() {
    // Writable and executable, executable only, nothing, a flag of no known meaning; a stack to execute.
    for (at, flags) in [
        (CODE_LOAD, 7),
        (CODE_LOAD, 1),
        (CONSTANTS_LOAD, 0),
        (RELRO_LOAD, 2),
        (VARIABLES_LOAD, 0x106),
        (STACK_HEADER, 7),
    ] {
        let error = changed(|image| image.put32(Image::field(at, FLAGS), flags));
        assert!(matches!(error, LoadError::SegmentFlags { .. }), "{error}");
    }
}

#[test]
fn test_segment_places() {
    assert_place(&header(CODE_LOAD, ADDRESS, CODE as u64), "overlaps");
    assert_place(&header(VARIABLES_LOAD, ADDRESS, 0x2448), "overlaps");
    assert_place(&header(CODE_LOAD, MEMORY_BYTES, 0x2000), "overlaps");
    assert_place(&header(VARIABLES_LOAD, ADDRESS, 0x5448), "a gap");
    assert_place(&header(CONSTANTS_LOAD, ADDRESS, 0x1000), "a gap");
    assert_place(&header(CODE_LOAD, ADDRESS, 0x1371), "not aligned");
    assert_place(&header(CODE_LOAD, OFFSET, CODE as u64 + 1), "not aligned");
    assert_place(&header(CODE_LOAD, ALIGN, 8192), "not aligned");
    assert_place(&header(CODE_LOAD, ALIGN, 0), "not aligned");
    assert_place(&header(CODE_LOAD, FILE_BYTES, 17), "more bytes in the file");
    assert_place(
        &header(VARIABLES_LOAD, OFFSET, 0x1000_0448),
        "outside the file",
    );
    assert_place(
        &header(VARIABLES_LOAD, OFFSET, u64::MAX - 0xbb7),
        "outside the file",
    );
    assert_place(
        &header(VARIABLES_LOAD, FILE_BYTES, 0x100),
        "outside the file",
    );
    let empty = changed(|image| {
        image.put64(Image::field(CODE_LOAD, FILE_BYTES), 0);
        image.put64(Image::field(CODE_LOAD, MEMORY_BYTES), 0);
    });
    assert_place(&empty, "empty");
    let none = changed(|image| {
        for load in [CONSTANTS_LOAD, CODE_LOAD, RELRO_LOAD, VARIABLES_LOAD] {
            image.put32(Image::field(load, TYPE), 0);
        }
    });
    assert_eq!(none, LoadError::Header("nothing to load"));
}

#[test]
fn test_huge_segments() {
    for bytes in [
        LIMIT,
        u64::from(u32::MAX),
        1 << 47,
        u64::MAX - 0x3448,
        u64::MAX,
    ] {
        let error = header(VARIABLES_LOAD, MEMORY_BYTES, bytes);
        assert!(
            matches!(error, LoadError::TooBig { limit: LIMIT, .. }),
            "{error}"
        );
    }
    let error = header(VARIABLES_LOAD, ADDRESS, u64::MAX - 0xbb7);
    assert!(matches!(error, LoadError::TooBig { .. }), "{error}");
}

#[test]
fn test_protection_after_relocation() {
    assert_place(
        &header(RELRO_HEADER, ADDRESS, 0x1370),
        "in no writable segment",
    );
    assert_place(
        &header(RELRO_HEADER, MEMORY_BYTES, 0x1000),
        "in no writable segment",
    );
    assert_place(
        &header(RELRO_HEADER, MEMORY_BYTES, u64::MAX),
        "beyond all addresses",
    );
    assert_place(
        &header(RELRO_HEADER, MEMORY_BYTES, 0x10),
        "not of whole pages",
    );
    assert_place(
        &header(RELRO_HEADER, ADDRESS, 0x2388),
        "in no writable segment",
    );
    let error = changed(|image| {
        image.put64(Image::field(RELRO_HEADER, ADDRESS), 0x2388);
        image.put64(Image::field(RELRO_HEADER, MEMORY_BYTES), 0x1000 - 0x388);
    });
    assert_place(&error, "not of whole pages");
}

#[test]
fn test_dynamic_entries() {
    for (tag, name) in [
        (1, "DT_NEEDED"),
        (12, "DT_INIT"),
        (13, "DT_FINI"),
        (25, "DT_INIT_ARRAY"),
        (26, "DT_FINI_ARRAY"),
        (32, "DT_PREINIT_ARRAY"),
        (23, "DT_JMPREL"),
        (17, "DT_REL"),
        (22, "DT_TEXTREL"),
        (15, "DT_RPATH"),
        (29, "DT_RUNPATH"),
        (36, "unknown"),
        (0x6fff_fef5 + 1, "unknown"),
    ] {
        let error = changed(|image| image.set_dynamic(DYNAMIC_SPARE, tag, 0));
        assert!(matches!(error, LoadError::DynamicTag { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    for (tag, value, name) in [
        (30, 4, "DT_FLAGS"),
        (30, 0x10, "DT_FLAGS"),
        (0x6fff_fffb, 0x0800_0000, "DT_FLAGS_1"),
        (9, 16, "DT_RELAENT"),
        (11, 16, "DT_SYMENT"),
    ] {
        let error = changed(|image| image.set_dynamic(DYNAMIC_SPARE, tag, value));
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn test_malformed_dynamic_tables() {
    let refusals = [
        (
            changed(|image| image.set_dynamic(DYNAMIC_SPARE, 7, 0)),
            "twice",
        ),
        (
            changed(|image| (8..12).for_each(|at| image.set_dynamic(at, 30, 0))),
            "does not end",
        ),
        (
            changed(|image| image.set_dynamic(1, 8, 47)),
            "no size, or a wrong one",
        ),
        (
            changed(|image| image.set_dynamic(1, 30, 0)),
            "no size, or a wrong one",
        ),
        (
            changed(|image| image.set_dynamic(0, 7, 0x1_0000)),
            "relocations lie outside",
        ),
        (
            changed(|image| image.set_dynamic(1, 8, 24 * 1000)),
            "relocations lie outside",
        ),
        (changed(|image| image.set_dynamic(3, 30, 0)), "no symbols"),
        (
            changed(|image| image.set_dynamic(3, 6, u64::MAX - 8)),
            "symbols lie outside",
        ),
        (
            changed(|image| image.set_dynamic(6, 10, 0x1000)),
            "symbols lie outside",
        ),
        (
            changed(|image| image.set_dynamic(7, 4, 0x36f)),
            "hash table lies outside",
        ),
        (
            changed(|image| image.put32(HASH + 4, 1000)),
            "symbols lie outside",
        ),
        (
            changed(|image| image.put32(HASH + 4, u32::MAX)),
            "hash table lies outside",
        ),
        (
            changed(|image| image.put32(SYMBOLS + 24, 14)),
            "name lies outside",
        ),
        (header(DYNAMIC_HEADER, ADDRESS, 0x9000), "outside the image"),
        (
            header(DYNAMIC_HEADER, FILE_BYTES, 0x2000),
            "outside the image",
        ),
        (
            changed(|image| image.put32(Image::field(DYNAMIC_HEADER, TYPE), 0)),
            "there is none",
        ),
    ];
    for (error, text) in refusals {
        assert!(matches!(error, LoadError::Dynamic(_)), "{error}");
        assert!(error.to_string().contains(text), "{text}: {error}");
    }
}

#[test]
fn test_foreign_relocations() {
    // R_X86_64_64, GLOB_DAT, JUMP_SLOT, DTPMOD64, TPOFF64, COPY, IRELATIVE; RELATIVE with a symbol.
    for kind in [1, 6, 7, 16, 18, 5, 37, 0] {
        let error = changed(|image| image.put32(RELOCATIONS + 8, kind));
        assert_eq!(error, LoadError::RelocationType { kind, at: 0x2440 });
    }
    let error = changed(|image| image.put32(RELOCATIONS + 12, 1));
    assert!(
        matches!(error, LoadError::RelocationType { kind: 8, .. }),
        "{error}"
    );
}

#[test]
fn test_relocations_elsewhere() {
    // The code, the constants, the last bytes of a segment, beyond the image, around all addresses.
    for at in [0x1370, 0x340, 0x3548 - 7, 0x4000, u64::MAX - 3, u64::MAX] {
        let error = changed(|image| image.put64(RELOCATIONS, at));
        assert!(
            matches!(error, LoadError::RelocationPlace { at: a, .. } if a == at),
            "{error}"
        );
        assert!(error.to_string().contains("writable"), "{error}");
    }
    for to in [0x4001_i64, i64::MAX, -1, i64::MIN] {
        let error = changed(|image| image.put64(RELOCATIONS + 16, to.cast_unsigned()));
        assert!(error.to_string().contains("points outside"), "{error}");
    }
}

#[test]
fn test_imports_and_entries() {
    let error = changed(|image| image.put16(SYMBOLS + 24 + 6, 0));
    assert_eq!(error, LoadError::Import("sumac_entry".to_owned()));
    assert_eq!(
        changed(|image| image.put(STRINGS + 1, b"S")),
        LoadError::NoEntry
    );
    assert_eq!(
        changed(|image| image.put32(HASH + 4, 1)),
        LoadError::NoEntry
    );
    // Variables, constants, the end of the code, nowhere.
    for at in [0x3448, 0x330, 0x1380, 0x136f, u64::MAX] {
        let error = changed(|image| image.put64(SYMBOLS + 24 + 8, at));
        assert_eq!(error, LoadError::EntryPlace(at));
    }
    // An object, and a local function.
    for info in [0x11, 0x02] {
        let error = changed(|image| image.put(SYMBOLS + 24 + 4, &[info]));
        assert!(matches!(error, LoadError::EntryPlace(_)), "{error}");
    }
}

#[test]
fn test_notes_outside_the_file() {
    assert_eq!(header(NOTE_HEADER, OFFSET, 0x10_0000), LoadError::NoNote);
    assert_eq!(header(NOTE_HEADER, OFFSET, u64::MAX), LoadError::NoNote);
    assert_eq!(header(NOTE_HEADER, FILE_BYTES, u64::MAX), LoadError::NoNote);
    assert_eq!(header(NOTE_HEADER, FILE_BYTES, 119), LoadError::NoteForm);
    let error = changed(|image| image.put32(Image::field(NOTE_HEADER, TYPE), 0));
    assert_eq!(error, LoadError::NoNote);
}

/// Every byte that says what goes where, set to each of some values and signed: whatever the loader makes of
/// it, a plan that it accepts stays inside its image.
#[test]
fn test_every_changed_byte_is_refused_or_harmless() {
    let sound = Image::sound();
    let places = (0..0x40)
        .chain(PROGRAM_HEADERS..PROGRAM_HEADERS + 9 * 56)
        .chain(SYMBOLS..CODE)
        .chain(DYNAMIC..DYNAMIC + 0xc0);
    let (mut accepted, mut total) = (0, 0);
    for at in places {
        for value in [0, 1, 0x7f, 0x80, 0xff, sound.0[at] ^ 1, sound.0[at] ^ 0x40] {
            let mut image = sound.clone();
            image.0[at] = value;
            let file = image.signed(&key(), DESCRIPTION);
            total += 1;
            if let Ok(inspected) = inspect(&file) {
                accepted += 1;
                assert_sound(&inspected.plan);
            }
        }
    }
    assert!(
        accepted > 0 && accepted < total,
        "{accepted} of {total} accepted"
    );
}

/// What a plan promises.
fn assert_sound(plan: &sumac_runtime::load::Plan<'_>) {
    use sumac_runtime::load::memory::Access;
    let of = |access| plan.segments().iter().filter(move |s| s.access == access);
    let mut end = 0;
    for segment in plan.segments() {
        assert_eq!(segment.pages().start, end);
        assert!(segment.contents.len() <= segment.range.len());
        end = segment.pages().end;
    }
    assert_eq!(end, plan.bytes());
    for relocation in plan.relocations() {
        assert!(relocation.to <= plan.bytes());
        assert!(of(Access::Write).any(|segment| {
            segment.range.start <= relocation.at && relocation.at + 8 <= segment.range.end
        }));
    }
    assert!(of(Access::Execute).any(|segment| segment.range.contains(&plan.entry())));
    if let Some(relro) = plan.relro() {
        assert!(of(Access::Write).any(|segment| {
            segment.pages().start <= relro.start && relro.end <= segment.pages().end
        }));
    }
}
