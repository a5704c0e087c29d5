//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use sumac_interface::domain::Failure;
use sumac_linux::cores::CoreList;
use sumac_linux::spec::DeviceSpec;
use sumac_linux::time;

/// Longest IP packet an 82599 takes: 9,728 bytes less Ethernet header and FCS.
pub const MAX_MTU: u16 = 9710;
/// Most queue pairs of a port.
pub const MAX_QUEUES: u16 = 64;

/// Forwards frames between pairs of network ports: 0 to 1 and back, 2 to 3 and back, an odd last one
/// to itself.
#[derive(Clone, Debug, Parser)]
#[command(name = "l2fwd", version, max_term_width = 100, after_long_help = EXAMPLES)]
pub struct Options {
    /// Ports to forward between: a PCI address (`0000:03:00.0`) of a card that `sumac bind` took from the kernel,
    /// `vfio-user:SOCKET` of one that `sumac serve` or another process serves, `sim` (a built-in software 82599) or
    /// `sim:KEY=VALUE,...`.
    ///
    /// What is plugged into a software port: `gen` (frames from a generator, checked when they come
    /// back; size=64, rate=line|max|10mpps, flows=N, frames=N), `pcap=FILE` (input; loop=N times), `out=FILE`
    /// (output), `tap=NAME`, `veth=IFACE`, `peer=ID` (back to back with the port of the same ID), `null` (nobody).
    /// Besides: id=1517 and mac=ADDRESS (what the card says it is), gone=1s and back=3s (when it is pulled out, and
    /// put back).
    #[arg(value_name = "DEVICE", default_values = ["sim", "sim"])]
    pub devices: Vec<DeviceSpec>,

    /// Frames moved at once, 1 to 64.
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub batch: u8,

    /// Queue pairs of each port, 1 to 64. Received frames spread over the first 16 by their
    /// addresses and ports (RSS).
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_QUEUES)))]
    pub queues: u16,

    /// Cores that forward, as in `1` or `0,2-3`; queue pairs are dealt out to them in turn.
    #[arg(long, value_name = "LIST")]
    pub cores: Option<CoreList>,

    /// Where the driver runs: part of the program, or a domain of its own, from its signed file.
    #[arg(long, value_name = "WHERE", value_enum, default_value_t = Isolation::Domain)]
    pub isolation: Isolation,

    /// Where the application runs, which is what is done to frames: part of the program, or a domain of its
    /// own, from its signed file. It is given queue pairs of the ports, and nothing besides.
    #[arg(long, value_name = "WHERE", value_enum, default_value_t = ApplicationIn::Linked)]
    pub application: ApplicationIn,

    /// With --isolation shadow or --application shadow: have a driver, or the application, fail this often, by
    /// turns, to see it started again: as in `1s` or `100ms,spin`. Ways to fail are `panic`, `fault` (it
    /// overflows its stack), `spin` (an endless loop) and `oom` (it uses its memory up). Takes other domain
    /// files, ixgbe-crashy and l2fwd-crashy: the same driver and application, which also fail on request.
    #[arg(long, value_name = "TIME[,HOW]", value_parser = parse_crashes)]
    pub crash_every: Option<Crashes>,

    /// Sleep while nothing comes, and be woken by interrupts, instead of polling all the time. Under load it
    /// polls all the same.
    #[arg(long)]
    pub interrupt: bool,

    /// When a device goes away, because it was pulled out, unbound or its server ended, or was reset by somebody else:
    /// wait for its return, and go on with it. Otherwise the run ends when no pair of ports is left; in either case the others go on.
    #[arg(long)]
    pub wait_for_device: bool,

    /// Take PCI devices that no IOMMU translates for, when they are bound to uio_pci_generic. It takes root, and gives
    /// up what keeps a device from memory that is not the program's: the device, or a mistake of its driver, can read
    /// and overwrite anything on this machine.
    #[arg(long)]
    pub unsafe_noiommu: bool,

    /// Folder with the domain files that `cargo xtask domains` built; by default `domains` beside the
    /// folder of this program, where they are built if cargo built this program.
    #[arg(long, value_name = "FOLDER")]
    pub domains: Option<PathBuf>,

    /// How long to run, as in `5s`, `500ms` or `2m`; otherwise until SIGINT or SIGTERM.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// How many frames to forward before ending.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,

    /// Time between two updates of the table, `0s` for none: 1s on a terminal, otherwise none.
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    pub stats_interval: Option<Duration>,

    /// Print one JSON object at the end instead of tables.
    #[arg(long)]
    pub json: bool,

    /// Take every frame, whomever it is for (the default).
    #[arg(long, overrides_with = "no_promiscuous")]
    pub promiscuous: bool,

    /// Take only frames for the port's own address, and broadcasts. Others are counted (rx_filtered).
    #[arg(long)]
    pub no_promiscuous: bool,

    /// Leave frames as they are instead of rewriting their addresses.
    #[arg(long)]
    pub no_mac_updating: bool,

    /// Longest IP packet, 68 to 9710 bytes; longer frames are dropped and counted.
    #[arg(long, value_name = "BYTES", default_value_t = MAX_MTU,
          value_parser = clap::value_parser!(u16).range(68..=i64::from(MAX_MTU)))]
    pub mtu: u16,

    /// Descriptors of each ring: a power of two, 64 to 4096.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = parse_descriptors)]
    pub descriptors: u16,

    /// Buffers of the packet pool; by default as many as the rings and caches can hold.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 22))]
    pub pool: Option<u32>,

    /// Write what is forwarded to a pcap file.
    #[arg(long, value_name = "FILE")]
    pub pcap_dump: Option<PathBuf>,

    /// Start another dump file (FILE.1, FILE.2, ...) after this many MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64,
          value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub pcap_dump_size: u64,
}

