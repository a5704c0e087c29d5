//! The cheapest wire there is: the same frame again and again, and a sink. The device still stores the
//! payload of every frame it receives and reads that of every frame it sends, but no generator and no
//! check stands between two drivers that are compared.

use sumac_devices::wire::{Intake, LinkSwitch, SHORT_FRAME, ShortFrame, Wire, WireReport};

/// Bytes of the shortest frame without frame check sequence.
const FRAME: usize = SHORT_FRAME;
/// Frames handed over at once.
const BLOCK: usize = 32;

/// One UDP packet over IPv4, for ever, while the source is on.
pub struct ConstantWire {
    /// The frame, as often as is handed over at once.
    block: [ShortFrame; BLOCK],
    /// Whether frames come in.
    pub source: bool,
    link: LinkSwitch,
    to_device: u64,
    from_device: u64,
}

impl ConstantWire {
    /// A wire whose source is off.
    pub fn new() -> Self {
        let mut frame: ShortFrame = [0; 64];
        frame[..6].copy_from_slice(&[0x02, 0x53, 0x55, 0x4d, 0x41, 0x00]);
        frame[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 0x01]);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        // IPv4: 20 bytes of header, 46 in all, UDP, 10.0.0.1 to 10.0.0.2; its checksum is right.
        let header = [
            0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0x66, 0xbd, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        frame[14..34].copy_from_slice(&header);
        // UDP: port 1000 to 2000, 26 bytes, no checksum.
        frame[34..42].copy_from_slice(&[0x03, 0xe8, 0x07, 0xd0, 0, 26, 0, 0]);
        Self {
            block: [frame; BLOCK],
            source: false,
            link: LinkSwitch::new(),
            to_device: 0,
            from_device: 0,
        }
    }
}

impl Default for ConstantWire {
    fn default() -> Self {
        Self::new()
    }
}

impl Wire for ConstantWire {
    #[inline(always)]
    fn peek(&mut self, _now_ns: u64) -> Option<&[u8]> {
        self.source.then_some(&self.block[0][..FRAME])
    }

    #[inline(always)]
    fn consume(&mut self) {
        self.to_device += 1;
    }

    #[inline(always)]
    fn deliver<I: Intake>(&mut self, _now_ns: u64, limit: usize, intake: &mut I) -> usize {
        let mut taken = 0;
        while self.source && taken < limit {
            let block = self.block.get(..limit - taken).unwrap_or(&self.block);
            // A frame of which nothing is known yet is taken by itself.
            match intake.take_short(block) {
                0 if intake.take(&self.block[0][..FRAME]) => taken += 1,
                0 => break,
                some => taken += some,
            }
        }
        self.to_device += taken as u64;
        taken
    }

    #[inline(always)]
    fn transmit_short(&mut self, _now_ns: u64, frames: &[ShortFrame]) -> usize {
        self.from_device += frames.len() as u64;
        frames.len()
    }

    #[inline(always)]
    fn transmit(&mut self, _now_ns: u64, _frame: &[u8]) -> bool {
        self.from_device += 1;
        true
    }

    #[inline(always)]
    fn drops_when_full(&self) -> bool {
        false
    }

    fn link(&self) -> &LinkSwitch {
        &self.link
    }

    fn report(&self) -> WireReport {
        WireReport {
            to_device_frames: self.to_device,
            to_device_bytes: self.to_device * FRAME as u64,
            from_device_frames: self.from_device,
            has_input: true,
            ..WireReport::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_a_good_ipv4_packet() {
        let wire = ConstantWire::new();
        let words = wire.block[0][14..34].chunks(2);
        let sum: u32 = words
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn frames_come_while_the_source_is_on() {
        let mut wire = ConstantWire::new();
        assert!(wire.peek(0).is_none());
        wire.source = true;
        assert_eq!(wire.peek(0).map(<[u8]>::len), Some(FRAME));
        wire.consume();
        assert!(wire.transmit(0, &[0; FRAME]));
        let report = wire.report();
        assert_eq!((report.to_device_frames, report.from_device_frames), (1, 1));
    }
}
