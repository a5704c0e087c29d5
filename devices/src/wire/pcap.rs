//! `pcap=FILE` and `out=FILE`: frames from a capture, and a capture of what the device sends.
//!
//! Input loses nothing: a frame waits until the device has a descriptor for it. The output's times
//! are the device's clock.

use std::path::PathBuf;

use sumac_capture::{CaptureError, Reader, Writer};

use super::{LinkSwitch, MAX_FRAME, Wire, WireReport};

/// A capture to play.
#[derive(Debug)]
struct Input {
    path: PathBuf,
    /// `None` at the end.
    reader: Option<Reader>,
    /// How many more times to play it from the beginning.
    repeats: u64,
    /// Whether this time any frame has come: an empty capture is not played again.
    played: bool,
    /// The frame at the port, if `full`.
    frame: Vec<u8>,
    full: bool,
}

/// Captures as a cable.
#[derive(Debug, Default)]
pub struct PcapWire {
    link: LinkSwitch,
    input: Option<Input>,
    output: Option<Writer>,
    /// Recording has failed: what would follow has a hole in it.
    broken: bool,
    report: WireReport,
}

impl PcapWire {
    /// A cable that plays nothing and swallows what is sent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plays the capture at `path`, `times` in all. A file is read to its end first: a damaged one
    /// is refused before a frame of it is played.
    ///
    /// # Errors
    /// It cannot be opened, is no Ethernet capture, or is damaged.
    pub fn play(mut self, path: impl Into<PathBuf>, times: u64) -> Result<Self, CaptureError> {
        let path = path.into();
        Reader::check(&path)?;
        let reader = Some(Reader::open(&path)?);
        let repeats = times.saturating_sub(1);
        self.input = Some(Input {
            path,
            reader,
            repeats,
            played: false,
            frame: Vec::new(),
            full: false,
        });
        self.report.has_input = true;
        self.report.ends = true;
        Ok(self)
    }

    /// Records what the device sends in a capture at `path`, replacing what was there.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn record(mut self, path: impl Into<PathBuf>) -> Result<Self, CaptureError> {
        self.output = Some(Writer::create(path.into())?);
        Ok(self)
    }

    fn fail(&mut self, error: CaptureError) {
        self.report.failure.get_or_insert_with(|| error.to_string());
    }
}

