//! When generated frames are due: exact over any time, in integers.
//!
//! A frame takes `period / denominator` nanoseconds on the wire. The whole part is added to the
//! time of the next frame after each, the remainder is carried, so that after n frames the schedule
//! is off by less than a nanosecond, whatever n. After a stall everything that a real wire would
//! have carried by now is due at once, and nothing more.

use std::str::FromStr;

use super::WireError;

/// How fast a generator sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rate {
    /// As 10 Gbit/s Ethernet carries: 14.88 million 64-byte frames a second.
    #[default]
    Line,
    /// As fast as the device takes frames.
    Max,
    /// Frames in 1,000 seconds.
    MilliFps(u64),
}

/// Bytes a frame takes on the wire besides itself: preamble, start delimiter and the gap between
/// frames.
const WIRE_OVERHEAD: u64 = 20;
/// Nanoseconds in 1,000 seconds.
const KILOSECOND: u64 = 1_000_000_000_000;

impl FromStr for Rate {
    type Err = WireError;

    /// `line`, `max`, or frames a second: `5000`, `250k`, `14.88M`, with or without `pps` at the
    /// end.
    fn from_str(text: &str) -> Result<Self, WireError> {
        match text {
            "line" => return Ok(Self::Line),
            "max" => return Ok(Self::Max),
            _ => {}
        }
        let number = text.strip_suffix("pps").unwrap_or(text);
        let (number, unit) = match number.strip_suffix(['k', 'K']) {
            Some(number) => (number, 1e3),
            None => number
                .strip_suffix('M')
                .map_or((number, 1.0), |number| (number, 1e6)),
        };
        let fps = number
            .trim_end()
            .parse()
            .ok()
            .map(|number: f64| number * unit);
        match fps {
            Some(fps) if (0.001..=1e9).contains(&fps) => {
                Ok(Self::MilliFps((fps * 1000.0).round() as u64))
            }
            _ => Err(WireError::Value {
                key: "rate",
                value: text.to_owned(),
                expected: "takes line, max or frames a second up to 1000M, as in 250k or 14.88M",
            }),
        }
    }
}

/// The schedule of a generator.
#[derive(Debug)]
pub(super) struct Pace {
    /// Whole nanoseconds from one frame to the next.
    period_ns: u64,
    /// What is left over of them, in nanoseconds / `denominator`.
    remainder: u64,
    denominator: u64,
    /// When the next frame is due.
    next_ns: u64,
    /// Left over so far, less than `denominator`.
    carried: u64,
    running: bool,
}

impl Pace {
    /// For frames of `size` bytes, frame check sequence included.
    pub(super) fn new(rate: Rate, size: usize) -> Self {
        let (numerator, denominator) = match rate {
            // Bits at 10 bits a nanosecond.
            Rate::Line => ((size as u64 + WIRE_OVERHEAD) * 8, 10),
            Rate::Max => (0, 1),
            Rate::MilliFps(rate) => (KILOSECOND, rate.max(1)),
        };
        Self {
            period_ns: numerator / denominator,
            remainder: numerator % denominator,
            denominator,
            next_ns: 0,
            carried: 0,
            running: false,
        }
    }

    /// Whether the next frame is due. The first one is due a frame's time after the first call.
    #[inline]
    pub(super) fn due(&mut self, now_ns: u64) -> bool {
        if now_ns < self.next_ns {
            return false;
        }
        if !self.running {
            self.running = true;
            self.next_ns = now_ns;
            self.carried = 0;
            self.advance();
            return now_ns >= self.next_ns;
        }
        true
    }

    /// How many frames are due, at most `limit`.
    #[inline]
    pub(super) fn due_many(&mut self, now_ns: u64, limit: usize) -> usize {
        if limit == 0 || !self.due(now_ns) {
            return 0;
        }
        if self.period_ns | self.remainder == 0 {
            return limit;
        }
        let (mut next_ns, mut carried) = (self.next_ns, self.carried);
        let mut frames = 0;
        while frames < limit && next_ns <= now_ns {
            (next_ns, carried) = self.after(next_ns, carried);
            frames += 1;
        }
        frames
    }

