//! Time for bounded waits: no wait on hardware is without an end.

/// A wait on hardware ran out of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    /// How long was waited, in nanoseconds, as [`Patience`] counts.
    pub waited_ns: u64,
}

/// A limit to how long something may take, told from a standstill of whoever waits: between two looks no more than a
/// tenth of it goes by, however long that was.
///
/// A virtual machine that was paused, or a process that a debugger stopped, finds by the clock that its time is over;
/// what it waits for often stood still with it, and now has nine tenths of the limit to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    limit_ns: u64,
    waited_ns: u64,
    looked_ns: u64,
}

impl Patience {
    /// Looks that it takes at least to find that the time is over.
    const LOOKS: u64 = 10;

    /// Waits from `now_ns` on.
    pub fn new(limit_ns: u64, now_ns: u64) -> Self {
        Self {
            limit_ns,
            waited_ns: 0,
            looked_ns: now_ns,
        }
    }

    /// Counts the time since the last look. `None` if it is over by now, else what of it goes by at most until the
    /// next.
    pub fn look(&mut self, now_ns: u64) -> Option<u64> {
        let most = (self.limit_ns / Self::LOOKS).max(1);
        let passed = now_ns.saturating_sub(self.looked_ns).min(most);
        self.waited_ns = self.waited_ns.saturating_add(passed);
        self.looked_ns = now_ns;
        match self.limit_ns.saturating_sub(self.waited_ns) {
            0 => None,
            left => Some(left.min(most)),
        }
    }

    /// Leaves the time since the last look uncounted.
    pub fn pass_over(&mut self, now_ns: u64) {
        self.looked_ns = now_ns;
    }
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
    /// [`Patience`] counts the time, and `done` is asked once more after it ran out, so that a host that was
    /// descheduled or paused in between does not report a timeout that never happened.
    ///
    /// # Errors
    /// [`TimedOut`] when `done` did not hold in time.
    pub fn wait_until(
        &self,
        interval_ns: u64,
        timeout_ns: u64,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), TimedOut> {
        let mut patience = Patience::new(timeout_ns, self.now_ns());
        loop {
            if done() {
                return Ok(());
            }
            if patience.look(self.now_ns()).is_none() {
                let waited_ns = patience.waited_ns;
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

    #[test]
    fn a_wait_survives_a_standstill_of_who_waits() {
        let manual = Manual(AtomicU64::new(0));
        let clock: &dyn Clock = &manual;
        let mut polls = 0;
        // What is waited for needs five polls, and stands still for as long as the host does.
        let result = clock.wait_until(10, 100, || {
            polls += 1;
            if polls == 2 {
                manual.sleep_ns(1_000_000);
            }
            polls == 5
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn a_standstill_counts_as_one_look() {
        let mut patience = Patience::new(1_000, 7);
        assert_eq!(patience.look(7), Some(100));
        assert_eq!(patience.look(57), Some(100));
        assert_eq!(patience.look(1_000_000), Some(100));
        for look in 1..=8 {
            let left = patience.look(1_000_000 + look * 100);
            assert_eq!(left, Some(if look == 8 { 50 } else { 100 }));
        }
        patience.pass_over(2_000_000);
        assert_eq!(patience.look(2_000_049), Some(1));
        assert_eq!(patience.look(2_000_050), None);
        assert_eq!(patience.look(2_000_050), None);
    }

    #[test]
    fn limits_too_short_to_be_divided_end_too() {
        assert_eq!(Patience::new(0, 5).look(5), None);
        let mut patience = Patience::new(3, 0);
        let looks = (1..).take_while(|now| patience.look(*now).is_some());
        assert_eq!(looks.count(), 2);
    }
}
