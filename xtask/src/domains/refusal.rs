//! Why a domain is not built.

use std::fmt;
use std::path::{Path, PathBuf};

/// What the trusted build insists on. Each has a crate in `tests/refused` that breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The word `unsafe` in code.
    UnsafeCode,
    /// The word `unsafe` in what a macro is made of or given.
    UnsafeInMacro,
    /// An attribute that changes what a linker makes of an item.
    UnsafeAttribute,
    /// A block of foreign functions.
    ExternBlock,
    /// A lint level for `unsafe_code` that is not `forbid`.
    AllowUnsafe,
    /// Machine instructions as text.
    Assembly,
    /// Another file's text as code or as data.
    Include,
    /// A module in a file of another name.
    PathAttribute,
    /// An unstable feature of the compiler.
    Feature,
    /// No `#![forbid(unsafe_code)]` at the crate's root.
    ForbidUnsafe,
    /// No `#![no_std]` at the crate's root, or the standard library by its name.
    NoStd,
    /// A file that is not Rust as the checker reads it.
    Unreadable,
    /// A link to a file, or a target, outside the crate's `src`.
    Outside,
    /// A program that runs when the crate is built.
    BuildScript,
    /// A macro's program that is not on the list.
    ProcMacro,
    /// A crate that is not on the list, or not as `Cargo.lock` has it.
    Dependency,
}

impl Rule {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 16] = [
        Self::UnsafeCode,
        Self::UnsafeInMacro,
        Self::UnsafeAttribute,
        Self::ExternBlock,
        Self::AllowUnsafe,
        Self::Assembly,
        Self::Include,
        Self::PathAttribute,
        Self::Feature,
        Self::ForbidUnsafe,
        Self::NoStd,
        Self::Unreadable,
        Self::Outside,
        Self::BuildScript,
        Self::ProcMacro,
        Self::Dependency,
    ];

    /// Its name, as messages have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnsafeCode => "unsafe-code",
            Self::UnsafeInMacro => "unsafe-in-macro",
            Self::UnsafeAttribute => "unsafe-attribute",
            Self::ExternBlock => "extern-block",
            Self::AllowUnsafe => "allow-unsafe",
            Self::Assembly => "assembly",
            Self::Include => "include",
            Self::PathAttribute => "path-attribute",
            Self::Feature => "feature",
            Self::ForbidUnsafe => "forbid-unsafe",
            Self::NoStd => "no-std",
            Self::Unreadable => "unreadable",
            Self::Outside => "outside",
            Self::BuildScript => "build-script",
            Self::ProcMacro => "proc-macro",
            Self::Dependency => "dependency",
        }
    }
}

/// A rule that was broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The file.
    pub file: PathBuf,
    /// The line, from one.
    pub line: usize,
    /// The rule.
    pub rule: Rule,
    /// What is there.
    pub what: String,
}

impl Refusal {
    /// A refusal at a line of a file.
    pub fn new(rule: Rule, file: &Path, line: usize, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            rule,
            what: what.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, .. } = self;
        write!(
            f,
            "{}:{line}: {}: {}",
            file.display(),
            self.rule.name(),
            self.what
        )
    }
}
