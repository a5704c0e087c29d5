//! A guest with two cards, captures on their wires, and `l2fwd`.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use sumac_lab::{Carried, Ended, Guest, Image, Lab, Machine, Monitor, Program, Served, Slot};
use sumac_testbed::domains::BuiltDomains;

use crate::frames::{read_pcap, write_pcap};

/// Bits of bus addresses of the IOMMU: the narrower of the two that are common.
const IOMMU_BITS: u32 = 39;
/// 2 MiB pages, of which l2fwd takes a third.
const HUGE_PAGES: u32 = 96;

/// For scripts: exit code 2, and one line with these words.
pub const REFUSED: &str = r#"
refused() {
  words=$1
  shift
  code=0
  "$@" > /tmp/out 2> /tmp/said || code=$?
  cat /tmp/said
  test $code -eq 2
  test $(wc -l < /tmp/said) -eq 1
  test ! -s /tmp/out
  grep -qF "$words" /tmp/said
}
"#;

/// Cards, two unless told otherwise, and the files on their wires.
pub struct Cards {
    served: Served,
    files: tempfile::TempDir,
    pub machine: Machine,
    pub slots: Vec<Slot>,
    /// Whether an IOMMU translates for them.
    iommu: bool,
}

/// What a run left behind.
pub struct Outcome {
    pub ended: Ended,
    /// What went out of each card.
    pub sent: Vec<Vec<Vec<u8>>>,
}

impl Cards {
    /// Cards that receive these frames.
    pub fn with<const N: usize>(input: [&[Vec<u8>]; N]) -> Self {
        Self::playing("", &input, true)
    }

    /// The same, over and over, for as long as somebody receives.
    pub fn again_and_again<const N: usize>(input: [&[Vec<u8>]; N]) -> Self {
        Self::playing("loop=1000000000,", &input, true)
    }

    /// As [`with`](Self::with), in a machine without an IOMMU.
    pub fn without_iommu<const N: usize>(input: [&[Vec<u8>]; N]) -> Self {
        Self::playing("", &input, false)
    }

