//! Time: Linux's monotonic clock for waits, the processor's tick counter for measuring.
//!
//! The tick counter's rate is taken from the processor where it says so (CPUID leaf 15h), else it
//! is measured against the clock over all the time since the counter was made: a short
//! calibration on a busy machine is wrong by percents.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sumac_device::Clock;
use sumac_devices::ixgbe::in_process::sleep;

/// CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxClock;

impl Clock for LinuxClock {
    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn sleep_ns(&self, ns: u64) {
        sleep(ns);
    }
}

/// How durations are written.
pub const DURATION_UNITS: &str = "write a number and a unit: 500ms, 5s, 2m or 1h";

/// A duration as people write it: `500ms`, `5s`, `2m`, `1h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(time) => time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64,
        // Linux always has this clock; without one, time would stand still.
        Err(_) => 0,
    }
}

/// The processor's tick counter: the time stamp counter on x86-64, nanoseconds elsewhere. Not
/// ordered against other instructions: for intervals of many instructions.
#[inline(always)]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has RDTSC, and Linux lets user programs execute it unless
        // a process forbids it to itself (PR_SET_TSC), which nothing here does.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        monotonic_ns()
    }
}

/// Lets every instruction before this end before any after it begins.
#[inline(always)]
pub fn serialise() {
    // SAFETY: LFENCE is in every x86-64 processor and changes no state.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::x86_64::_mm_lfence();
    }
}

/// How fast [`ticks`] counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TickRate {
    /// Ticks a second.
    pub hz: f64,
    /// Nanoseconds over which it was measured; `None` if the processor says so itself.
    pub measured_over_ns: Option<u64>,
}

impl TickRate {
    /// An interval in nanoseconds.
    pub fn to_ns(self, ticks: u64) -> f64 {
        ticks as f64 * 1e9 / self.hz
    }
}

/// Ticks counted since a moment, and their rate. Make it at the start of a run and ask at its end.
#[derive(Clone, Copy, Debug)]
pub struct TickCounter {
    start: Moment,
    stated_hz: Option<f64>,
}

impl TickCounter {
    /// Begins to count.
    pub fn start() -> Self {
        Self {
            start: Moment::now(),
            stated_hz: cpuid_hz(),
        }
    }

    /// Ticks since the start.
    pub fn elapsed_ticks(&self) -> u64 {
        ticks().wrapping_sub(self.start.ticks)
    }

    /// Nanoseconds since the start.
    pub fn elapsed_ns(&self) -> u64 {
        monotonic_ns().saturating_sub(self.start.ns)
    }

    /// The rate, as the processor states it or as measured since the start; the longer that is,
    /// the better (a millisecond: 1e-3, a second: 1e-6 or better). `None` in the first moment.
    pub fn rate(&self) -> Option<TickRate> {
        if let Some(hz) = self.stated_hz {
            let measured_over_ns = None;
            return Some(TickRate {
                hz,
                measured_over_ns,
            });
        }
        self.start.rate_until(Moment::now())
    }
}

/// Both clocks, read at (nearly) the same time.
#[derive(Clone, Copy, Debug)]
struct Moment {
    ns: u64,
    ticks: u64,
}

impl Moment {
    /// Reads the clock between two readings of the counter, some times over, and keeps the reading
    /// that took least: an interruption in between does no harm unless it hits every time.
    fn now() -> Self {
        let read = || {
            let before = ticks();
            let ns = monotonic_ns();
            let took = ticks().wrapping_sub(before);
            let ticks = before.wrapping_add(took / 2);
            (took, Self { ns, ticks })
        };
        let mut best = read();
        for _ in 0..7 {
            let next = read();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    fn rate_until(self, end: Self) -> Option<TickRate> {
        let ns = end.ns.checked_sub(self.ns).filter(|ns| *ns > 0)?;
        let ticks = end
            .ticks
            .checked_sub(self.ticks)
            .filter(|ticks| *ticks > 0)?;
        Some(TickRate {
            hz: ticks as f64 * 1e9 / ns as f64,
            measured_over_ns: Some(ns),
        })
    }
}

/// The time stamp counter's rate by CPUID leaf 15h: crystal frequency times ratio. Processors that
/// leave out the crystal (leaf 16h then has a rounded figure) and those without the leaf are
/// measured.
fn cpuid_hz() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        const TSC_LEAF: u32 = 0x15;
        let (highest, _) = core::arch::x86_64::__get_cpuid_max(0);
        if highest < TSC_LEAF {
            return None;
        }
        let leaf = core::arch::x86_64::__cpuid(TSC_LEAF);
        ratio_hz(leaf.eax, leaf.ebx, leaf.ecx)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Some(1e9)
    }
}

/// `crystal_hz * numerator / denominator`, where all three are given.
fn ratio_hz(denominator: u32, numerator: u32, crystal_hz: u32) -> Option<f64> {
    let given = denominator != 0 && numerator != 0 && crystal_hz != 0;
    given.then(|| f64::from(crystal_hz) * f64::from(numerator) / f64::from(denominator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back_and_sleeps_enough() {
        let clock = LinuxClock;
        for ns in [0, 1, 5_000, 50_000, 2_000_000] {
            let before = clock.now_ns();
            clock.sleep_ns(ns);
            assert!(clock.now_ns() - before >= ns);
        }
    }

    #[test]
    fn waits_end() {
        let clock: &dyn Clock = &LinuxClock;
        assert!(clock.wait_until(1_000, 100_000, || false).is_err());
        assert_eq!(clock.wait_until(1_000, u64::MAX, || true), Ok(()));
    }

    #[test]
    fn rates() {
        let start = Moment {
            ns: 1_000,
            ticks: 500,
        };
        let end = Moment {
            ns: 1_001_000,
            ticks: 2_600_500,
        };
        let rate = start.rate_until(end).unwrap();
        assert_eq!(rate.hz, 2.6e9);
        assert_eq!(rate.measured_over_ns, Some(1_000_000));
        assert_eq!(rate.to_ns(2_600), 1_000.0);
        assert_eq!(start.rate_until(start), None);
        assert_eq!(end.rate_until(start), None);
        assert_eq!(ratio_hz(2, 216, 24_000_000), Some(2.592e9));
        assert_eq!(ratio_hz(2, 216, 0), None);
        assert_eq!(ratio_hz(0, 216, 24_000_000), None);
    }

    #[test]
    fn the_counter_counts() {
        let counter = TickCounter::start();
        LinuxClock.sleep_ns(3_000_000);
        assert!(counter.elapsed_ns() >= 3_000_000);
        assert!(counter.elapsed_ticks() > 0);
        let rate = counter.rate().unwrap();
        assert!(rate.hz > 1e6, "{rate:?}");
        assert!(rate.measured_over_ns.is_none_or(|ns| ns >= 3_000_000));
    }
}
