//! [`TagHash`]: the hash that makes a type's tag, while it compiles.

use crate::TypeTag;

/// FNV-1a over what makes a type what it is. `#[derive(Exchangeable)]` is its user.
#[derive(Clone, Copy, Debug)]
pub struct TagHash(u64);

impl TagHash {
    /// A hash that begins with the type's name.
    pub const fn new(name: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).text("type").text(name)
    }

    /// Adds a name. Its length goes with it, so that two names never read as one.
    #[must_use]
    pub const fn text(self, text: &str) -> Self {
        let mut hash = self.number(text.len() as u64);
        let mut i = 0;
        while i < text.len() {
            hash = hash.byte(text.as_bytes()[i]);
            i += 1;
        }
        hash
    }

    /// Adds a number.
    #[must_use]
    pub const fn number(self, number: u64) -> Self {
        let bytes = number.to_le_bytes();
        let mut hash = self;
        let mut i = 0;
        while i < bytes.len() {
            hash = hash.byte(bytes[i]);
            i += 1;
        }
        hash
    }

    /// Adds another type.
    #[must_use]
    pub const fn tag(self, tag: TypeTag) -> Self {
        self.number(tag.0)
    }

    /// The tag; the top bit keeps clear of the small tags of numbers.
    pub const fn finish(self) -> TypeTag {
        TypeTag(self.0 | 1 << 63)
    }

    const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }
}

#[cfg(test)]
mod tests {
    use super::TagHash;

    #[test]
    fn what_is_added_and_where_counts() {
        let tags = [
            TagHash::new("A").finish(),
            TagHash::new("B").finish(),
            TagHash::new("A").text("b").finish(),
            TagHash::new("Ab").finish(),
            TagHash::new("A").text("b").text("c").finish(),
            TagHash::new("A").text("bc").finish(),
            TagHash::new("A").number(1).number(2).finish(),
            TagHash::new("A").number(2).number(1).finish(),
        ];
        for (i, tag) in tags.iter().enumerate() {
            assert!(!tags[..i].contains(tag), "{i}");
        }
    }
}
