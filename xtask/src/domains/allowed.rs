//! What a domain may depend on, besides the safe crates of this repository, which are read like itself.
//!
//! Versions are not here: they are those of the repository's `Cargo.lock`, checksums included, and a new
//! version gets there by a reviewed change.

/// Crates of this repository that may hold unsafe code, by their folders: the framework's own, reviewed.
pub const FRAMEWORK: [&str; 4] = [
    "framework/device",
    "framework/domain",
    "framework/idl",
    "framework/rref",
];

/// Crates from the registry whose code goes into images. What they export is sound for safe code to use.
pub const IN_IMAGES: [&str; 7] = [
    // The private heap.
    "allocator-api2",
    "lock_api",
    "scopeguard",
    "talc",
    // What drivers and interfaces are written with: macros of safe code, and traits.
    "bitflags",
    "log",
    "thiserror",
];

/// Crates from the registry that run while an image is built: macros, and what they are made of. They
/// generate safe code, and are trusted as the compiler is.
pub const IN_BUILDS: [&str; 6] = [
    "bitfield-struct",
    "proc-macro2",
    "quote",
    "syn",
    "thiserror-impl",
    "unicode-ident",
];
