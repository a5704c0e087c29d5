//! Time for bounded waits: no wait on hardware is without an end.

/// A wait on hardware ran out of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    /// How long was waited, in nanoseconds.
    pub waited_ns: u64,
}

/// The host's clock. Monotonic; its zero is arbitrary.
pub trait Clock: Send + Sync {
    /// Now, in nanoseconds.
    fn now_ns(&self) -> u64;

    /// Lets about `ns` nanoseconds pass; may give up the processor for long ones.
    fn sleep_ns(&self, ns: u64);
}

impl dyn Clock + '_ {
    /// Polls `done` every `interval_ns` until it holds or `timeout_ns` are over.
    ///
    /// `done` is asked once more after the time ran out, so that a host that was
    /// descheduled in between does not report a timeout that never happened.
    ///
    /// # Errors
    /// [`TimedOut`] when `done` did not hold in time.
    pub fn wait_until(
        &self,
        interval_ns: u64,
        timeout_ns: u64,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), TimedOut> {
        let start = self.now_ns();
        loop {
            if done() {
                return Ok(());
            }
            let waited_ns = self.now_ns().saturating_sub(start);
            if waited_ns >= timeout_ns {
                return if done() {
                    Ok(())
                } else {
                    Err(TimedOut { waited_ns })
                };
            }
            self.sleep_ns(interval_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Manual(AtomicU64);

    impl Clock for Manual {
        fn now_ns(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
        fn sleep_ns(&self, ns: u64) {
            self.0.fetch_add(ns, Ordering::Relaxed);
        }
    }

    #[test]
    fn wait_ends_when_done() {
        let clock = Manual(AtomicU64::new(5));
        let clock: &dyn Clock = &clock;
        let mut polls = 0;
        let result = clock.wait_until(10, 1_000, || {
            polls += 1;
            polls == 4
        });
        assert_eq!(result, Ok(()));
        assert_eq!(clock.now_ns(), 35);
    }

    #[test]
    fn wait_gives_up() {
        let clock = Manual(AtomicU64::new(0));
        let clock: &dyn Clock = &clock;
        assert_eq!(
            clock.wait_until(10, 100, || false),
            Err(TimedOut { waited_ns: 100 })
        );
    }
}
