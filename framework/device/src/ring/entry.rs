//! A filled buffer on its way, in 16 bytes.

use super::BufferId;

/// A filled buffer and what is known of it.
///
/// | bits | what |
/// |---|---|
/// | word 0, 0..32 | the buffer |
/// | word 0, 32..64 | a word for driver and user to agree on (a network driver: the hash) |
/// | word 1, 0..32 | flags, [`CHAINED`](Entry::CHAINED) the only one known here |
/// | word 1, 32..48 | bytes in the buffer |
/// | word 1, 48..64 | a tag for driver and user to agree on |
///
/// An entry is a plain value; who holds the buffer is argued by the two unsafe traits that move
/// entries, [`EntrySink`](super::EntrySink) and [`EntrySource`](super::EntrySource).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    // Two words, not an array of two: so an entry travels in two registers, and is never written in
    // halves and read back whole, which no processor forwards.
    first: u64,
    second: u64,
}

const _: () = assert!(size_of::<Entry>() == 16 && align_of::<Entry>() == 8);

const LOW: u64 = 0xffff_ffff;

impl Entry {
    /// The data goes on in further buffers, linked by [`BufferPool::link`](super::BufferPool::link).
    pub const CHAINED: u32 = 1;

    /// An entry of buffer `id` with annotation words as a format made them; the low half of
    /// `annotation[0]` is replaced by the buffer, the flag [`CHAINED`](Self::CHAINED) is cleared.
    #[inline(always)]
    pub const fn new(id: BufferId, annotation: [u64; 2]) -> Self {
        let flags = annotation[1] & !(Self::CHAINED as u64);
        Self {
            first: annotation[0] & !LOW | id as u64,
            second: flags,
        }
    }

    /// The buffer.
    #[inline(always)]
    pub const fn id(self) -> BufferId {
        self.first as u32
    }

    /// The agreed word.
    #[inline(always)]
    pub const fn note(self) -> u32 {
        (self.first >> 32) as u32
    }

    /// The flags.
    #[inline(always)]
    pub const fn flags(self) -> u32 {
        self.second as u32
    }

    /// Bytes in this buffer, not in those chained to it.
    #[inline(always)]
    pub const fn len(self) -> u16 {
        (self.second >> 32) as u16
    }

    /// Whether the buffer holds no byte.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The agreed tag.
    #[inline(always)]
    pub const fn tag(self) -> u16 {
        (self.second >> 48) as u16
    }

    /// The same annotations on another buffer.
    #[inline(always)]
    pub const fn with_id(self, id: BufferId) -> Self {
        let first = self.first & !LOW | id as u64;
        Self { first, ..self }
    }

    /// The same with another agreed word.
    #[inline(always)]
    pub const fn with_note(self, note: u32) -> Self {
        let first = self.first & LOW | (note as u64) << 32;
        Self { first, ..self }
    }

    /// The same with other flags.
    #[inline(always)]
    pub const fn with_flags(self, flags: u32) -> Self {
        let second = self.second & !LOW | flags as u64;
        Self { second, ..self }
    }

    /// The same with another length.
    #[inline(always)]
    pub const fn with_len(self, len: u16) -> Self {
        let second = self.second & !(0xffff << 32) | (len as u64) << 32;
        Self { second, ..self }
    }

    /// The same with another tag.
    #[inline(always)]
    pub const fn with_tag(self, tag: u16) -> Self {
        let second = self.second & !(0xffff << 48) | (tag as u64) << 48;
        Self { second, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        let entry = Entry::new(7, [0x1234_5678_ffff_ffff, 0xaaaa_bbbb_0000_0010]);
        assert_eq!(entry.id(), 7);
        assert_eq!(entry.note(), 0x1234_5678);
        assert_eq!(entry.flags(), 0x10);
        assert_eq!(entry.len(), 0xbbbb);
        assert_eq!(entry.tag(), 0xaaaa);
        let changed = entry
            .with_id(9)
            .with_note(1)
            .with_flags(2)
            .with_len(3)
            .with_tag(4);
        assert_eq!(changed.id(), 9);
        assert_eq!(changed.note(), 1);
        assert_eq!(changed.flags(), 2);
        assert_eq!(changed.len(), 3);
        assert_eq!(changed.tag(), 4);
    }

    #[test]
    fn a_device_cannot_set_the_chain_flag() {
        assert_eq!(Entry::new(0, [0, u64::MAX]).flags() & Entry::CHAINED, 0);
    }
}
