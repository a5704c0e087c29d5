//! Which queue a frame goes to: RSS by hash and redirection table (section 7.1.2.8).

use crate::frame::{Layout, RssFields, RssHash, Toeplitz};

/// The RSS settings as a snapshot of MRQC, RSSRK and RETA.
pub(super) struct Steering {
    toeplitz: Toeplitz,
    key: [u8; 40],
    fields: RssFields,
    table: [u8; 128],
}

impl Steering {
    /// The settings in the registers; `None` unless MRQC selects plain RSS. `old` is reused where
    /// the key is the same: its tables take long to work out.
    pub fn snapshot(mrqc: u32, read: impl Fn(u32) -> u32, old: Option<Self>) -> Option<Self> {
        if mrqc & 0xF != 1 {
            return None;
        }
        let mut key = [0; 40];
        for (index, bytes) in key.chunks_exact_mut(4).enumerate() {
            let word = read(super::registers::RSSRK + 4 * index as u32);
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut table = [0; 128];
        for (index, entries) in table.chunks_exact_mut(4).enumerate() {
            let word = read(super::registers::RETA + 4 * index as u32);
            // Four bits an entry: RSS alone spreads over 16 queues.
            entries.copy_from_slice(&(word & 0x0F0F_0F0F).to_le_bytes());
        }
        let toeplitz = match old {
            Some(old) if old.key == key => old.toeplitz,
            _ => Toeplitz::new(&key),
        };
        Some(Self {
            toeplitz,
            key,
            fields: RssFields::from_mrqc(mrqc),
            table,
        })
    }

    /// Whether any frame goes to another queue than the first.
    pub fn spreads(&self) -> bool {
        self.table.iter().any(|queue| *queue != 0)
    }

    /// The frame's hash and the queue it goes to; queue 0 for a frame without a hash.
    #[inline]
    pub fn queue(&self, frame: &[u8], layout: &Layout) -> (Option<RssHash>, usize) {
        match self.toeplitz.hash_frame(frame, layout, self.fields) {
            Some(hash) => (
                Some(hash),
                usize::from(self.table[(hash.value & 0x7F) as usize]),
            ),
            None => (None, 0),
        }
    }
}