    /// The next `frames` frames are on their way.
    #[inline]
    pub(super) fn advance_many(&mut self, frames: usize) {
        if self.period_ns | self.remainder != 0 {
            (0..frames).for_each(|_| self.advance());
        }
    }

    /// The next frame is on its way.
    #[inline]
    pub(super) fn advance(&mut self) {
        (self.next_ns, self.carried) = self.after(self.next_ns, self.carried);
    }

    /// When the frame is due that follows one due at `next_ns`, with `carried` left over.
    #[inline(always)]
    fn after(&self, next_ns: u64, carried: u64) -> (u64, u64) {
        let carried = carried + self.remainder;
        let whole = carried >= self.denominator;
        (
            next_ns + self.period_ns + u64::from(whole),
            if whole {
                carried - self.denominator
            } else {
                carried
            },
        )
    }

    /// Without a link nothing is sent and nothing is owed.
    pub(super) fn stop(&mut self) {
        self.running = false;
        self.next_ns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_until(pace: &mut Pace, now_ns: u64) -> u64 {
        let mut frames = 0;
        while pace.due(now_ns) {
            pace.advance();
            frames += 1;
        }
        frames
    }

    #[test]
    fn line_rate_is_exact_over_a_second() {
        for (size, frames) in [(64, 14_880_952), (1518, 812_743), (9728, 128_231)] {
            let mut pace = Pace::new(Rate::Line, size);
            assert_eq!(due_until(&mut pace, 500), 0);
            // In uneven steps, with a stall of a quarter second.
            let mut sum = 0;
            let stalled = 300_000_000..550_000_000;
            for now in (0..1_000_000_000)
                .step_by(777_777)
                .filter(|now| !stalled.contains(now))
            {
                sum += due_until(&mut pace, 500 + now);
            }
            sum += due_until(&mut pace, 1_000_000_500);
            assert_eq!(sum, frames, "{size}");
        }
    }

    #[test]
    fn the_schedule_does_not_drift() {
        let mut pace = Pace::new(Rate::Line, 9728);
        due_until(&mut pace, 0);
        assert_eq!(
            due_until(&mut pace, 100_000_000_000),
            125_000_000_000 / 9748
        );
    }

    #[test]
    fn any_rate_is_exact() {
        for (rate, frames) in [
            ("3", 3),
            ("1.5", 1),
            ("333k", 333_000),
            ("14.88Mpps", 14_880_000),
        ] {
            let mut pace = Pace::new(rate.parse().unwrap(), 64);
            due_until(&mut pace, 0);
            assert_eq!(due_until(&mut pace, 1_000_000_000), frames, "{rate}");
        }
        assert_eq!("line".parse::<Rate>().unwrap(), Rate::Line);
        for wrong in ["", "fast", "-1", "0", "2000M", "1e99", "NaN", "inf", "5 G"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn many_at_once_are_as_many_as_one_by_one() {
        for rate in [
            Rate::Line,
            Rate::Max,
            Rate::MilliFps(14_880_952_381),
            Rate::MilliFps(777),
        ] {
            let (mut single, mut burst) = (Pace::new(rate, 73), Pace::new(rate, 73));
            let mut now = 1;
            for step in 0..2000_u64 {
                now += step.wrapping_mul(step) % 4096;
                let mut frames = 0;
                while frames < 32 && single.due(now) {
                    single.advance();
                    frames += 1;
                }
                let due = burst.due_many(now, 32);
                burst.advance_many(due);
                assert_eq!(due, frames, "{rate:?} at {now}");
            }
        }
    }

    #[test]
    fn a_pulled_cable_owes_nothing() {
        let mut pace = Pace::new(Rate::Line, 64);
        assert!(!pace.due(1000));
        pace.stop();
        assert_eq!(due_until(&mut pace, 1_000_000), 0);
        assert_eq!(due_until(&mut pace, 1_000_068), 1);
        assert!(Pace::new(Rate::Max, 64).due(0));
    }
}
