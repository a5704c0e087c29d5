//! What is measured: the rows of the table, in the order they take turns.

use crate::control::{Kind, Mode};

/// Every mode, by name.
pub const MODES: [(&str, Mode); 4] = [
    ("receive", Mode::Receive),
    ("transmit", Mode::Transmit),
    ("forward", Mode::Forward),
    ("macswap", Mode::Macswap),
];

/// Every way of timing, by name.
pub const KINDS: [(&str, Kind); 3] = [
    ("stream", Kind::Stream),
    ("phase", Kind::Phase),
    ("stepped", Kind::Stepped),
];

/// Every batch size that is measured.
pub const BATCHES: [u32; 6] = [1, 4, 8, 16, 32, 64];

/// DPDK's vector receive returns nothing for bursts below this.
pub const VECTOR_BATCH: u32 = 4;

/// One row: what a turn does, how it is timed, packets a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// What a turn does.
    pub mode: Mode,
    /// How it is timed.
    pub kind: Kind,
    /// Packets a turn.
    pub batch: u32,
}

impl Row {
    /// `forward/32`, `phase/forward/32`, `stepped/forward/32`.
    pub fn name(&self) -> String {
        let mode = MODES.iter().find(|(_, mode)| *mode == self.mode);
        let mode = mode.map_or("", |(name, _)| name);
        let kind = match self.kind {
            Kind::Phase => "phase/",
            Kind::Stepped => "stepped/",
            Kind::Stream | Kind::Quit => "",
        };
        format!("{kind}{mode}/{}", self.batch)
    }
}

/// The rows of these ways of timing, modes and batches.
pub fn rows(kinds: &[Kind], modes: &[Mode], batches: &[u32]) -> Vec<Row> {
    let of_kind = |kind| {
        modes
            .iter()
            .flat_map(move |&mode| batches.iter().map(move |&batch| Row { mode, kind, batch }))
    };
    kinds.iter().copied().flat_map(of_kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let names: Vec<_> = rows(&KINDS.map(|(_, kind)| kind), &[Mode::Forward], &[1, 32])
            .iter()
            .map(Row::name)
            .collect();
        let expected = [
            "forward/1",
            "forward/32",
            "phase/forward/1",
            "phase/forward/32",
            "stepped/forward/1",
            "stepped/forward/32",
        ];
        assert_eq!(names, expected);
    }
}
