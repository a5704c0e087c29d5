//! Reading captures: which format it is, and pcap records.
//!
//! Invariant: a length field is checked against [`MAX_FRAME`] or a block's limit before anything
//! is read by it, and buffers grow only with bytes that were really there.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::pcapng::Section;
use crate::{CaptureError, ETHERNET, Fault, MAX_FRAME, NANOSECONDS};

/// One captured frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'r> {
    /// The frame, without frame check sequence.
    pub data: &'r [u8],
    /// When it was captured, in nanoseconds since 1970.
    pub time_ns: u64,
}

/// Reads frames from a pcap or pcapng capture.
#[derive(Debug)]
pub struct Reader<R = BufReader<File>> {
    file: PathBuf,
    input: Input<R>,
    format: Format,
    ended: bool,
}

#[derive(Debug)]
enum Format {
    Pcap(Records),
    Pcapng(Section),
}

impl Reader {
    /// Opens the capture at `path` and checks its header.
    ///
    /// # Errors
    /// There is no such file, it is no capture, or its frames are not Ethernet.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let path = path.as_ref();
        let open = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
            true => Err(std::io::ErrorKind::IsADirectory.into()),
            false => Ok(file),
        });
        let file = open.map_err(|error| CaptureError {
            file: path.to_owned(),
            fault: Fault::Open(error),
        })?;
        Self::new(BufReader::with_capacity(1 << 16, file), path)
    }

    /// Reads the capture at `path` to its end, so that what is wrong with it is known before any of
    /// it is used. Anything but a regular file could not be read again: of a pipe nothing is read.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`next_frame`](Self::next_frame).
    pub fn check(path: impl AsRef<Path>) -> Result<(), CaptureError> {
        let regular = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if regular || !path.as_ref().exists() {
            let mut reader = Self::open(path)?;
            while reader.next_frame()?.is_some() {}
        }
        Ok(())
    }
}

impl<R: Read> Reader<R> {
    /// Reads a capture from `input`, checking its header at once; `name` stands in errors.
    ///
    /// # Errors
    /// It is no capture, or its frames are not Ethernet.
    pub fn new(input: R, name: impl Into<PathBuf>) -> Result<Self, CaptureError> {
        let file = name.into();
        let mut input = Input {
            input,
            offset: 0,
            record: 0,
            frame: 1,
            data: Vec::new(),
        };
        match Format::detect(&mut input) {
            Ok(format) => Ok(Self {
                file,
                input,
                format,
                ended: false,
            }),
            Err(fault) => Err(CaptureError { file, fault }),
        }
    }

    /// The next frame, or `None` at the end. After an error the capture is at its end.
    ///
    /// # Errors
    /// The file is damaged or cut short, a frame in it is, or reading fails.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        if self.ended {
            return Ok(None);
        }
        let next = match &mut self.format {
            Format::Pcap(records) => records.next(&mut self.input),
            Format::Pcapng(section) => section.next(&mut self.input),
        };
        match next {
            Ok(Some(found)) => {
                self.input.frame += 1;
                // Both formats have checked that the range lies within the record.
                let data = self.input.data.get(found.range).unwrap_or_default();
                Ok(Some(Frame {
                    data,
                    time_ns: found.time_ns,
                }))
            }
            Ok(None) => {
                self.ended = true;
                Ok(None)
            }
            Err(fault) => {
                self.ended = true;
                Err(CaptureError {
                    file: self.file.clone(),
                    fault,
                })
            }
        }
    }
}

impl Format {
    fn detect<R: Read>(input: &mut Input<R>) -> Result<Self, Fault> {
        let mut magic = [0; 4];
        if input.fill(&mut magic)? < magic.len() {
            return Err(Fault::NotACapture);
        }
        if magic == [0x0A, 0x0D, 0x0D, 0x0A] {
            return Section::open(input).map(Self::Pcapng);
        }
        Records::open(input, magic).map(Self::Pcap)
    }
}

/// A frame found in the record that was read last.
pub(crate) struct Found {
    pub(crate) range: std::ops::Range<usize>,
    pub(crate) time_ns: u64,
}

