//! A link with nobody at the other end: nothing arrives, what is sent is gone, counted.

use super::{LinkSwitch, Wire, WireReport};

/// A link with nobody at the other end.
#[derive(Debug, Default)]
pub struct NullWire {
    link: LinkSwitch,
    frames: u64,
    bytes: u64,
}

impl NullWire {
    /// A wire that swallows what is sent.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Wire for NullWire {
    fn peek(&mut self, _now_ns: u64) -> Option<&[u8]> {
        None
    }

    fn consume(&mut self) {}

    fn transmit(&mut self, _now_ns: u64, frame: &[u8]) -> bool {
        self.frames += 1;
        self.bytes += frame.len() as u64;
        true
    }

    fn drops_when_full(&self) -> bool {
        true
    }

    fn link(&self) -> &LinkSwitch {
        &self.link
    }

    fn report(&self) -> WireReport {
        WireReport {
            from_device_frames: self.frames,
            from_device_bytes: self.bytes,
            finished: true,
            ..WireReport::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swallows_and_counts() {
        let mut wire = NullWire::new();
        assert!(wire.peek(1).is_none());
        assert!(wire.transmit(2, &[0; 60]));
        let report = wire.report();
        assert_eq!(
            (report.from_device_frames, report.from_device_bytes),
            (1, 60)
        );
        assert!(report.finished && !report.has_input);
        wire.link().clone().set(false);
        assert!(!wire.link_up());
    }
}
