//! Interfaces in words, written while they compile: what fingerprints are made of, and how two versions of
//! an interface are told apart.
//!
//! The text has a paragraph for the interface and for each that it names, directly or not, once each:
//!
//! ```text
//! interface sumac_interface::domain::net::NetDevice
//!   mac(&self) -> MacAddress#8d1c0b2a94f7e653
//!   take_queue(&mut self, index: u32#0000000000000003) -> Option<Object<dyn NetLane>>
//! ```
//!
//! Behind each type is its tag, which stands for its structure and layout. So equal texts mean equal
//! interfaces, and the fingerprint is the text's hash.

use core::fmt;
use core::marker::PhantomData;

use sumac_rref::TypeTag;

/// The most interfaces one may name, directly or not, itself included.
const MOST: usize = 32;

/// An interface as one level sees it.
pub struct Description {
    /// Its crate, modules and name.
    pub path: &'static str,
    /// Its methods, each in pieces; none at the bottom level, which knows names only.
    pub methods: Option<&'static [&'static [Piece]]>,
}

/// A piece of a method's description.
pub enum Piece {
    /// Words.
    Text(&'static str),
    /// The tag of the type just written.
    Tag(TypeTag),
    /// An interface.
    Interface(&'static Description),
}

/// The level that knows interfaces by name only.
pub struct Bottom;

/// The level above another: it knows the methods of interfaces, and of the interfaces in those what the
/// level below knows. Interfaces may name each other in circles; levels end.
pub struct Above<L>(PhantomData<L>);

/// What `#[interface]` implements for `dyn Trait`: its description at each level.
#[diagnostic::on_unimplemented(
    message = "interface rule R2 (exchangeable): `{Self}` is not an interface",
    label = "not an interface"
)]
pub trait DescribedAt<L> {
    /// The description.
    const DESCRIPTION: &'static Description;
}

type Two<L> = Above<Above<L>>;
/// Eight levels: interfaces within interfaces, as far as any goes.
type Top = Two<Two<Two<Two<Bottom>>>>;

/// All that an interface needs to describe itself and those it names.
pub trait Described: DescribedAt<Top> {}
impl<I: ?Sized + DescribedAt<Top>> Described for I {}

/// The description of an interface from the highest level.
pub const fn whole<I: ?Sized + Described>() -> &'static Description {
    I::DESCRIPTION
}

/// Text being written; beyond `N` bytes it is only counted.
struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    const fn text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self.byte(bytes[i]);
            i += 1;
        }
    }

    const fn byte(&mut self, byte: u8) {
        if self.len < N {
            self.bytes[self.len] = byte;
        }
        self.len += 1;
    }

    const fn tag(&mut self, tag: TypeTag) {
        self.byte(b'#');
        let mut shift = 64;
        while shift > 0 {
            shift -= 4;
            self.byte(b"0123456789abcdef"[(tag.0 >> shift & 0xf) as usize]);
        }
    }
}

