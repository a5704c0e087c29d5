//! What each side can do, as they tell each other to begin with.

use serde_json::{Value, json};

use super::{MAX_DATA, MAX_FDS, MAX_MAPS};

/// What one side can do, as JSON text after a [`Version`](super::Version).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Descriptors it takes in one message.
    pub max_fds: usize,
    /// Bytes of data it takes in one access.
    pub max_data: usize,
}

impl Default for Capabilities {
    /// What one that says nothing can do, by the protocol.
    fn default() -> Self {
        Self {
            max_fds: 1,
            max_data: MAX_DATA,
        }
    }
}

impl Capabilities {
    /// What this implementation can do.
    pub const OURS: Self = Self {
        max_fds: MAX_FDS,
        max_data: MAX_DATA,
    };

    /// Takes them from the text; what it does not say, or says strangely, is as by default. `None`: it is
    /// neither empty nor JSON text with a NUL at its end.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let usual = Self::default();
        if text.is_empty() {
            return Some(usual);
        }
        let text = text.strip_suffix(b"\0")?;
        let value: Value = serde_json::from_slice(text).ok()?;
        let number = |name: &str, usual: usize| {
            let number = value.get("capabilities")?.get(name)?.as_u64()?;
            usize::try_from(number)
                .ok()
                .filter(|&n| n > 0)
                .or(Some(usual))
        };
        Some(Self {
            max_fds: number("max_msg_fds", usual.max_fds).unwrap_or(usual.max_fds),
            max_data: number("max_data_xfer_size", usual.max_data).unwrap_or(usual.max_data),
        })
    }

    /// Appends the text.
    pub fn put(&self, out: &mut Vec<u8>) {
        let text = json!({
            "capabilities": {
                "max_msg_fds": self.max_fds,
                "max_data_xfer_size": self.max_data,
                "pgsizes": 4096,
                "max_dma_maps": MAX_MAPS,
            }
        });
        out.extend_from_slice(text.to_string().as_bytes());
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn capabilities_that_nobody_names_are_the_usual_ones() {
        let text = |text: &str| Capabilities::parse(text.as_bytes());
        assert_eq!(text(""), Some(Capabilities::default()));
        assert_eq!(text("{}\0"), Some(Capabilities::default()));
        let some = text("{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":\"x\"}}\0");
        let expected = Capabilities {
            max_fds: 8,
            ..Capabilities::default()
        };
        assert_eq!(some, Some(expected));
        for wrong in ["{}", "{\0", "\0", "[1,2\0"] {
            assert_eq!(text(wrong), None, "{wrong:?}");
        }
        let mut ours = Vec::new();
        Capabilities::OURS.put(&mut ours);
        assert_eq!(Capabilities::parse(&ours), Some(Capabilities::OURS));
    }

    proptest! {
        #[test]
        fn any_text_makes_capabilities_or_none(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Capabilities::parse(&text);
        }
    }
}