    fn playing(options: &str, input: &[&[Vec<u8>]], iommu: bool) -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        let wire = |(port, input): (usize, &&[Vec<u8>])| {
            let path = |name| files.path().join(format!("{name}{port}"));
            write_pcap(&path("in"), input);
            format!(
                "{options}pcap={},out={}",
                path("in").display(),
                path("out").display()
            )
        };
        let wires: Vec<_> = input.iter().enumerate().map(wire).collect();
        Self::on(&wires, Served::cards, files, iommu)
    }

    /// As [`with`](Self::with), as functions of one slot: in one group, for Linux takes no word for it that functions of
    /// this card are kept apart, as it does of those with other ids.
    pub fn in_one_slot<const N: usize>(input: [&[Vec<u8>]; N]) -> Self {
        let mut cards = Self::playing("id=1517,", &input, true);
        let sockets = (0..N).map(|card| cards.served.socket(card));
        let mut machine = machine(true);
        cards.slots = machine.vfio_user_functions(sockets);
        cards.machine = machine;
        cards
    }

    /// Two cards that a generator each sends frames to, so many a second, and takes frames back from.
    pub fn under_load(rate: &str) -> Self {
        Self::generated(&[""; 2], rate, Served::cards)
    }

    /// The same with so many cards, which [`pull`](Self::pull) may take.
    pub fn pluggable_under_load(cards: usize, rate: &str) -> Self {
        Self::generated(&vec![""; cards], rate, Served::pluggable)
    }

    /// The same with a card for each of these options, such as when it goes: `gone=5s`.
    pub fn going_under_load(options: &[&str], rate: &str) -> Self {
        Self::generated(options, rate, Served::cards)
    }

    fn generated(options: &[&str], rate: &str, serve: fn(&[&str]) -> Served) -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        let wire = |options: &&str| match *options {
            "" => format!("gen,rate={rate}"),
            options => format!("gen,rate={rate},{options}"),
        };
        let wires: Vec<_> = options.iter().map(wire).collect();
        Self::on(&wires, serve, files, true)
    }

    /// Cards to which nothing ever comes.
    pub fn idle(cards: usize) -> Self {
        let files = tempfile::tempdir().expect("a temporary folder");
        Self::on(&vec!["null".to_owned(); cards], Served::cards, files, true)
    }

    fn on(
        wires: &[String],
        serve: fn(&[&str]) -> Served,
        files: tempfile::TempDir,
        iommu: bool,
    ) -> Self {
        let wires: Vec<&str> = wires.iter().map(String::as_str).collect();
        let served = serve(&wires);
        let mut machine = machine(iommu);
        let slots = (0..wires.len())
            .map(|port| machine.vfio_user(&served.socket(port)))
            .collect();
        Self {
            served,
            files,
            machine,
            slots,
            iommu,
        }
    }

    /// Boots a guest that runs a script, in which `$A`, `$B` and so on are the cards; in `/domains` are the domain
    /// files, trusted.
    pub fn boot(&self, lab: &Lab, script: &str) -> Guest {
        self.boot_with(lab, script, |_| {})
    }

    /// As [`boot`](Self::boot), with more in its image.
    pub fn boot_with(&self, lab: &Lab, script: &str, more: impl FnOnce(&mut Image)) -> Guest {
        let mut image = Image::new(lab);
        if self.iommu {
            image.modules(&["vfio-pci", "vfio_iommu_type1"]);
        }
        image.program(&Program::built("l2fwd"));
        image.folder("domains", domains().folder());
        image.script(&self.whole(script));
        more(&mut image);
        self.machine.boot(lab, &image)
    }

    /// Unplugs a card, as one who presses the button of its slot: returns when the guest has let it go.
    #[track_caller]
    pub fn pull(&self, monitor: &mut Monitor, card: usize) {
        let pulled = monitor.remove(&self.slots[card]);
        pulled.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Plugs a card in again.
    #[track_caller]
    pub fn plug(&self, monitor: &mut Monitor, card: usize) {
        let plugged = monitor.add_vfio_user(&self.slots[card], &self.served.socket(card));
        plugged.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The script after all that precedes l2fwd, and before the question that every test ends with: whether
    /// the IOMMU has reported a fault.
    fn whole(&self, script: &str) -> String {
        let mut whole = String::new();
        for (slot, name) in self.slots.iter().zip('A'..) {
            let _ = writeln!(whole, "{name}={}", slot.address);
        }
        let addresses: Vec<&str> = (self.slots.iter())
            .map(|slot| slot.address.as_str())
            .collect();
        whole += "set -e\n";
        if self.iommu {
            let _ = writeln!(whole, "bind-vfio {}", addresses.join(" "));
        }
        let _ = writeln!(whole, "echo {HUGE_PAGES} > /proc/sys/vm/nr_hugepages");
        whole += "export XDG_CONFIG_HOME=/domains\n";
        let _ = writeln!(whole, "{script}");
        let _ = writeln!(whole, "if dmesg | grep 'DMAR:.*fault'; then exit 99; fi");
        whole
    }

    /// What went through the cards of a generator each, once the guest has ended well.
    #[track_caller]
    pub fn finish_load(self, guest: Guest) -> (Ended, Vec<Carried>) {
        let ended = guest.finish();
        ended.assert_code(0);
        (ended, self.served.finish())
    }

    /// What went through the cards, once the guest has ended well.
    #[track_caller]
    pub fn finish(self, guest: Guest) -> Outcome {
        let ended = guest.finish();
        ended.assert_code(0);
        self.served.finish();
        let out = |port| -> PathBuf { self.files.path().join(format!("out{port}")) };
        let sent = (0..self.slots.len()).map(|port| read_pcap(&out(port)));
        Outcome {
            ended,
            sent: sent.collect(),
        }
    }
}

/// What the cards are plugged into.
fn machine(iommu: bool) -> Machine {
    let mut machine = Machine::new();
    machine.cores(2).memory_mib(768);
    if iommu {
        machine.iommu(IOMMU_BITS);
    }
    machine
}

/// The domain files that l2fwd starts drivers from, and a configuration that trusts them.
fn domains() -> &'static BuiltDomains {
    static BUILT: OnceLock<BuiltDomains> = OnceLock::new();
    BUILT.get_or_init(|| BuiltDomains::build(&["ixgbe", "ixgbe-crashy"]))
}

/// Asserts that two lists of frames are the same, without printing megabytes.
#[track_caller]
pub fn assert_same(got: &[Vec<u8>], expected: &[Vec<u8>]) {
    assert_eq!(got.len(), expected.len(), "frames");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            got == expected,
            "frame {i} of {} bytes differs",
            expected.len()
        );
    }
}

/// A number from the environment: for measurements by hand.
pub fn number(name: &str, otherwise: u32) -> u32 {
    let given = std::env::var(name).ok();
    given.map_or(otherwise, |text| text.parse().expect("a number"))
}
