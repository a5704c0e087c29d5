//! What came of it: `peers.json` in the one shape of all benchmarks, and a table for people.

use std::fmt::Write;

use serde::Serialize;

use crate::statistics::{Class, Figure};

/// The machine a benchmark ran on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Its processor.
    pub processor: String,
    /// Its cores.
    pub cores: usize,
    /// Ticks of the time stamp counter a second.
    pub ticks_per_second: f64,
}

/// One row of a benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured: `forward/32`.
    pub name: String,
    /// Of `ours` and `peer`: `ticks/packet`.
    pub unit: &'static str,
    /// Our figure.
    pub ours: f64,
    /// The peer's, if there is one.
    pub peer: Option<f64>,
    /// Who the peer is.
    pub peer_name: Option<String>,
    /// `ours / peer`.
    pub ratio: Option<f64>,
    /// Quartiles of the ratio over the rounds.
    pub spread: Option<[f64; 2]>,
    /// Windows it stands on, the smaller number of the two.
    pub windows: usize,
    /// How far apart driver and device were.
    pub class: &'static str,
    /// Whether the driver or the device set the pace.
    pub limited_by: &'static str,
    /// Device turns without work, of one.
    pub device_idle: f64,
    /// Turns without a packet for each packet: ours, the peer's.
    pub empty_polls: [f64; 2],
    /// What the paper reports, if it does.
    pub paper: Option<f64>,
}

/// A whole benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// What it found.
    pub rows: Vec<Row>,
}

/// Below this share of idle turns the device sets the pace.
const DEVICE_BUSY: f64 = 0.05;

impl Row {
    /// A row that compares two drivers.
    pub fn compare(
        name: String,
        class: Class,
        ours: Figure,
        peer: Figure,
        peer_name: String,
        spread: Option<[f64; 2]>,
    ) -> Self {
        // On one core and in a phase the device stands still while the driver is timed.
        let side_by_side = !name.starts_with("phase") && !name.starts_with("stepped");
        let idle = ours.device_idle.min(peer.device_idle);
        Self {
            name,
            unit: "ticks/packet",
            ours: ours.ticks,
            peer: Some(peer.ticks),
            peer_name: Some(peer_name),
            ratio: Some(ours.ticks / peer.ticks),
            spread,
            windows: ours.windows.min(peer.windows),
            class: class.name(),
            limited_by: if side_by_side && idle < DEVICE_BUSY {
                "device"
            } else {
                "driver"
            },
            device_idle: idle,
            empty_polls: [ours.empty, peer.empty],
            paper: None,
        }
    }
}

impl Report {
    /// The table.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<22} {:>8} {:>8} {:>6} {:>13} {:>8} {:>9}  {:<8} peer\n",
            "ticks/packet", "ours", "peer", "ratio", "spread", "windows", "class", "limit"
        );
        let number = |value: Option<f64>, digits| match value {
            Some(value) => format!("{value:.digits$}"),
            None => "-".to_owned(),
        };
        for row in &self.rows {
            let spread = row
                .spread
                .map(|[low, high]| format!("{low:.2} - {high:.2}"));
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<22} {:>8.2} {:>8} {:>6} {:>13} {:>8} {:>9}  {:<8} {}",
                row.name,
                row.ours,
                number(row.peer, 2),
                number(row.ratio, 2),
                spread.as_deref().unwrap_or("-"),
                row.windows,
                row.class,
                row.limited_by,
                row.peer_name.as_deref().unwrap_or("-"),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, device_idle: f64) -> Row {
        let figure = |ticks| Figure {
            ticks,
            windows: 40,
            device_idle,
            empty: 0.0,
        };
        let spread = Some([0.7, 0.9]);
        let peer = "DPDK 22.11 vector".to_owned();
        Row::compare(
            name.to_owned(),
            Class::Near,
            figure(12.0),
            figure(15.0),
            peer,
            spread,
        )
    }

    #[test]
    fn a_busy_device_is_named_as_the_limit() {
        assert_eq!(row("forward/32", 0.01).limited_by, "device");
        assert_eq!(row("forward/32", 0.3).limited_by, "driver");
        assert_eq!(row("phase/forward/32", 0.0).limited_by, "driver");
    }

    #[test]
    fn json_has_the_agreed_names() {
        let json = serde_json::to_value(row("forward/32", 0.3)).unwrap();
        for name in [
            "name",
            "unit",
            "ours",
            "peer",
            "peer_name",
            "ratio",
            "spread",
            "windows",
            "class",
            "limited_by",
            "paper",
        ] {
            assert!(json.get(name).is_some(), "{name}");
        }
        assert_eq!(json["ratio"], 0.8);
    }
}