/// The interfaces met so far, in order: each is first met at the highest level that names it.
struct Met {
    all: [Option<&'static Description>; MOST],
    len: usize,
}

impl Met {
    const fn add(&mut self, new: &'static Description) {
        let mut i = 0;
        while i < self.len {
            if let Some(old) = self.all[i]
                && same(old.path, new.path)
            {
                return;
            }
            i += 1;
        }
        assert!(
            self.len < MOST,
            "an interface names more than 31 others, directly or not"
        );
        assert!(
            new.methods.is_some(),
            "interfaces within interfaces go more than 7 deep"
        );
        self.all[self.len] = Some(new);
        self.len += 1;
    }
}

const fn write<const N: usize>(root: &'static Description) -> Text<N> {
    let mut text = Text {
        bytes: [0; N],
        len: 0,
    };
    let mut met = Met {
        all: [None; MOST],
        len: 0,
    };
    met.add(root);
    let mut next = 0;
    while next < met.len {
        if let Some(description) = met.all[next] {
            write_one(&mut text, &mut met, description);
        }
        next += 1;
    }
    text
}

const fn write_one<const N: usize>(text: &mut Text<N>, met: &mut Met, one: &Description) {
    text.text("interface ");
    text.text(one.path);
    text.byte(b'\n');
    let Some(methods) = one.methods else {
        return;
    };
    let mut i = 0;
    while i < methods.len() {
        text.text("  ");
        let mut j = 0;
        while j < methods[i].len() {
            match &methods[i][j] {
                Piece::Text(words) => text.text(words),
                Piece::Tag(tag) => text.tag(*tag),
                Piece::Interface(other) => {
                    text.text(last_name(other.path));
                    met.add(other);
                }
            }
            j += 1;
        }
        text.byte(b'\n');
        i += 1;
    }
}

/// The bytes the text takes.
pub const fn text_len(root: &'static Description) -> usize {
    write::<0>(root).len
}

/// The text, of `text_len` bytes.
pub const fn text<const N: usize>(root: &'static Description) -> [u8; N] {
    write(root).bytes
}

/// The text as such; it is made of names and so is UTF-8.
pub const fn as_str(bytes: &'static [u8]) -> &'static str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("names are UTF-8"),
    }
}

/// FNV-1a over a text.
pub const fn fingerprint(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// What stands behind the last `::`.
const fn last_name(path: &str) -> &str {
    let bytes = path.as_bytes();
    let mut i = bytes.len();
    while i > 0 && bytes[i - 1] != b':' {
        i -= 1;
    }
    path.split_at(i).1
}

/// Where two texts part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The interface in whose paragraph they part, by our text; by the other where ours has ended.
    pub interface: &'a str,
    /// Our line; none where ours has ended.
    pub ours: Option<&'a str>,
    /// The other's line; none where the other has ended.
    pub theirs: Option<&'a str>,
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ours, theirs) = (
            self.ours.unwrap_or("nothing"),
            self.theirs.unwrap_or("nothing"),
        );
        write!(f, "{}: `{ours}` here, `{theirs}` there", self.interface)
    }
}

/// The first line in which two interfaces' texts differ; none if they are equal. Neither text is trusted:
/// any will do.
pub fn first_difference<'a>(ours: &'a str, theirs: &'a str) -> Option<Difference<'a>> {
    let (mut ours, mut theirs) = (ours.lines(), theirs.lines());
    let mut interface = "";
    loop {
        let (our, their) = (ours.next(), theirs.next());
        let named = |line: Option<&'a str>| line?.strip_prefix("interface ");
        interface = named(our).or(named(their)).unwrap_or(interface);
        if our != their {
            return Some(Difference {
                interface,
                ours: our.map(str::trim),
                theirs: their.map(str::trim),
            });
        }
        our?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "interface a::Net\n  mac(&self) -> u8#1\n  stop(&mut self) -> ()#2\n";

    #[test]
    fn equal_texts_do_not_differ() {
        assert_eq!(first_difference(OURS, OURS), None);
    }

    #[test]
    fn the_first_line_that_differs_is_named() {
        let theirs = OURS.replace("u8#1", "u16#1");
        let found = first_difference(OURS, &theirs).map(|d| alloc::string::ToString::to_string(&d));
        let expected = "a::Net: `mac(&self) -> u8#1` here, `mac(&self) -> u16#1` there";
        assert_eq!(found.as_deref(), Some(expected));
    }

    #[test]
    fn a_text_that_ends_early_differs() {
        let theirs = "interface a::Net\n  mac(&self) -> u8#1\n";
        let found = first_difference(OURS, theirs);
        assert_eq!(found.and_then(|d| d.theirs), None);
        assert_eq!(found.and_then(|d| d.ours), Some("stop(&mut self) -> ()#2"));
        assert!(first_difference("", "x").is_some());
    }
}