/// Bytes from the file, and where they came from.
#[derive(Debug)]
pub(crate) struct Input<R> {
    input: R,
    /// Bytes read so far.
    offset: u64,
    /// Where the current record begins.
    record: u64,
    /// Number of the frame being looked for.
    frame: u64,
    /// The current record.
    pub(crate) data: Vec<u8>,
}

impl<R: Read> Input<R> {
    /// Fills `buffer` as far as the file goes; returns how far.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Fault::Read {
                        offset: self.offset + filled as u64,
                        source,
                    });
                }
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Begins a record with its fixed header; `false` at the file's end.
    pub(crate) fn begin(&mut self, header: &mut [u8]) -> Result<bool, Fault> {
        self.record = self.offset;
        match self.fill(header)? {
            0 => Ok(false),
            filled if filled == header.len() => Ok(true),
            _ => Err(self.truncated()),
        }
    }

    /// Fills `buffer` from the current record.
    pub(crate) fn exact(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        if self.fill(buffer)? < buffer.len() {
            return Err(self.truncated());
        }
        Ok(())
    }

    /// Appends `count` bytes to [`data`](Self::data), which grows as they come.
    pub(crate) fn append(&mut self, count: usize) -> Result<(), Fault> {
        let offset = self.offset;
        let read = (&mut self.input)
            .take(count as u64)
            .read_to_end(&mut self.data);
        let read = read.map_err(|source| Fault::Read { offset, source })?;
        self.offset += read as u64;
        if read < count {
            Err(self.truncated())
        } else {
            Ok(())
        }
    }

    pub(crate) fn truncated(&self) -> Fault {
        Fault::Truncated {
            frame: self.frame,
            offset: self.record,
        }
    }

    pub(crate) fn damaged(&self, what: &'static str) -> Fault {
        Fault::Damaged {
            frame: self.frame,
            offset: self.record,
            what,
        }
    }

    /// Checks a frame's captured length against its original one.
    pub(crate) fn check_whole(&self, captured: usize, original: u32) -> Result<(), Fault> {
        if captured > MAX_FRAME {
            return Err(self.damaged("a frame longer than 262144 bytes"));
        }
        if captured < original as usize {
            return Err(Fault::Cut {
                frame: self.frame,
                captured,
                original,
            });
        }
        Ok(())
    }
}

/// The records of a pcap file.
#[derive(Debug)]
struct Records {
    big_endian: bool,
    /// Nanoseconds in the unit of a timestamp's fraction.
    fraction_ns: u64,
}

impl Records {
    fn open<R: Read>(input: &mut Input<R>, magic: [u8; 4]) -> Result<Self, Fault> {
        let mut header = [0; 24];
        header[..4].copy_from_slice(&magic);
        if !matches!(
            u32::from_le_bytes(magic),
            0xA1B2_C3D4 | 0xA1B2_3C4D | 0xD4C3_B2A1 | 0x4D3C_B2A1
        ) {
            return Err(Fault::NotACapture);
        }
        input.exact(&mut header[4..])?;
        let (_, header) =
            pcap_parser::parse_pcap_header(&header).map_err(|_| Fault::NotACapture)?;
        let (major, minor) = (header.version_major, header.version_minor);
        if (major, minor) != (2, 4) {
            return Err(Fault::Version { major, minor });
        }
        let link_type = header.network.0 as u32;
        if link_type != ETHERNET {
            return Err(Fault::LinkType(link_type));
        }
        let fraction_ns = if header.is_nanosecond_precision() {
            1
        } else {
            1000
        };
        Ok(Self {
            big_endian: header.is_bigendian(),
            fraction_ns,
        })
    }

    fn next<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Found>, Fault> {
        let mut header = [0; 16];
        if !input.begin(&mut header)? {
            return Ok(None);
        }
        let (fields, _) = header.as_chunks::<4>();
        let field = |n: usize| match self.big_endian {
            true => u32::from_be_bytes(fields[n]),
            false => u32::from_le_bytes(fields[n]),
        };
        let (captured, original) = (field(2) as usize, field(3));
        input.check_whole(captured, original)?;
        input.data.clear();
        input.append(captured)?;
        let fraction = u64::from(field(1)) * self.fraction_ns;
        let time_ns = u64::from(field(0)) * NANOSECONDS + fraction;
        Ok(Some(Found {
            range: 0..captured,
            time_ns,
        }))
    }
}
