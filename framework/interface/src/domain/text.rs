//! [`Text`]: a short text that crosses between domains.

use core::fmt;

use sumac_idl::Exchangeable;

/// Up to `N` bytes of UTF-8; what is longer is cut.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Exchangeable)]
pub struct Text<const N: usize> {
    len: u16,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// An empty text.
    pub const EMPTY: Self = Self {
        len: 0,
        bytes: [0; N],
    };

    /// As much of `text` as fits, in whole characters.
    pub fn new(text: &str) -> Self {
        let mut new = Self::EMPTY;
        // Cutting is all that can go wrong.
        let _ = fmt::Write::write_str(&mut new, text);
        new
    }

    /// As much of a formatted text as fits, in whole characters: `Text::of(format_args!(..))`.
    pub fn of(text: fmt::Arguments<'_>) -> Self {
        let mut new = Self::EMPTY;
        // Cutting is all that can go wrong.
        let _ = fmt::Write::write_fmt(&mut new, text);
        new
    }

    /// The text. What came from another domain and is no UTF-8 reads as far as it is.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or(&[]);
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or(&[]);
                core::str::from_utf8(good).unwrap_or("")
            }
        }
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let used = usize::from(self.len);
        let most = N.min(usize::from(u16::MAX)) - used.min(N);
        let fits = text.floor_char_boundary(most);
        let (Some(room), Some(fitting)) = (
            self.bytes.get_mut(used..used + fits),
            text.as_bytes().get(..fits),
        ) else {
            return Err(fmt::Error);
        };
        room.copy_from_slice(fitting);
        self.len += fits as u16;
        if fits == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn what_fits_is_kept_whole() {
        assert_eq!(Text::<8>::new("device").as_str(), "device");
        assert_eq!(Text::<4>::new("device").as_str(), "devi");
        assert_eq!(Text::<8>::EMPTY.as_str(), "");
    }

    #[test]
    fn a_character_is_not_cut() {
        assert_eq!(Text::<4>::new("aé\u{20ac}").as_str(), "aé");
        assert_eq!(Text::<3>::new("\u{20ac}\u{20ac}").as_str(), "\u{20ac}");
    }

    #[test]
    fn a_formatted_text_is_cut_where_it_ends() {
        let text = Text::<10>::of(format_args!("queue {} of {}", 12, 16));
        assert_eq!(text.as_str(), "queue 12 o");
    }

    #[test]
    fn a_foreign_text_reads_as_far_as_it_is_one() {
        let bad = Text::<4> {
            len: 3,
            bytes: [b'a', 0xff, b'b', 0],
        };
        assert_eq!(bad.as_str(), "a");
        let beyond = Text::<4> {
            len: 9,
            bytes: [b'a'; 4],
        };
        assert_eq!(beyond.as_str(), "");
        let mut beyond = beyond;
        assert!(core::fmt::Write::write_str(&mut beyond, "x").is_err());
    }
}
