//! Why a domain file is not loaded.

use alloc::string::String;

use sumac_domain::file::NoTrailer;

use super::memory::MemoryError;
use super::trust::Key;

/// Why a domain file is not loaded. Nothing is mapped then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file does not end in a signature: it is unsigned, cut short, or no domain file.
    #[error(
        "not signed: the file does not end in a signature (cut short, or not built by `cargo xtask domains`)"
    )]
    Unsigned,
    /// The trailer is of a version that this build does not know.
    #[error("signature format {0}; this build knows format 1")]
    SignatureVersion(u32),
    /// The trailer tells of more words than the file has bytes.
    #[error("the file is cut short: it tells of a description of {0} bytes, longer than itself")]
    DescriptionLength(u32),
    /// The description is not text.
    #[error("the description of the root interface is not UTF-8 text")]
    DescriptionText,
    /// A key signed it that is not trusted.
    #[error("signed by {signer}, which is not among the trusted keys")]
    Untrusted {
        /// The key.
        signer: Key,
    },
    /// The signature does not fit: a byte changed after signing.
    #[error("the signature of {signer} does not fit: the file was changed after it was signed")]
    BadSignature {
        /// The key that is said to have signed it.
        signer: Key,
    },

    /// There is no ABI note.
    #[error("no ABI note: not an image built by `cargo xtask domains`")]
    NoNote,
    /// The ABI note is of a size or form that its version does not have.
    #[error("the ABI note is malformed")]
    NoteForm,
    /// Host and domain have different versions of the tables between them.
    #[error("built for ABI version {domain}, this host has version {host}: build the domain again")]
    Version {
        /// The host's.
        host: u32,
        /// The domain's.
        domain: u32,
    },
    /// Host and domain were built by different compilers, or for different processor features.
    #[error(
        "built by another compiler or for other processor features ({domain:016x}) than this host ({host:016x}): build both by one compiler, without RUSTFLAGS"
    )]
    Compiler {
        /// The host's hash.
        host: u64,
        /// The domain's hash.
        domain: u64,
    },
    /// The layouts of exchanged types differ.
    #[error(
        "exchanged types are laid out otherwise ({domain:016x}) than in this host ({host:016x}): build both alike"
    )]
    Layout {
        /// The host's hash.
        host: u64,
        /// The domain's hash.
        domain: u64,
    },
    /// The domain offers another interface.
    #[error("the domain's root interface is {domain}, not {host}")]
    Root {
        /// What was asked for.
        host: String,
        /// What the domain offers.
        domain: String,
    },
    /// The domain's interface was changed.
    #[error("interface {name} has changed: {difference}")]
    Interface {
        /// The interface.
        name: String,
        /// The host's fingerprint.
        host: u64,
        /// The domain's fingerprint.
        domain: u64,
        /// The first line that differs, or the part of it that does.
        difference: String,
    },

    /// Not an ELF file of the one kind that domains are.
    #[error("not the ELF image of a domain: {0}")]
    Header(&'static str),
    /// A segment of a kind that domains have no use for.
    #[error("a segment of type {name} ({kind:#x}), which a domain may not have")]
    SegmentType {
        /// The type's number.
        kind: u32,
        /// The type's name, if it has a well-known one.
        name: &'static str,
    },
    /// A segment that is both writable and executable, or neither readable.
    #[error(
        "the segment at {address:#x} has flags {flags:#x}: it may be readable, and writable or executable, not both"
    )]
    SegmentFlags {
        /// Where it is to be.
        address: u64,
        /// Its flags.
        flags: u32,
    },
    /// A segment whose place in the file or in memory is wrong.
    #[error("the segment at {address:#x}: {reason}")]
    SegmentPlace {
        /// Where it is to be.
        address: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// More bytes of memory than an image may have.
    #[error("the image asks for {bytes} bytes of memory; the limit is {limit}")]
    TooBig {
        /// What it asks for.
        bytes: u64,
        /// What it may have.
        limit: u64,
    },
    /// The dynamic table asks for what a domain may not have.
    #[error("the dynamic table has {name} ({tag:#x}), which a domain may not have")]
    DynamicTag {
        /// The entry's number.
        tag: i64,
        /// The entry's name, if it is well known.
        name: &'static str,
    },
    /// The dynamic table is malformed.
    #[error("the dynamic table: {0}")]
    Dynamic(&'static str),
    /// A relocation of another kind than base plus addend.
    #[error("a relocation of type {kind} at {at:#x}; a domain has R_X86_64_RELATIVE (8) only")]
    RelocationType {
        /// The type's number.
        kind: u32,
        /// Where it is.
        at: u64,
    },
    /// A relocation that changes what is not to be written, or points outside the image.
    #[error("the relocation at {at:#x}: {reason}")]
    RelocationPlace {
        /// Where it is.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The domain names something that it does not contain.
    #[error("the domain imports `{0}`: it may import nothing")]
    Import(String),
    /// The entry is missing.
    #[error("no symbol `sumac_entry`: not an image built by `cargo xtask domains`")]
    NoEntry,
    /// The entry is not code.
    #[error("`sumac_entry` at {0:#x} is not a function in the image's code")]
    EntryPlace(u64),

    /// The host's memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl From<NoTrailer> for LoadError {
    fn from(error: NoTrailer) -> Self {
        match error {
            NoTrailer::Missing => Self::Unsigned,
            NoTrailer::Version(version) => Self::SignatureVersion(version),
            NoTrailer::Description(bytes) => Self::DescriptionLength(bytes),
        }
    }
}
