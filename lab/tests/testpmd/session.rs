//! A guest in which testpmd runs, told what to do line by line.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use sumac_lab::{Carried, Guest, Image, Lab, Machine, Served};

use crate::frames::{read_pcap, write_pcap};

const PLUGINS: &str = "usr/lib/x86_64-linux-gnu/dpdk/pmds-25.0";
/// Far longer than a few thousand frames take: a bound on hanging, not on speed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);
const PROMPT: &str = "testpmd> ";

/// testpmd with two ports, and the captures on their wires.
pub struct Session {
    guest: Guest,
    cards: Served,
    files: tempfile::TempDir,
    /// How much of the console belongs to earlier commands.
    read: usize,
}

/// What a session left behind.
pub struct Outcome {
    pub carried: Vec<Carried>,
    /// What went out of each port.
    pub sent: [Vec<Vec<u8>>; 2],
}

impl Session {
    /// Boots a guest whose ports will receive these frames, and starts testpmd with these options.
    pub fn start(lab: &Lab, input: [&[Vec<u8>]; 2], options: &str) -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        let path = |name: String| files.path().join(name);
        let wires = [0, 1].map(|port| {
            let (from, to) = (path(format!("in{port}")), path(format!("out{port}")));
            write_pcap(&from, input[port]);
            format!("pcap={},out={}", from.display(), to.display())
        });
        let cards = Served::cards(&[&wires[0], &wires[1]]);
        let mut machine = Machine::new();
        machine.iommu(48).cores(2).memory_mib(1024);
        let first = machine.vfio_user(&cards.socket(0)).address;
        let second = machine.vfio_user(&cards.socket(1)).address;
        let mut image = Image::new(lab);
        image.modules(&["vfio-pci", "vfio_iommu_type1"]);
        image.tools(&["dpdk-testpmd"]);
        image.plugin(&format!("{PLUGINS}/librte_mempool_ring.so.25.0"));
        // testpmd drops what finds no room to be sent: there is room for all.
        image.script(&format!(
            "set -e
            bind-vfio {first} {second}
            echo 160 > /proc/sys/vm/nr_hugepages
            dpdk-testpmd -l 0-1 -a {first} -a {second} -m 256 --no-telemetry -- \
              --interactive --no-flush-rx --total-num-mbufs=16384 --txd=4096 {options}
            ! dmesg | grep 'DMAR:.*fault'"
        ));
        let mut guest = machine.boot(lab, &image);
        guest.wait_for(PROMPT);
        let said = guest.text();
        assert!(!said.contains("No probed ethernet devices"), "{said}");
        let read = said.len();
        Self {
            guest,
            cards,
            files,
            read,
        }
    }

    /// Gives a command and returns what testpmd says to it.
    pub fn command(&mut self, command: &str) -> String {
        self.guest.send(command);
        self.guest.wait_for(PROMPT);
        let text = self.guest.text();
        let said = text[self.read..].to_owned();
        self.read = text.len();
        said
    }

    /// Asks until a port has counted so many, as in `RX-packets:`.
    #[track_caller]
    pub fn wait_for(&mut self, port: usize, counter: &str, at_least: u64) {
        self.ask(&format!("show port stats {port}"), |said| {
            count(said, counter) >= at_least
        });
    }

    /// Asks until testpmd has handled so many frames, which is after the port has counted them.
    #[track_caller]
    pub fn wait_for_handled(&mut self, frames: u64) {
        self.ask("show fwd stats all", |said| {
            // Sums since `start`, which leave out what was there before, come after those of the queues.
            let (queues, _) = said
                .split_once("Forward statistics for port")
                .unwrap_or((said, ""));
            let counts = queues.split("RX-packets:").skip(1);
            let digits = counts.filter_map(|after| after.split_whitespace().next());
            digits
                .filter_map(|word| word.parse::<u64>().ok())
                .sum::<u64>()
                >= frames
        });
    }

    /// Asks until a counter has reached so many; returns what was said then.
    #[track_caller]
    pub fn counted(&mut self, command: &str, counter: &str, at_least: u64) -> String {
        self.ask(command, |said| count(said, counter) >= at_least)
    }

    /// Asks until the answer is one to go on with.
    #[track_caller]
    fn ask(&mut self, command: &str, mut enough: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.command(command);
            if enough(&said) {
                return said;
            }
            assert!(Instant::now() < deadline, "{command}: {said}");
            thread::sleep(PAUSE);
        }
    }

    /// Ends testpmd and unplugs the cards.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        self.guest.send("quit");
        self.guest.finish().assert_code(0);
        let carried = self.cards.finish();
        let out = |port| -> PathBuf { self.files.path().join(format!("out{port}")) };
        Outcome {
            carried,
            sent: [read_pcap(&out(0)), read_pcap(&out(1))],
        }
    }
}

/// The number after a counter's name, wherever that is.
pub fn count(said: &str, counter: &str) -> u64 {
    let after = said
        .split_once(counter)
        .map(|(_, after)| after.trim_start());
    let digits = after.map(|after| after.split(|c: char| !c.is_ascii_digit()).next());
    digits
        .flatten()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("no {counter} in {said}"))
}
