//! What came of it: `peers.json` in the one shape of all benchmarks, and a table for people.

use std::collections::BTreeMap;
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
    /// Device turns without work, of one; where driver and device ran side by side.
    #[serde(skip)]
    pub device_idle: Option<f64>,
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
    /// What drivers did that a polled BAR cannot judge: peer, rule, how often.
    #[serde(skip)]
    pub tolerated: Vec<(String, String, u64)>,
}

/// Below this share of idle turns the device sets the pace.
const DEVICE_BUSY: f64 = 0.05;

/// Under the table.
const EXPLANATION: &str = "\
Less is better; a ratio below 1 is in our favour. forward/32 (streaming): driver and device run freely on two cores.
phase/...: the device fills the rings and stands still, the driver alone is timed. stepped/...: both on one core by
turns, only the driver's calls are timed. device/...: the device alone; no driver is compared there.
near: a cache line goes to the other core and back within 200 ns, far: it takes longer; never compared with each other.
idle: share of the device's turns without work; where it is next to none, the device may have set the pace.
";

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
            device_idle: side_by_side.then_some(idle),
            paper: None,
        }
    }

    /// A row of the device alone; `prototype` says what an earlier device took.
    pub fn device(name: &str, figure: Figure, prototype: &str) -> Self {
        Self {
            name: name.to_owned(),
            unit: "ticks/packet",
            ours: figure.ticks,
            peer: None,
            peer_name: Some(prototype.to_owned()),
            ratio: None,
            spread: None,
            windows: figure.windows,
            class: Class::Same.name(),
            limited_by: "device",
            device_idle: None,
            paper: None,
        }
    }
}

/// A column of a table: its title, and what it says of a row.
pub type Column = (&'static str, fn(&Row) -> String);

/// A figure of a table, with two digits; a dash where there is none.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

/// The quartiles of a row's ratio.
pub fn spread(row: &Row) -> String {
    let quartiles = row
        .spread
        .map(|[low, high]| format!("{low:.2} - {high:.2}"));
    quartiles.unwrap_or_else(|| "-".to_owned())
}

/// Who a row's peer is.
pub fn peer_name(row: &Row) -> String {
    row.peer_name.clone().unwrap_or_else(|| "-".to_owned())
}

/// A table for people: rows' names under `title`, then the columns, each as wide as it has to be.
pub fn lines(title: &str, rows: &[Row], columns: &[Column]) -> String {
    let name = |text: &str, width| format!("{text:<width$}");
    let names = rows.iter().map(|row| row.name.len());
    let width = names.chain([title.len()]).max().unwrap_or(0);
    let mut table = vec![name(title, width)];
    table.extend(rows.iter().map(|row| name(&row.name, width)));
    for (column, (heading, of)) in columns.iter().enumerate() {
        let cells: Vec<String> = std::iter::once((*heading).to_owned())
            .chain(rows.iter().map(of))
            .collect();
        let width = cells.iter().map(String::len).max().unwrap_or(0);
        let last = column + 1 == columns.len();
        for (line, cell) in table.iter_mut().zip(cells) {
            // Writing to a string cannot fail.
            let _ = match last {
                true => write!(line, "  {cell}"),
                false => write!(line, "  {cell:>width$}"),
            };
        }
    }
    table.join("\n") + "\n"
}

impl Report {
    /// Adds what was counted and not judged.
    pub fn tolerate(&mut self, tolerated: &BTreeMap<(&'static str, &'static str), u64>) {
        for (&(peer, rule), &count) in tolerated {
            let mut known = self.tolerated.iter_mut();
            match known.find(|(p, r, _)| p == peer && r == rule) {
                Some((_, _, sum)) => *sum += count,
                None => self
                    .tolerated
                    .push((peer.to_owned(), rule.to_owned(), count)),
            }
        }
    }

    /// The table, and what to make of it.
    pub fn table(&self) -> String {
        let mut text = lines(
            "ticks/packet",
            &self.rows,
            &[
                ("ours", |row| number(Some(row.ours))),
                ("peer", |row| number(row.peer)),
                ("ratio", |row| number(row.ratio)),
                ("spread", spread),
                ("windows", |row| row.windows.to_string()),
                ("class", |row| row.class.to_owned()),
                ("idle", |row| number(row.device_idle)),
                ("limit", |row| row.limited_by.to_owned()),
                ("peer is", peer_name),
            ],
        );
        text.push_str(EXPLANATION);
        let device = |row: &&Row| row.device_idle.is_some() && row.limited_by == "device";
        let limited: Vec<_> = self.rows.iter().filter(device).collect();
        if limited.is_empty() {
            text.push_str("No streaming row is limited by the device.\n");
        } else {
            let names: Vec<_> = limited.iter().map(|row| row.name.as_str()).collect();
            let _ = writeln!(
                text,
                "Limited by the device, so that they say little about drivers: {}.",
                names.join(", ")
            );
        }
        for (peer, rule, count) in &self.tolerated {
            let _ = writeln!(
                text,
                "Tolerated: {peer}, {rule} {count} times; a device that only polls its BAR cannot judge it."
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
    fn columns_are_as_wide_as_they_have_to_be() {
        let rows = [row("a", 0.3), row("forward/32", 0.3)];
        let text = lines(
            "row",
            &rows,
            &[("ours", |row| number(Some(row.ours))), ("peer", peer_name)],
        );
        let expected = "row          ours  peer\n\
                        a           12.00  DPDK 22.11 vector\n\
                        forward/32  12.00  DPDK 22.11 vector\n";
        assert_eq!(text, expected);
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
