//! Software 82599s that a guest plugs in, served by `sumac serve` beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;

use tempfile::TempDir;

use crate::process::Process;
use crate::program::Program;

/// Cards that wait for a guest. A broken rule of the datasheet fails the test: see [`Served::finish`].
pub struct Served {
    /// Taken by [`finish`](Self::finish).
    process: Option<Process>,
    ports: usize,
    folder: TempDir,
}

/// What a card was asked to carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Frames the driver received.
    pub to_driver: u64,
    /// Frames the driver sent.
    pub from_driver: u64,
    /// The card's statistics registers by their names in the datasheet, such as `GPRC`; those that are zero are absent.
    pub counters: BTreeMap<String, u64>,
    /// What of those the driver cleared without having seen it; likewise.
    pub unread: BTreeMap<String, u64>,
}

impl Carried {
    /// A statistics register's total.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// How much of it came between the driver's reading of its low word and of its high one, which clears both.
    pub fn unread(&self, name: &str) -> u64 {
        self.unread.get(name).copied().unwrap_or(0)
    }
}

impl Served {
    /// Serves a card for each of these wires, such as `pcap=in.pcap,out=out.pcap`.
    ///
    /// # Panics
    /// When `sumac` does not build, or does not serve them.
    pub fn cards(wires: &[&str]) -> Self {
        Self::serving(wires, &[])
    }

    /// The same, that QEMU can unplug (`device_del`): without MSI-X.
    ///
    /// # Panics
    /// As [`cards`](Self::cards).
    pub fn pluggable(wires: &[&str]) -> Self {
        Self::serving(wires, &["--without-msix"])
    }

    fn serving(wires: &[&str], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Program::built("sumac").command();
        command.args(["serve", "82599", "--strict", "--quiet"]);
        command.args(options);
        command.args(["--ports", &wires.len().to_string(), "--socket"]);
        command.arg(folder.path().join(SOCKET));
        for wire in wires {
            command.args(["--wire", wire]);
        }
        let process = Process::start(&mut command);
        let mut served = Self {
            process: None,
            ports: wires.len(),
            folder,
        };
        for port in 0..wires.len() {
            let socket = served.socket(port);
            process.wait_for(&format!("serving an 82599 at {}", socket.display()));
        }
        served.process = Some(process);
        served
    }

    /// Where a card listens.
    pub fn socket(&self, port: usize) -> PathBuf {
        let name = match self.ports {
            1 => SOCKET.to_owned(),
            _ => format!("{SOCKET}.{port}"),
        };
        self.folder.path().join(name)
    }

    /// A folder for the test's files, gone with the cards.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Unplugs the cards and returns what each has carried.
    ///
    /// # Panics
    /// When a driver broke a rule of the datasheet, or a wire failed.
    #[track_caller]
    pub fn finish(mut self) -> Vec<Carried> {
        let ports = self.ports;
        let process = self.process.take().expect("taken here only");
        process.terminate();
        let (status, text) = process.finish();
        assert!(status.success(), "sumac serve: {status}\n{text}");
        let lines = (0..ports).map(|port| account(&text, port));
        lines
            .map(|found| found.unwrap_or_else(|| panic!("no account of every port:\n{text}")))
            .collect()
    }
}

impl Drop for Served {
    /// A test that fails shows what the cards say of it.
    fn drop(&mut self) {
        if let Some(process) = self.process.take()
            && thread::panicking()
        {
            process.terminate();
            let (status, text) = process.finish();
            println!("sumac serve: {status}\n{text}");
        }
    }
}

const SOCKET: &str = "card";

/// `port 0: 1 clients; 10 frames to the driver, 20 from it`, `port 0: counters GPRC=10 GPTC=20`, and, if there is any,
/// `port 0: cleared unread GORC=64`.
fn account(text: &str, port: usize) -> Option<Carried> {
    let start = format!("port {port}: ");
    let lines = || text.lines().filter_map(|line| line.strip_prefix(&start));
    let line = lines().find(|line| line.contains(" frames to the driver"))?;
    let (_, frames) = line.split_once("; ")?;
    let mut numbers = frames
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok());
    let unread = lines().find_map(|line| line.strip_prefix("cleared unread"));
    Some(Carried {
        to_driver: numbers.next()?,
        from_driver: numbers.next()?,
        counters: counters(lines().find_map(|line| line.strip_prefix("counters"))?),
        unread: unread.map(counters).unwrap_or_default(),
    })
}

/// The words like `GPRC=10` in a line.
fn counters(line: &str) -> BTreeMap<String, u64> {
    let counter = |word: &str| {
        let (name, count) = word.split_once('=')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    line.split_whitespace().filter_map(counter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_account_of_a_port() {
        let text = "port 0: 1 clients; 10 frames to the driver, 20 from it\nport 0: none\nport 0: counters GPRC=10\n\
            port 0: cleared unread GORC=64\n";
        let carried = Carried {
            to_driver: 10,
            from_driver: 20,
            counters: BTreeMap::from([("GPRC".to_owned(), 10)]),
            unread: BTreeMap::from([("GORC".to_owned(), 64)]),
        };
        assert_eq!(account(text, 0), Some(carried));
        assert_eq!(account(text, 1), None);
    }
}
