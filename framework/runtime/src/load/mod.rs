//! The loader: from the bytes of a domain file to an image in memory.
//!
//! In this order, each step with an error of its own ([`LoadError`]): the signature, by a trusted key; the
//! ABI note, against what this host was built with; the ELF image, in full. Only then is memory reserved.
//!
//! - [`trust`]: whose signatures count, and checking one;
//! - [`note`]: the ABI note, and what a host expects in it;
//! - [`plan`]: what of the file goes where in memory, and that nothing else is asked for;
//! - [`memory`]: the host's part, [`ImageMemory`].
//!
//! Invariant: no byte of a file is trusted before its signature is verified, and a file that a trusted key
//! signed is still checked for everything that would let it reach outside its own image.

mod dynamic;
mod error;
mod header;
pub mod memory;
pub mod note;
pub mod plan;
pub mod trust;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, Range};

pub use error::LoadError;
use memory::{Access, ImageMemory, ImagePages};
pub use note::{Expected, Note};
use plan::Block;
pub use plan::{Plan, Segment};
use sumac_domain::abi::{Entry, EntryResult, HostTable};
use sumac_domain::file::{self, Parts};
use sumac_interface::Interface;
use sumac_rref::Object;
pub use trust::{Key, TrustedKeys};

/// What a file says of itself, checked as far as its signature and its form go.
#[derive(Clone, Debug)]
pub struct Inspected<'a> {
    /// Whose key verifies the signature. Whether that key is trusted was not asked.
    pub signer: Key,
    /// The ABI note.
    pub note: Note,
    /// The root interface in words.
    pub description: &'a str,
    /// What goes where.
    pub plan: Plan<'a>,
}

/// Reads a domain file without trusting it: its signature fits its claimed signer, and its form is right.
///
/// # Errors
/// [`LoadError`], except for untrusted signers and mismatches.
pub fn inspect(file: &[u8]) -> Result<Inspected<'_>, LoadError> {
    read(file, |parts| trust::verify(parts, None), None)
}

/// Checks a domain file as [`load`] does, and maps nothing.
///
/// # Errors
/// [`LoadError`], the first that applies.
pub fn check<'a>(
    file: &'a [u8],
    trust: &TrustedKeys,
    expected: &Expected<'_>,
) -> Result<Inspected<'a>, LoadError> {
    read(
        file,
        |parts| trust::verify(parts, Some(trust)),
        Some(expected),
    )
}

fn read<'a>(
    file: &'a [u8],
    signer: impl FnOnce(&Parts<'_>) -> Result<Key, LoadError>,
    expected: Option<&Expected<'_>>,
) -> Result<Inspected<'a>, LoadError> {
    let parts = file::split(file)?;
    let signer = signer(&parts)?;
    let description =
        core::str::from_utf8(parts.description).map_err(|_| LoadError::DescriptionText)?;
    let headers = header::Headers::parse(parts.image)?;
    let note = Note::find(parts.image, &headers)?;
    if let Some(expected) = expected {
        expected.compare(&note, description)?;
    }
    let plan = Plan::new(parts.image, &headers)?;
    Ok(Inspected {
        signer,
        note,
        description,
        plan,
    })
}

/// A domain file whose signature was verified, by a trusted key: for those who load it again and again. Its
/// bytes cannot change.
#[derive(Clone, Debug)]
pub struct Verified {
    file: Arc<[u8]>,
    signer: Key,
}

impl Verified {
    /// Verifies a file.
    ///
    /// # Errors
    /// [`LoadError`]: it is not signed, or not by a trusted key.
    pub fn new(file: impl Into<Arc<[u8]>>, trust: &TrustedKeys) -> Result<Self, LoadError> {
        let file = file.into();
        let signer = trust::verify(&file::split(&file)?, Some(trust))?;
        Ok(Self { file, signer })
    }

    /// Whether [`load`](Self::load) would take it.
    ///
    /// # Errors
    /// [`LoadError`], the first that applies.
    pub fn check<I: Interface + ?Sized>(&self) -> Result<(), LoadError> {
        let description = I::describe();
        let expected = Expected::root::<I>(&description);
        read(&self.file, |_| Ok(self.signer), Some(&expected)).map(drop)
    }

    /// As [`load`], but for the signature, which was verified.
    ///
    /// # Errors
    /// [`LoadError`], the first that applies; then nothing stays mapped.
    pub fn load<I: Interface + ?Sized>(
        &self,
        memory: &dyn ImageMemory,
    ) -> Result<Image<I>, LoadError> {
        let description = I::describe();
        let expected = Expected::root::<I>(&description);
        let checked = read(&self.file, |_| Ok(self.signer), Some(&expected))?;
        Ok(Image {
            placed: put(&checked, memory)?,
            root: PhantomData,
        })
    }
}

