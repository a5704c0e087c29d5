//! Hands arbitrary bytes to the loader: as a file, and as an image that a trusted key signed.
//!
//! Invariants: the loader ends in a plan or in one error; nothing is reserved for what it refuses; what it
//! accepts stays inside its image, has no page both writable and executable, and starts in its code.
#![no_main]

use std::cell::Cell;
use std::ops::Range;

use ed25519_dalek::{Signer, SigningKey};
use libfuzzer_sys::fuzz_target;
use sumac_domain::file::unsigned_trailer;
use sumac_runtime::load::memory::{Access, ImageMemory, ImagePages, MemoryError, PAGE};
use sumac_runtime::load::{Expected, Key, Plan, TrustedKeys, inspect, place};

fuzz_target!(|bytes: &[u8]| {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key().to_bytes();
    assert!(inspect(bytes).is_err(), "a signature by chance");

    let mut file = bytes.to_vec();
    file.extend_from_slice(&unsigned_trailer(0, &public));
    let signature = key.sign(&file).to_bytes();
    file.extend_from_slice(&signature);
    let trust = TrustedKeys::from_iter([Key(public)]);
    let memory = Recording::default();
    let Ok(inspected) = inspect(&file) else {
        let placed = place(&file, &trust, &EXPECTED, &memory);
        assert!(placed.is_err() && memory.reserved.get() == 0);
        return;
    };
    check(&inspected.plan);
    // What the note says is right, for once.
    let expected = Expected {
        compiler: inspected.note.compiler,
        layout: inspected.note.layout,
        root_name: &inspected.note.root_name,
        root_fingerprint: inspected.note.root_fingerprint,
        description: inspected.description,
    };
    let placed = place(&file, &trust, &expected, &memory).expect("it was inspected");
    assert_eq!(memory.reserved.get(), 1);
    assert_eq!(placed.range().len(), inspected.plan.bytes());
});

const EXPECTED: Expected<'_> = Expected {
    compiler: 0,
    layout: 0,
    root_name: "",
    root_fingerprint: 0,
    description: "",
};

/// What a plan promises.
fn check(plan: &Plan<'_>) {
    let of = |access| plan.segments().iter().filter(move |s| s.access == access);
    let mut end = 0;
    for segment in plan.segments() {
        assert_eq!(segment.pages().start, end, "pages shared, or a gap");
        assert!(segment.contents.len() <= segment.range.len());
        end = segment.pages().end;
    }
    for relocation in plan.relocations() {
        let place = relocation.at..relocation.at + 8;
        let within = |s: &Range<usize>| s.start <= place.start && place.end <= s.end;
        assert!(of(Access::Write).any(|segment| within(&segment.range)));
        assert!(relocation.to <= plan.bytes());
    }
    assert!(of(Access::Execute).any(|segment| segment.range.contains(&plan.entry())));
    if let Some(relro) = plan.relro() {
        let within = |s: Range<usize>| s.start <= relro.start && relro.end <= s.end;
        assert!(of(Access::Write).any(|segment| within(segment.pages())));
    }
}

/// Memory that is never entered; what is written outside it is a finding.
#[derive(Default)]
struct Recording {
    reserved: Cell<usize>,
}

impl ImageMemory for Recording {
    fn reserve(&self, bytes: usize) -> Result<Box<dyn ImagePages>, MemoryError> {
        self.reserved.set(self.reserved.get() + 1);
        Ok(Box::new(Pages {
            access: vec![None; bytes.div_ceil(PAGE)],
        }))
    }
}

struct Pages {
    access: Vec<Option<Access>>,
}

// SAFETY: nothing reads or enters these pages: only where the loader would write is looked at.
unsafe impl ImagePages for Pages {
    fn base(&self) -> usize {
        0x7000_0000_0000
    }

    fn bytes(&self) -> usize {
        self.access.len() * PAGE
    }

    fn write(&mut self, at: usize, contents: &[u8]) -> Result<(), MemoryError> {
        let pages = &self.access[at / PAGE..(at + contents.len()).div_ceil(PAGE)];
        assert!(
            pages.iter().all(Option::is_none),
            "written after protecting"
        );
        Ok(())
    }

    fn protect(&mut self, range: Range<usize>, access: Access) -> Result<(), MemoryError> {
        assert!(range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE));
        self.access[range.start / PAGE..range.end / PAGE].fill(Some(access));
        Ok(())
    }
}
