//! `--pcap-dump`: writes what is forwarded to a capture file that rotates by size. Not for speed:
//! all workers share one file behind a lock.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use sumac_capture::{CaptureError, RotatingWriter};
use sumac_rref::PacketBatch;

/// The capture file.
pub struct Dump {
    state: Mutex<State>,
}

struct State {
    /// None once finished.
    writer: Option<RotatingWriter>,
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
                writer: Some(writer),
                frame: Vec::new(),
                failure: None,
            }),
        })
    }

    /// Adds the frames of a batch.
    pub fn write(&self, batch: &mut PacketBatch) {
        self.write_rest(batch, 0);
    }

    /// Adds the frames of a batch but the first `written`, which were added before. After a failure nothing more is written; [`finish`](Self::finish)
    /// tells.
    pub fn write_rest(&self, batch: &mut PacketBatch, written: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let time_ns = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        let state = &mut *state;
        for packet in batch.packets_mut().skip(written) {
            let Some(writer) = state.writer.as_mut().filter(|_| state.failure.is_none()) else {
                return;
            };
            state.frame.clear();
            packet
                .segments()
                .for_each(|bytes| state.frame.extend_from_slice(bytes));
            state.failure = writer.write(time_ns, &state.frame).err();
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
            None => state.writer.take().map_or(Ok(()), RotatingWriter::finish),
        }
    }
}
