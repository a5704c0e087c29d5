//! What a guest or a process writes, as it comes.

use std::env;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

/// Everything written so far, and whether there will be more. Clones are the same console.
#[derive(Clone, Default)]
pub struct Console {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// How far [`Console::wait_for`] has read.
    read: usize,
    /// Streams still open.
    open: usize,
}

impl Console {
    /// Adds all that comes from a stream, from a thread of its own, until the stream ends.
    ///
    /// With `SUMAC_LAB_SHOW` in the environment it is shown as well.
    pub fn take(&self, mut stream: impl Read + Send + 'static) {
        self.state().open += 1;
        let console = self.clone();
        let show = env::var_os("SUMAC_LAB_SHOW").is_some();
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut part) {
                let part = &part[..length];
                if show {
                    // A closed terminal is no reason to stop a test.
                    let _ = io::stderr().write_all(part);
                }
                let mut state = console.state();
                // A serial line ends its lines with a carriage return.
                state
                    .bytes
                    .extend(part.iter().filter(|&&byte| byte != b'\r'));
                console.shared.changed.notify_all();
            }
            console.state().open -= 1;
            console.shared.changed.notify_all();
        });
    }

    /// All of it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.state().bytes).into_owned()
    }

    /// Waits for this text after that of the last call; false when it did not come in time, or cannot come any
    /// more.
    pub fn wait_for(&self, text: &str, deadline: Instant) -> bool {
        self.wait_until(deadline, |state| state.take_next(text.as_bytes()))
    }

    /// Waits until all streams have ended; false at the deadline.
    pub fn wait_for_end(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, |_| false);
        self.state().open == 0
    }

    fn wait_until(&self, deadline: Instant, mut done: impl FnMut(&mut State) -> bool) -> bool {
        let mut state = self.state();
        loop {
            if done(&mut state) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.open == 0 || left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(|broken| broken.into_inner()).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(|broken| broken.into_inner())
    }
}

impl State {
    /// Reads past the next `text`, if it is there.
    fn take_next(&mut self, text: &[u8]) -> bool {
        let unread = &self.bytes[self.read..];
        let found = unread.windows(text.len()).position(|part| part == text);
        if let Some(at) = found {
            self.read += at + text.len();
        }
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn test_each_text_is_found_once_and_in_order() {
        let console = Console::default();
        console.take(&b"one\r\ntwo\r\none\r\n"[..]);
        let soon = || Instant::now() + Duration::from_secs(10);
        assert!(console.wait_for_end(soon()));
        assert_eq!(console.text(), "one\ntwo\none\n");
        assert!(console.wait_for("two\n", soon()));
        assert!(console.wait_for("one", soon()));
        assert!(!console.wait_for("one", soon()));
    }
}
