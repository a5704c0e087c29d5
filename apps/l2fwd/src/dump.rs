//! `--pcap-dump`: writes what is forwarded to a capture file that rotates by size. Not for speed:
//! all workers share one file behind a lock.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sumac_capture::{CaptureError, RotatingWriter};
use sumac_rref::PacketBatch;

/// The capture file.
pub struct Dump {
    state: Mutex<State>,
}

struct State {
    writer: RotatingWriter,
    frame: Vec<u8>,
    failure: Option<CaptureError>,
}

impl Dump {
    /// A capture at `path`, starting a new file each `max_bytes`.
    ///
    /// # Errors
    /// [`CaptureError`] when the file cannot be made.
    pub fn create(path: &Path, max_bytes: u64) -> Result<Self, CaptureError> {
        let writer = RotatingWriter::create(path, max_bytes)?;
        Ok(Self {
            state: Mutex::new(State {
                writer,
                frame: Vec::new(),
                failure: None,
            }),
        })
    }

    /// Adds the frames of a batch. After a failure nothing more is written; [`finish`](Self::finish)
    /// tells.
    pub fn write(&self, batch: &mut PacketBatch) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        let state = &mut *state;
        for packet in batch.packets_mut() {
            if state.failure.is_some() {
                return;
            }
            state.frame.clear();
            packet
                .segments()
                .for_each(|bytes| state.frame.extend_from_slice(bytes));
            state.failure = state.writer.write_frame(now, &state.frame).err();
        }
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// The first failure to write.
    pub fn finish(&self) -> Result<(), CaptureError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.failure.take() {
            Some(failure) => Err(failure),
            None => state.writer.flush(),
        }
    }
}
