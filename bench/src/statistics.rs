//! Which windows count, and what they say together. All rules are fixed before anything is measured.
//!
//! 1. A window is dropped when the peer was preempted, when a chunk of it took over 200 us, when the
//!    device's heartbeat was older than that, or when it moved no packet.
//! 2. A window is *near* when the round trip between the two cores took under 200 ns, else *far*
//!    (the host moves virtual processors about). Near and far are never compared.
//! 3. Of one peer's windows of a class, those up to 1.25 times the 10th percentile count: the lower
//!    mode. What is above was measured beside a busy neighbour.
//! 4. A peer's figure is the median of what is left. The ratio's spread is that of the rounds, in each
//!    of which both peers ran one right after the other.

use crate::control::Window;

/// How far apart driver and device were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Cores that share a cache.
    Near,
    /// Cores that do not.
    Far,
    /// One core for both.
    Same,
}

impl Class {
    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
            Self::Same => "same core",
        }
    }
}

/// The limits of the rules, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Round trips below are near.
    pub near: u64,
    /// Chunks and heartbeats above drop a window.
    pub gap: u64,
}

impl Rules {
    /// The rules at this many ticks a second.
    pub fn at(ticks_per_second: f64) -> Self {
        Self {
            near: (200e-9 * ticks_per_second) as u64,
            gap: (200e-6 * ticks_per_second) as u64,
        }
    }

    /// The class of a window, or `None` if it is dropped.
    pub fn class(&self, window: &Window) -> Option<Class> {
        let disturbed = window.switches > 0 || window.stale > self.gap;
        if disturbed || window.packets == 0 || window.longest > self.gap {
            return None;
        }
        Some(match window.round_trip {
            0 => Class::Same,
            trip if trip < self.near => Class::Near,
            _ => Class::Far,
        })
    }
}

/// One peer's windows of one row, by round.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    rounds: Vec<Vec<Window>>,
}

/// What one peer's windows of a class say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Median ticks a packet.
    pub ticks: f64,
    /// Windows it stands on.
    pub windows: usize,
    /// Median of the device's idle turns, of one.
    pub device_idle: f64,
    /// Turns of the peer's loop without a packet, for each packet.
    pub empty: f64,
}

impl Sample {
    /// Adds a round.
    pub fn add(&mut self, windows: Vec<Window>) {
        self.rounds.push(windows);
    }

    /// How many windows were taken, dropped ones included.
    pub fn taken(&self) -> usize {
        self.rounds.iter().map(Vec::len).sum()
    }

    /// What the windows of `class` say.
    pub fn figure(&self, rules: &Rules, class: Class) -> Option<Figure> {
        figure(self.rounds.iter().flatten(), rules, class)
    }

    fn round(&self, index: usize, rules: &Rules, class: Class) -> Option<f64> {
        Some(figure(self.rounds.get(index)?.iter(), rules, class)?.ticks)
    }
}

fn figure<'a>(
    windows: impl Iterator<Item = &'a Window>,
    rules: &Rules,
    class: Class,
) -> Option<Figure> {
    let mut windows: Vec<_> = windows
        .filter(|window| rules.class(window) == Some(class))
        .map(|window| (window.ticks as f64 / window.packets as f64, window))
        .collect();
    windows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let limit = windows.get(windows.len() / 10)?.0 * 1.25;
    windows.retain(|(ticks, _)| *ticks <= limit);
    let costs: Vec<_> = windows.iter().map(|(ticks, _)| *ticks).collect();
    let idle = windows.iter().map(|(_, w)| w.device_idle as f64 / 1000.0);
    let mut idle: Vec<_> = idle.collect();
    idle.sort_by(f64::total_cmp);
    let sum = |of: fn(&Window) -> u64| windows.iter().map(|(_, w)| of(w) as f64).sum::<f64>();
    Some(Figure {
        ticks: quantile(&costs, 0.5)?,
        windows: costs.len(),
        device_idle: quantile(&idle, 0.5)?,
        empty: sum(|w| w.empty) / sum(|w| w.packets),
    })
}

/// The lower and upper quartile of the rounds' ratios of `ours` to `peer`.
pub fn spread(ours: &Sample, peer: &Sample, rules: &Rules, class: Class) -> Option<[f64; 2]> {
    let rounds = 0..ours.rounds.len().min(peer.rounds.len());
    let mut ratios: Vec<_> = rounds
        .filter_map(|round| {
            Some(ours.round(round, rules, class)? / peer.round(round, rules, class)?)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    Some([quantile(&ratios, 0.25)?, quantile(&ratios, 0.75)?])
}

/// The value below which share `q` of sorted values lies.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * q).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        near: 500,
        gap: 500_000,
    };

    fn window(ticks: u64, round_trip: u64) -> Window {
        Window {
            ticks,
            packets: 100,
            round_trip,
            ..Window::default()
        }
    }

    #[test]
    fn disturbed_windows_are_dropped() {
        let good = window(1000, 250);
        assert_eq!(RULES.class(&good), Some(Class::Near));
        assert_eq!(RULES.class(&window(1000, 900)), Some(Class::Far));
        assert_eq!(RULES.class(&window(1000, 0)), Some(Class::Same));
        for bad in [
            Window {
                switches: 1,
                ..good
            },
            Window {
                stale: 600_000,
                ..good
            },
            Window {
                longest: 600_000,
                ..good
            },
            Window { packets: 0, ..good },
        ] {
            assert_eq!(RULES.class(&bad), None);
        }
    }

    #[test]
    fn classes_do_not_mix_and_the_lower_mode_counts() {
        let mut sample = Sample::default();
        sample.add((0..20).map(|i| window(1000 + i, 250)).collect());
        sample.add((0..10).map(|_| window(1600, 250)).collect());
        sample.add((0..20).map(|_| window(4000, 900)).collect());
        let near = sample.figure(&RULES, Class::Near).unwrap();
        assert_eq!(near.windows, 20);
        assert!((10.0..10.2).contains(&near.ticks));
        assert_eq!(sample.figure(&RULES, Class::Far).unwrap().ticks, 40.0);
        assert_eq!(sample.figure(&RULES, Class::Same), None);
        assert_eq!(sample.taken(), 50);
    }

    #[test]
    fn the_spread_is_that_of_the_rounds() {
        let (mut ours, mut peer) = (Sample::default(), Sample::default());
        for ticks in [700, 800, 900] {
            ours.add(vec![window(ticks, 250)]);
            peer.add(vec![window(1000, 250)]);
        }
        // A round in which one of them was far says nothing.
        ours.add(vec![window(100, 250)]);
        peer.add(vec![window(1000, 900)]);
        let spread = spread(&ours, &peer, &RULES, Class::Near).unwrap();
        assert!(spread[0] >= 0.7 && spread[1] <= 0.9);
    }
}