/// Where the driver runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Linked into the program: no boundary.
    Driver,
    /// In a domain: a crash of it ends the run with an error, and nothing else.
    Domain,
    /// In a domain that is started again when it crashes; forwarding goes on.
    Shadow,
}

/// Where the application runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ApplicationIn {
    /// The program: no boundary.
    Linked,
    /// A domain: a crash of it ends the run with an error; the drivers live on until then.
    Domain,
    /// A domain that is started again when it crashes; forwarding goes on.
    Shadow,
}

/// How often drivers or the application are to fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crashes {
    /// The time between two.
    pub every: Duration,
    /// How they fail.
    pub how: Failure,
}

const EXAMPLES: &str = "Examples:
  l2fwd                                       two software ports, each with a 10 Gbit/s generator
  l2fwd 0000:03:00.0 0000:03:00.1             two real cards; `sumac doctor` says what they lack
  l2fwd sim:rate=max sim:rate=max --batch 64  as fast as the software devices go
  l2fwd sim:pcap=in.pcap sim:out=out.pcap     a capture through the driver, and out again
  l2fwd sim:tap=a sim:tap=b                   between two TAP interfaces (as root)
  l2fwd --duration 5s --json                  figures for a script
  l2fwd --isolation shadow --crash-every 1s   drivers that crash, and go on
  l2fwd --application domain                  drivers and application each in a domain
  l2fwd sim sim sim sim:gone=1s,back=3s --wait-for-device
                                              a card that is pulled out, and put back

SUMAC_VFIO=group or SUMAC_VFIO=cdev insists on one of the kernel's two ways to hand over PCI devices.

Counters: every frame received is transmitted or counted as dropped. A frame that finds no room on
its way out waits; the device then drops new ones (rx_dropped), as a full receive ring does. What a
driver or an application that crashed, or a device that went away, had in hand or in its rings is counted apart (lost); what
came for a device while it was gone is dropped (tx_dropped_removed).

Exit status: 0 after a clean run, 1 when a device failed or was gone at the end, 2 when something given
cannot be.";

impl Options {
    /// Whether drivers fail on request.
    pub fn drivers_crash(&self) -> bool {
        self.crash_every.is_some() && self.isolation == Isolation::Shadow
    }

    /// Whether the application fails on request.
    pub fn application_crashes(&self) -> bool {
        self.crash_every.is_some() && self.application == ApplicationIn::Shadow
    }

    /// Whether ports take frames for anybody.
    pub fn is_promiscuous(&self) -> bool {
        self.promiscuous || !self.no_promiscuous
    }
}

fn parse_crashes(text: &str) -> Result<Crashes, String> {
    let (every, how) = text.split_once(',').unwrap_or((text, "panic"));
    let every = parse_interval(every)?;
    if every.is_zero() {
        return Err("time passes between two crashes: write 1s or 10ms".into());
    }
    let how = match how {
        "panic" => Failure::Panic,
        "fault" => Failure::Overflow,
        "spin" => Failure::Spin,
        "oom" => Failure::OutOfMemory,
        _ => return Err("what fails does so by panic, fault, spin or oom".into()),
    };
    Ok(Crashes { every, how })
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let time = parse_interval(text)?;
    if time.is_zero() {
        Err("a run takes longer than that: write 5s, 500ms or 2m".into())
    } else {
        Ok(time)
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    time::parse_duration(text).ok_or_else(|| time::DURATION_UNITS.to_owned())
}

fn parse_descriptors(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(n) if n.is_power_of_two() && (64..=4096).contains(&n) => Ok(n),
        _ => Err("write a power of two from 64 to 4096".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in [
            "",
            "5",
            "s",
            "5x",
            "-1s",
            "0s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn crashes() {
        let every = |ms, how| {
            let every = Duration::from_millis(ms);
            Ok(Crashes { every, how })
        };
        assert_eq!(parse_crashes("1s"), every(1000, Failure::Panic));
        assert_eq!(parse_crashes("10ms,spin"), every(10, Failure::Spin));
        assert_eq!(
            parse_crashes("2m,oom"),
            every(120_000, Failure::OutOfMemory)
        );
        for bad in ["", "0s", "1", "1s,", "1s,kill", ",panic", "1s,panic,spin"] {
            assert!(parse_crashes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_software_ports_by_default() {
        let options = Options::parse_from(["l2fwd"]);
        assert_eq!(options.devices.len(), 2);
        assert!(options.is_promiscuous());
        assert!(!Options::parse_from(["l2fwd", "--no-promiscuous"]).is_promiscuous());
    }
}