/// Loads a domain whose root interface is `I`, as this host was built with it.
///
/// # Errors
/// [`LoadError`], the first that applies; then nothing stays mapped.
pub fn load<I: Interface + ?Sized>(
    file: &[u8],
    trust: &TrustedKeys,
    memory: &dyn ImageMemory,
) -> Result<Image<I>, LoadError> {
    let description = I::describe();
    let placed = place(file, trust, &Expected::root::<I>(&description), memory)?;
    Ok(Image {
        placed,
        root: PhantomData,
    })
}

/// Checks a domain file and puts it into memory, from where it cannot be entered: [`load`] without its type.
///
/// # Errors
/// [`LoadError`], the first that applies; then nothing stays mapped.
pub fn place(
    file: &[u8],
    trust: &TrustedKeys,
    expected: &Expected<'_>,
    memory: &dyn ImageMemory,
) -> Result<Placed, LoadError> {
    put(&check(file, trust, expected)?, memory)
}

/// Puts a file that was checked into memory.
fn put(file: &Inspected<'_>, memory: &dyn ImageMemory) -> Result<Placed, LoadError> {
    let plan = &file.plan;
    let mut pages = memory.reserve(plan.bytes())?;
    let base = pages.base();
    let constant = |segment: &&Segment<'_>| segment.access != Access::Write;
    for segment in plan.segments().iter().filter(constant) {
        pages.write(segment.range.start, segment.contents)?;
    }
    let blocks = plan.relocated(base);
    for block in &blocks {
        pages.write(block.at, &block.contents)?;
    }
    // Only now, and for good, does any page become executable or read-only.
    for segment in plan.segments() {
        pages.protect(segment.pages(), segment.access)?;
    }
    if let Some(relro) = plan.relro() {
        pages.protect(relro, Access::Read)?;
    }
    let code = plan.code();
    Ok(Placed {
        variables: plan.variables(blocks),
        entry: base + plan.entry(),
        code: base + code.start..base + code.end,
        signer: file.signer,
        pages,
    })
}

/// An image in memory. Its pages go when it is dropped.
pub struct Placed {
    entry: usize,
    code: Range<usize>,
    signer: Key,
    /// What the domain may write, as it finds it.
    variables: Vec<Block>,
    pages: Box<dyn ImagePages>,
}

impl Placed {
    /// The addresses of the image's code, from its first part to its last: whether an instruction is the
    /// domain's.
    pub fn code(&self) -> Range<usize> {
        self.code.clone()
    }

    /// The addresses of the whole image.
    pub fn range(&self) -> Range<usize> {
        let base = self.pages.base();
        base..base + self.pages.bytes()
    }

    /// Who signed it.
    pub fn signer(&self) -> Key {
        self.signer
    }
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed")
            .field("range", &self.range())
            .field("code", &self.code)
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

/// An image in memory that has an `I` to offer, not yet entered.
pub struct Image<I: ?Sized> {
    placed: Placed,
    root: PhantomData<fn() -> Object<I>>,
}

impl<I: ?Sized> Image<I> {
    /// Enters the domain: it keeps `host` and makes its root object. Where it fails instead, `host.fail` is
    /// called and this does not return.
    ///
    /// # Safety
    /// Called once, and once more after each [`renew`](Self::renew). This thread can be taken out of the call by `host.fail`. `host`'s functions serve this
    /// domain from any thread; the image, the table's memory and all pages that `grow` gave stay until no
    /// thread runs the domain's code and the object is gone or never used again.
    pub unsafe fn enter(&self, host: &'static HostTable) -> Object<I> {
        // SAFETY: the plan found the entry inside a segment with code, and the file's signature says that the
        // trusted build made it: a function of this type.
        let entry: Entry = unsafe { core::mem::transmute::<usize, Entry>(self.placed.entry) };
        // SAFETY: the caller's promise.
        let parts: EntryResult = unsafe { entry(host) };
        // SAFETY: the note matched this compiler and this root interface, and the shell that the trusted
        // build generates returns the parts of an `Object` of it, once.
        unsafe {
            let (object, drop) = parts.into_parts::<I>();
            Object::from_raw(object, drop)
        }
    }

    /// Makes the image as it was before it was entered, for another life of the domain: all else of it was
    /// never writable.
    ///
    /// # Errors
    /// [`LoadError::Memory`]: it cannot be used again.
    ///
    /// # Safety
    /// No thread runs the domain's code, and nothing that it made is used ever again.
    pub unsafe fn renew(&mut self) -> Result<(), LoadError> {
        let Placed {
            variables, pages, ..
        } = &mut self.placed;
        for block in variables {
            pages.write(block.at, &block.contents)?;
        }
        Ok(())
    }
}

impl<I: ?Sized> Deref for Image<I> {
    type Target = Placed;

    fn deref(&self) -> &Placed {
        &self.placed
    }
}

impl<I: ?Sized> fmt::Debug for Image<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.placed.fmt(f)
    }
}
