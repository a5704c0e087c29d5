//! Checking domain files, and telling what is in them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sumac_domain::abi::COMPILER;
use sumac_linux::trust::trusted_keys;
use sumac_runtime::load::memory::Access;
use sumac_runtime::load::note::LAYOUT;
use sumac_runtime::load::{self, Expected, Inspected, Key, TrustedKeys};

use crate::{Trouble, output};

/// More than any domain file: what is longer is not read.
const LONGEST: u64 = 256 << 20;

/// Checks files as a host does; `trust` instead of the user's keys if it names any.
///
/// # Errors
/// What is wrong with the first file that is not right, in one line.
pub fn verify(files: &[PathBuf], trust: &[Key]) -> Result<(), Trouble> {
    let trust = if trust.is_empty() {
        trusted_keys().map_err(|error| error.to_string())?
    } else {
        TrustedKeys::from_iter(trust.iter().copied())
    };
    for path in files {
        let file = read(path)?;
        let told = in_file(path, load::inspect(&file))?;
        // Which root interface is right is the loading program's business; this takes the file's word.
        let expected = Expected {
            compiler: COMPILER,
            layout: LAYOUT,
            root_name: &told.note.root_name,
            root_fingerprint: told.note.root_fingerprint,
            description: told.description,
        };
        let checked = in_file(path, load::check(&file, &trust, &expected))?;
        output::print(&format!(
            "{}: sound, signed by {}, offers {} {:016x}\n",
            path.display(),
            checked.signer,
            checked.note.root_name,
            checked.note.root_fingerprint
        ))?;
    }
    Ok(())
}

/// Shows what a file says of itself.
///
/// # Errors
/// What is wrong with the file, in one line.
pub fn inspect(path: &Path, json: bool) -> Result<(), Trouble> {
    let file = read(path)?;
    let told = in_file(path, load::inspect(&file))?;
    let trusted = trusted_keys().is_ok_and(|trust| trust.contains(told.signer));
    let report = Report::new(path, file.len(), &told, trusted);
    match json {
        true => output::json(&report),
        false => output::print(&report.to_string()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let error = |error: std::io::Error| format!("{}: {error}", path.display());
    let bytes = fs::metadata(path).map_err(error)?.len();
    if bytes > LONGEST {
        return Err(format!(
            "{}: {bytes} bytes, more than any domain file",
            path.display()
        ));
    }
    fs::read(path).map_err(error)
}

fn in_file<T>(path: &Path, result: Result<T, load::LoadError>) -> Result<T, String> {
    result.map_err(|error| format!("{}: {error}", path.display()))
}

/// What a file says of itself. Addresses are from the image's base.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    bytes: usize,
    signer: String,
    trusted: bool,
    root: Root,
    abi: Abi,
    segments: Vec<Segment>,
    memory_bytes: usize,
    entry: usize,
    relocations: usize,
    /// Always empty: a file that imports anything is refused.
    imports: [String; 0],
}

#[derive(Debug, Serialize)]
struct Root {
    name: String,
    fingerprint: String,
    methods: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Abi {
    version: u32,
    compiler: String,
    layout: String,
    /// Whether compiler and layouts are those of this program.
    matches: bool,
}

#[derive(Debug, Serialize)]
struct Segment {
    start: usize,
    end: usize,
    access: &'static str,
}

impl Report {
    fn new(path: &Path, bytes: usize, told: &Inspected<'_>, trusted: bool) -> Self {
        let (note, plan) = (&told.note, &told.plan);
        Self {
            file: path.display().to_string(),
            bytes,
            signer: told.signer.to_string(),
            trusted,
            root: Root {
                name: note.root_name.clone(),
                fingerprint: format!("{:016x}", note.root_fingerprint),
                methods: told.description.lines().map(str::to_owned).collect(),
            },
            abi: Abi {
                version: note.version,
                compiler: format!("{:016x}", note.compiler),
                layout: format!("{:016x}", note.layout),
                matches: note.compiler == COMPILER && note.layout == LAYOUT,
            },
            segments: segments(told),
            memory_bytes: plan.bytes(),
            entry: plan.entry(),
            relocations: plan.relocations().count(),
            imports: [],
        }
    }
}

fn segments(told: &Inspected<'_>) -> Vec<Segment> {
    let relro = told.plan.relro().unwrap_or_default();
    let tell = |segment: &load::Segment<'_>| Segment {
        start: segment.range.start,
        end: segment.range.end,
        access: match segment.access {
            Access::Read => "read",
            Access::Execute => "read, execute",
            Access::Write if relro.contains(&segment.range.start) => "read once relocated",
            Access::Write => "read, write",
        },
    };
    told.plan.segments().iter().map(tell).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trusted = if self.trusted {
            "trusted"
        } else {
            "not trusted"
        };
        let matches = if self.abi.matches { "as" } else { "not as" };
        writeln!(f, "file         {} ({} bytes)", self.file, self.bytes)?;
        writeln!(f, "signed by    {} ({trusted})", self.signer)?;
        writeln!(
            f,
            "offers       {} {}",
            self.root.name, self.root.fingerprint
        )?;
        for method in &self.root.methods {
            writeln!(f, "             {method}")?;
        }
        writeln!(
            f,
            "built with   compiler {}, layouts {} ({matches} this program), ABI {}",
            self.abi.compiler, self.abi.layout, self.abi.version
        )?;
        for segment in &self.segments {
            writeln!(
                f,
                "segment      {:#8x}..{:#8x} {}",
                segment.start, segment.end, segment.access
            )?;
        }
        writeln!(
            f,
            "in memory    {} bytes, entered at {:#x}",
            self.memory_bytes, self.entry
        )?;
        writeln!(f, "relocations  {}", self.relocations)?;
        writeln!(f, "imports      none")
    }
}
