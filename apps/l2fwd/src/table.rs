//! The live table: one line a port, drawn over itself on a terminal, appended elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};
use std::time::Duration;

/// A port's link at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Frames pass.
    Up {
        /// Speed in Mbit/s.
        mbps: u32,
    },
    /// None does.
    #[default]
    Down,
    /// There is no device: it was pulled out.
    Gone,
}

/// A port's figures at one moment: sums since the start.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// The device as given.
    pub device: String,
    /// Whether frames can pass.
    pub link: LinkState,
    /// Frames received, and their bytes.
    pub rx: (u64, u64),
    /// Frames transmitted, and their bytes.
    pub tx: (u64, u64),
    /// Drops by cause: full receive ring, bad frame, transmit.
    pub drops: [u64; 3],
    /// Frames waiting in the receive rings, of the first 64 of each queue.
    pub waiting: u64,
    /// Ticks spent in rounds that moved frames received here.
    pub busy_ticks: u64,
}

/// The table, and what it showed last.
pub struct Table {
    terminal: bool,
    drawn: usize,
    last: Vec<Line>,
}

impl Table {
    /// A table on standard error, where it does not mix with results.
    pub fn new() -> Self {
        Self {
            terminal: stderr().is_terminal(),
            drawn: 0,
            last: Vec::new(),
        }
    }

    /// Whether anybody watches.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Draws the figures of the time since the last call, and a line of what else there is to tell.
    pub fn draw(&mut self, lines: Vec<Line>, since_last: Duration, besides: Option<&str>) {
        let mut text = self.render(&lines, since_last);
        if let Some(besides) = besides {
            let _ = writeln!(text, "{besides}");
        }
        let mut out = stderr().lock();
        if self.terminal && self.drawn > 0 {
            // Up to the first line drawn, then clear to the end of the screen.
            let _ = write!(out, "\x1b[{}A\x1b[J", self.drawn);
        }
        // Nobody left to read the table is no reason to stop forwarding.
        let _ = out.write_all(text.as_bytes());
        self.drawn = text.lines().count();
        self.last = lines;
    }

    fn render(&self, lines: &[Line], since_last: Duration) -> String {
        let seconds = since_last.as_secs_f64().max(1e-9);
        let mut text = format!(
            "{:<24} {:>5} {:>13} {:>8} {:>8} {:>8} {:>8} {:>21} {:>5} {:>6}\n",
            "port",
            "link",
            "packets",
            "rx Mpps",
            "tx Mpps",
            "rx Gb/s",
            "tx Gb/s",
            "drops full/bad/tx",
            "queue",
            "ticks"
        );
        let none = Line::default();
        for (index, now) in lines.iter().enumerate() {
            let last = self.last.get(index).unwrap_or(&none);
            let rate = |now: u64, last: u64| now.saturating_sub(last) as f64 / seconds;
            // A frame takes 4 bytes of FCS, 8 of preamble and 12 of gap besides its own.
            let gbps = |now: (u64, u64), last: (u64, u64)| {
                (rate(now.1, last.1) + 24.0 * rate(now.0, last.0)) * 8.0 / 1e9
            };
            let moved = now.rx.0.saturating_sub(last.rx.0).max(1);
            let link = match now.link {
                LinkState::Up { mbps } => format!("{}G", mbps / 1000),
                LinkState::Down => "down".into(),
                LinkState::Gone => "gone".into(),
            };
            let _ = writeln!(
                text,
                "{:<24} {:>5} {:>13} {:>8.3} {:>8.3} {:>8.3} {:>8.3} {:>21} {:>5} {:>6.1}",
                shorten(&now.device, 24),
                link,
                now.rx.0,
                rate(now.rx.0, last.rx.0) / 1e6,
                rate(now.tx.0, last.tx.0) / 1e6,
                gbps(now.rx, last.rx),
                gbps(now.tx, last.tx),
                format!("{}/{}/{}", now.drops[0], now.drops[1], now.drops[2]),
                now.waiting,
                now.busy_ticks.saturating_sub(last.busy_ticks) as f64 / moved as f64,
            );
        }
        text
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

/// The end of a name that is too long: what tells devices apart.
fn shorten(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.into();
    }
    let tail: String = name.chars().skip(length + 1 - width).collect();
    format!("…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_rate_of_64_byte_frames_is_10_gbit() {
        let table = Table {
            terminal: false,
            drawn: 0,
            last: Vec::new(),
        };
        let packets = 14_880_952;
        let line = Line {
            device: "sim".into(),
            link: LinkState::Up { mbps: 10_000 },
            rx: (packets, packets * 60),
            ..Line::default()
        };
        let text = table.render(&[line], Duration::from_secs(1));
        assert!(text.contains("14.881"), "{text}");
        assert!(text.contains("10.000"), "{text}");
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(
            shorten("sim:pcap=/a/long/path/to/in.pcap", 10),
            "…o/in.pcap"
        );
        assert_eq!(shorten("sim", 10), "sim");
    }
}
