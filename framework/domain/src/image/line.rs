//! A line of text of fixed size: what a panic or a log record is formatted into.
//!
//! Invariant: holds UTF-8 always; what does not fit is cut at a character.

use core::fmt;

/// Bytes of a line.
const LEN: usize = 512;

/// Text of at most 512 bytes.
pub(super) struct Line {
    bytes: [u8; LEN],
    used: usize,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; LEN],
            used: 0,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.used).unwrap_or_default();
        str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.floor_char_boundary(LEN - self.used);
        let cut = &text.as_bytes()[..end];
        self.bytes[self.used..self.used + end].copy_from_slice(cut);
        self.used += end;
        if end < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;

    use super::*;

    #[test]
    fn test_long_text_is_cut_at_a_character() {
        let mut line = Line::new();
        // 511 bytes, then one of two bytes that does not fit.
        for _ in 0..511 {
            line.write_char('x').expect("room for one");
        }
        assert!(line.write_str("é").is_err());
        assert_eq!(line.as_str().len(), 511);
        assert!(line.write_str("y").is_ok());
        assert!(line.write_str("z").is_err());
        assert_eq!(line.as_str().len(), 512);
    }
}