impl Input {
    /// Reads the next frame a port can carry. Counts those it cannot in `oversize`.
    fn advance(&mut self, oversize: &mut u64) -> Result<(), CaptureError> {
        while !self.full {
            let Some(reader) = &mut self.reader else {
                return Ok(());
            };
            match reader.next_frame() {
                Ok(Some(frame)) if frame.data.len() > MAX_FRAME => *oversize += 1,
                Ok(Some(frame)) => {
                    self.frame.clear();
                    self.frame.extend_from_slice(frame.data);
                    self.full = true;
                    self.played = true;
                }
                Ok(None) => {
                    self.reader = None;
                    if self.repeats > 0 && self.played {
                        self.repeats -= 1;
                        self.played = false;
                        self.reader = Some(Reader::open(&self.path)?);
                    }
                }
                Err(error) => {
                    self.reader = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Wire for PcapWire {
    fn peek(&mut self, _now_ns: u64) -> Option<&[u8]> {
        let input = self.input.as_mut().filter(|_| self.link.is_up())?;
        if !input.full
            && let Err(error) = input.advance(&mut self.report.errors.oversize)
        {
            self.fail(error);
        }
        self.input
            .as_ref()
            .filter(|input| input.full)
            .map(|input| input.frame.as_slice())
    }

    fn consume(&mut self) {
        if let Some(input) = self.input.as_mut().filter(|input| input.full) {
            input.full = false;
            self.report.to_device_frames += 1;
            self.report.to_device_bytes += input.frame.len() as u64;
        }
    }

    fn transmit(&mut self, now_ns: u64, frame: &[u8]) -> bool {
        if let Some(output) = &mut self.output
            && let Err(error) = output.write(now_ns, frame)
        {
            self.output = None;
            self.broken = true;
            self.fail(error);
        }
        if self.broken {
            self.report.errors.refused += 1;
            return true;
        }
        self.report.from_device_frames += 1;
        self.report.from_device_bytes += frame.len() as u64;
        true
    }

    fn drops_when_full(&self) -> bool {
        false
    }

    fn link(&self) -> &LinkSwitch {
        &self.link
    }

    fn report(&self) -> WireReport {
        let done = |input: &Input| !input.full && input.reader.is_none();
        WireReport {
            finished: self.input.as_ref().is_none_or(done),
            ..self.report.clone()
        }
    }

    fn finish(&mut self) {
        if let Some(output) = self.output.take()
            && let Err(error) = output.finish()
        {
            self.fail(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &std::path::Path, frames: &[&[u8]]) {
        let mut wire = PcapWire::new().record(path).unwrap();
        assert!(frames.iter().all(|frame| wire.transmit(7, frame)));
        wire.finish();
        let report = wire.report();
        assert_eq!(report.from_device_frames, frames.len() as u64);
        assert_eq!(report.failure, None);
    }

    fn drain(wire: &mut PcapWire) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(frame) = wire.peek(0) {
            frames.push(frame.to_vec());
            wire.consume();
        }
        frames
    }

    #[test]
    fn what_is_recorded_is_played() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcap");
        record(&path, &[&[1; 60], &[2; 9000], &[3; 9729], &[4; 14]]);
        let mut wire = PcapWire::new().play(&path, 2).unwrap();
        assert!(!wire.report().finished && wire.report().has_input);
        assert_eq!(wire.peek(0).unwrap(), [1; 60]);
        wire.link().set(false);
        assert!(wire.peek(0).is_none());
        wire.link().set(true);
        let once = [vec![1; 60], vec![2; 9000], vec![4; 14]];
        assert_eq!(drain(&mut wire), [&once[..], &once].concat());
        let report = wire.report();
        assert!(report.finished);
        assert_eq!((report.to_device_frames, report.errors.oversize), (6, 2));
    }

    #[test]
    fn an_empty_capture_ends_however_often_it_is_played() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcap");
        record(&path, &[]);
        let mut wire = PcapWire::new().play(&path, u64::MAX).unwrap();
        assert!(wire.peek(0).is_none() && wire.report().finished);
    }

    #[test]
    fn a_cut_capture_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcap");
        record(&path, &[&[1; 60], &[2; 60]]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let refusal = PcapWire::new().play(&path, 1).unwrap_err().to_string();
        assert!(
            refusal.contains("a.pcap") && refusal.contains("frame 2"),
            "{refusal}"
        );
    }

    #[test]
    fn a_capture_cut_while_it_is_played_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcap");
        // More than is read ahead.
        let frames = vec![&[7; 1000][..]; 200];
        record(&path, &frames);
        let mut wire = PcapWire::new().play(&path, 1).unwrap();
        std::fs::write(&path, &std::fs::read(&path).unwrap()[..150_000]).unwrap();
        assert!(drain(&mut wire).len() < 200);
        let report = wire.report();
        assert!(report.finished);
        assert!(report.failure.unwrap().contains("a.pcap"));
    }

    #[test]
    fn a_full_disk_is_a_failure_and_frames_are_refused() {
        // Every write to it fails for want of space.
        let mut wire = PcapWire::new().record("/dev/full").unwrap();
        for _ in 0..100 {
            assert!(wire.transmit(0, &[0; 1500]));
        }
        wire.finish();
        let report = wire.report();
        assert!(report.failure.unwrap().contains("/dev/full"));
        assert!(report.errors.refused > 0);
        assert_eq!(report.errors.refused + report.from_device_frames, 100);
    }

    #[test]
    fn what_is_still_buffered_at_the_end_can_fail_too() {
        let mut wire = PcapWire::new().record("/dev/full").unwrap();
        assert!(wire.transmit(0, &[0; 60]));
        wire.finish();
        assert!(wire.report().failure.is_some());
    }
}
