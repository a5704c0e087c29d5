//! Writing pcap captures, in one file or rotating by size.
//!
//! Frames are buffered: only [`Writer::finish`] says whether all of them reached the file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{CaptureError, ETHERNET, Fault, MAX_FRAME, NANOSECONDS};

const HEADER_LEN: u64 = 24;
const RECORD_LEN: u64 = 16;

/// The unit of a capture's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Microseconds: the original format, read by everything.
    Micro,
    /// Nanoseconds.
    #[default]
    Nano,
}

/// Writes frames to a pcap capture.
#[derive(Debug)]
pub struct Writer<W: Write = BufWriter<File>> {
    file: PathBuf,
    output: W,
    precision: Precision,
    frames: u64,
    bytes: u64,
}

impl Writer {
    /// Creates the capture at `path`, with nanosecond timestamps, replacing what was there.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let path = path.as_ref();
        let file = File::create(path).map_err(|error| CaptureError {
            file: path.to_owned(),
            fault: Fault::Create(error),
        })?;
        Self::new(
            BufWriter::with_capacity(1 << 16, file),
            path,
            Precision::Nano,
        )
    }
}

impl<W: Write> Writer<W> {
    /// Writes a capture to `output`; `name` stands in errors.
    ///
    /// # Errors
    /// The header cannot be written.
    pub fn new(
        output: W,
        name: impl Into<PathBuf>,
        precision: Precision,
    ) -> Result<Self, CaptureError> {
        let mut writer = Self {
            file: name.into(),
            output,
            precision,
            frames: 0,
            bytes: HEADER_LEN,
        };
        let magic: u32 = match precision {
            Precision::Micro => 0xA1B2_C3D4,
            Precision::Nano => 0xA1B2_3C4D,
        };
        let mut header = [0; HEADER_LEN as usize];
        header[..4].copy_from_slice(&magic.to_le_bytes());
        header[4] = 2;
        header[6] = 4;
        header[16..20].copy_from_slice(&(MAX_FRAME as u32).to_le_bytes());
        header[20..].copy_from_slice(&ETHERNET.to_le_bytes());
        let written = writer.output.write_all(&header);
        writer.check(written)?;
        Ok(writer)
    }

    /// Appends a frame captured `time_ns` nanoseconds after 1970. Of a frame longer than
    /// [`MAX_FRAME`] the beginning is written.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write(&mut self, time_ns: u64, frame: &[u8]) -> Result<(), CaptureError> {
        self.frames += 1;
        let data = &frame[..frame.len().min(MAX_FRAME)];
        let fraction = time_ns % NANOSECONDS;
        let fraction = match self.precision {
            Precision::Micro => fraction / 1000,
            Precision::Nano => fraction,
        };
        let original = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let fields = [
            (time_ns / NANOSECONDS) as u32,
            fraction as u32,
            data.len() as u32,
            original,
        ];
        let mut header = [0; RECORD_LEN as usize];
        for (to, field) in header.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        self.bytes += RECORD_LEN + data.len() as u64;
        let written = self
            .output
            .write_all(&header)
            .and_then(|()| self.output.write_all(data));
        self.check(written)
    }

    /// Frames written so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// Writing failed.
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        let flushed = self.output.flush();
        self.check(flushed)
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// What was still buffered could not be written.
    pub fn finish(mut self) -> Result<(), CaptureError> {
        self.flush()
    }

    fn check(&self, written: std::io::Result<()>) -> Result<(), CaptureError> {
        written.map_err(|source| CaptureError {
            file: self.file.clone(),
            fault: Fault::Write {
                frame: self.frames,
                source,
            },
        })
    }
}

/// Writes frames to a capture that goes on in another file when one is full: `FILE`, `FILE.1`,
/// `FILE.2` and so on, each a capture of its own.
#[derive(Debug)]
pub struct RotatingWriter {
    path: PathBuf,
    max_bytes: u64,
    files: u64,
    writer: Writer,
}

impl RotatingWriter {
    /// Creates the capture at `path`. No file grows beyond `max_bytes`, unless a single frame does.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: impl AsRef<Path>, max_bytes: u64) -> Result<Self, CaptureError> {
        let path = path.as_ref().to_owned();
        let writer = Writer::create(&path)?;
        Ok(Self {
            path,
            max_bytes,
            files: 1,
            writer,
        })
    }

    /// Appends a frame captured `time_ns` nanoseconds after 1970, in the next file if this one
    /// would grow too large.
    ///
    /// # Errors
    /// Writing failed, or the next file cannot be created.
    pub fn write(&mut self, time_ns: u64, frame: &[u8]) -> Result<(), CaptureError> {
        let grown = self.writer.bytes + RECORD_LEN + frame.len() as u64;
        if grown > self.max_bytes && self.writer.frames > 0 {
            self.writer.flush()?;
            let mut next = self.path.clone().into_os_string();
            next.push(format!(".{}", self.files));
            self.writer = Writer::create(next)?;
            self.files += 1;
        }
        self.writer.write(time_ns, frame)
    }

    /// Files written so far.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// What was still buffered could not be written.
    pub fn finish(self) -> Result<(), CaptureError> {
        self.writer.finish()
    }
}
