//! The ABI note of a domain file, and what a host expects in it.
//!
//! It guards against accidents: a domain of another compiler, of other processor features, of interfaces
//! that have changed. Against malice there is the signature.

use alloc::string::String;
use core::mem::offset_of;

use sumac_domain::abi::{self, Layout};
use sumac_interface::Interface;
use sumac_interface::describe::first_difference;

use super::LoadError;
use super::header::Headers;

/// The hash of the layouts that this build exchanges with domains.
pub const LAYOUT: u64 = Layout::new().numbers(&sumac_rref::LAYOUT).finish();

/// What a domain file says of how it was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The version of the tables between host and domain.
    pub version: u32,
    /// The hash of compiler, target and processor features.
    pub compiler: u64,
    /// The hash of the layouts of exchanged types.
    pub layout: u64,
    /// The root interface's name.
    pub root_name: String,
    /// The root interface's fingerprint.
    pub root_fingerprint: u64,
}

impl Note {
    /// The note of an image.
    pub(super) fn find(image: &[u8], headers: &Headers) -> Result<Self, LoadError> {
        let note = headers.note().ok_or(LoadError::NoNote)?;
        let bytes = usize::try_from(note.p_offset)
            .ok()
            .zip(usize::try_from(note.p_filesz).ok())
            .and_then(|(start, len)| image.get(start..start.checked_add(len)?))
            .ok_or(LoadError::NoNote)?;
        Self::parse(bytes)
    }

    /// The note is alone in its segment, so that its fields are where `abi::Note` has them.
    fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let four = |at| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let eight = |at| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let ours = four(offset_of!(abi::Note, owner_len)) == Some(6)
            && four(offset_of!(abi::Note, kind)) == Some(abi::NOTE_TYPE)
            && bytes.get(12..20) == Some(&abi::NOTE_OWNER[..])
            && bytes.get(20..28) == Some(&abi::NOTE_MAGIC[..]);
        if !ours {
            return Err(LoadError::NoNote);
        }
        let version = four(offset_of!(abi::Note, version)).ok_or(LoadError::NoNote)?;
        if version != abi::ABI_VERSION {
            return Err(LoadError::Version {
                host: abi::ABI_VERSION,
                domain: version,
            });
        }
        let fields = || {
            let name = bytes.get(offset_of!(abi::Note, root_name)..size_of::<abi::Note>())?;
            let name = name.split(|byte| *byte == 0).next()?;
            Some(Self {
                version,
                compiler: eight(offset_of!(abi::Note, compiler))?,
                layout: eight(offset_of!(abi::Note, layout))?,
                root_fingerprint: eight(offset_of!(abi::Note, root_fingerprint))?,
                root_name: String::from(core::str::from_utf8(name).ok()?),
            })
        };
        let whole = bytes.len() == size_of::<abi::Note>()
            && four(offset_of!(abi::Note, contents_len))
                == u32::try_from(size_of::<abi::Note>() - abi::NOTE_CONTENTS).ok();
        fields().filter(|_| whole).ok_or(LoadError::NoteForm)
    }
}

/// What a host expects of a domain's note.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The hash of compiler, target and processor features.
    pub compiler: u64,
    /// The hash of the layouts of exchanged types.
    pub layout: u64,
    /// The root interface's name.
    pub root_name: &'a str,
    /// The root interface's fingerprint.
    pub root_fingerprint: u64,
    /// The root interface in words, to name the first difference.
    pub description: &'a str,
}

impl<'a> Expected<'a> {
    /// What this build expects of a domain whose root interface is `I`; `description` is `I::describe()`.
    pub fn root<I: Interface + ?Sized>(description: &'a str) -> Self {
        Self {
            compiler: abi::COMPILER,
            layout: LAYOUT,
            root_name: I::NAME,
            root_fingerprint: I::FINGERPRINT,
            description,
        }
    }

    /// Compares, the most telling difference first.
    pub(super) fn compare(&self, note: &Note, description: &str) -> Result<(), LoadError> {
        if note.compiler != self.compiler {
            return Err(LoadError::Compiler {
                host: self.compiler,
                domain: note.compiler,
            });
        }
        if note.root_name != self.root_name {
            return Err(LoadError::Root {
                host: self.root_name.into(),
                domain: note.root_name.clone(),
            });
        }
        if note.root_fingerprint != self.root_fingerprint {
            return Err(LoadError::Interface {
                name: self.root_name.into(),
                host: self.root_fingerprint,
                domain: note.root_fingerprint,
                difference: difference(self.description, description),
            });
        }
        if note.layout != self.layout {
            return Err(LoadError::Layout {
                host: self.layout,
                domain: note.layout,
            });
        }
        Ok(())
    }
}

/// The first line in which two descriptions differ, and of which interface it is.
fn difference(host: &str, domain: &str) -> String {
    let Some(first) = first_difference(host, domain) else {
        return String::from("their descriptions are the same");
    };
    let (ours, theirs) = (
        first.ours.unwrap_or("nothing"),
        first.theirs.unwrap_or("nothing"),
    );
    let same = ours.chars().zip(theirs.chars()).take_while(|(a, b)| a == b);
    let place = same.count();
    alloc::format!(
        "in {} the host has `{}`, the domain `{}`",
        first.interface,
        around(ours, place),
        around(theirs, place)
    )
}

/// What is shown of a line: a method may have many arguments, of long names.
fn around(line: &str, place: usize) -> String {
    const BEFORE: usize = 48;
    const AFTER: usize = 48;
    let skipped = place.saturating_sub(BEFORE);
    let mut rest = line.chars().skip(skipped);
    let mut shown = String::from(if skipped > 0 { "…" } else { "" });
    shown.extend(rest.by_ref().take(place - skipped + AFTER));
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_long_lines_the_part_that_differs_is_shown() {
        let line =
            |value: &str| alloc::format!("{}value: {value}, {}", "a".repeat(300), "b".repeat(300));
        let part =
            |value: &str| alloc::format!("…{}value: {value}, {}…", "a".repeat(41), "b".repeat(43));
        let (ours, theirs) = (line("u64"), line("i64"));
        let text = |line: &str| alloc::format!("interface Root\n  {line}\n");
        assert_eq!(
            difference(&text(&ours), &text(&theirs)),
            alloc::format!(
                "in Root the host has `{}`, the domain `{}`",
                part("u64"),
                part("i64")
            )
        );
        // Characters count, not bytes.
        assert_eq!(around("äöü", 2), "äöü");
        assert_eq!(around("short", 9), "short");
    }
}
