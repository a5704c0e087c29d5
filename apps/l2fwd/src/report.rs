//! What a run is summed up as: the JSON object of `--json`, and the summary for people.

use std::fmt;
use std::ops::AddAssign;

use serde::Serialize;
use sumac_rref::PoolAccount;

/// One run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How long frames were forwarded.
    pub seconds: f64,
    /// Frames transmitted, over all ports.
    pub packets: u64,
    /// Million frames a second.
    pub mpps: f64,
    /// Time-stamp counter ticks a frame, over all rounds that moved frames, on all cores.
    pub ticks_per_packet: f64,
    /// From the start of the program to the first frame transmitted, in microseconds; none if there was none.
    pub first_frame_us: Option<u64>,
    /// How often drivers were started again.
    pub restarts: u64,
    /// From noticing a driver's death until its port was ready again, in microseconds.
    pub restart_latency_us: Option<Times>,
    /// The part of that which is the device's: to be stopped, and the waits that the datasheet has its driver make.
    pub device_reset_us: Option<Times>,
    /// The rest of it.
    pub restart_less_reset_us: Option<Times>,
    /// How workers slept, with `--interrupt`.
    pub sleeps: Sleeps,
    /// Frames lost with drivers that died.
    pub lost_in_restart: u64,
    /// DMA of software devices outside of memory that drivers have.
    pub stray_dma: u64,
    /// How a driver died last.
    pub last_death: Option<String>,
    /// The application, if it was in a domain of its own.
    pub application: Option<ApplicationReport>,
    /// By which of the kernel's files PCI devices were taken through VFIO: `group` or `cdev`; none without any.
    pub vfio: Option<&'static str>,
    /// The ports, in the order given.
    pub ports: Vec<PortReport>,
    /// Where the packet buffers are, after the end.
    pub pool: PoolReport,
}

/// An application in a domain of its own.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ApplicationReport {
    /// How often it was started again.
    pub restarts: u64,
    /// From noticing its death until it could be called again, in microseconds.
    pub restart_latency_us: Option<Times>,
    /// Frames it had in hand when it died.
    pub lost: u64,
    /// How it died last.
    pub last_death: Option<String>,
}

/// How often workers slept, and what woke them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sleeps {
    /// They had armed their queues, and slept.
    pub slept: u64,
    /// An interrupt woke them, or whoever stopped them.
    pub woken: u64,
    /// They woke by themselves and found frames: an interrupt was lost.
    pub overslept: u64,
}

impl AddAssign<&Sleeps> for Sleeps {
    fn add_assign(&mut self, other: &Sleeps) {
        self.slept += other.slept;
        self.woken += other.woken;
        self.overslept += other.overslept;
    }
}

/// Times of several events, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// Half took no longer.
    pub p50: f64,
    /// All but one of a hundred took no longer.
    pub p99: f64,
    /// None took longer.
    pub max: f64,
}

/// One port.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PortReport {
    /// The device as given.
    pub device: String,
    /// The port's address.
    pub mac: String,
    /// Speed of its link when it was last seen, in Mbit/s; zero while down.
    pub link_mbps: u32,
    /// Times its link changed.
    pub link_changes: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Their bytes, without FCS.
    pub rx_bytes: u64,
    /// Frames transmitted.
    pub tx_packets: u64,
    /// Their bytes, without FCS.
    pub tx_bytes: u64,
    /// Frames dropped since the receive ring was full, or the packet pool empty in the midst of one.
    pub rx_dropped: u64,
    /// Frames received for this port to transmit and never transmitted.
    pub tx_dropped: u64,
    /// Of these, those that came while its device was gone.
    pub tx_dropped_removed: u64,
    /// Frames the device or the driver found wrong: bad FCS or length, too long, no end.
    pub rx_errors: u64,
    /// Frames for somebody else, which the port did not take: with `--no-promiscuous`.
    pub rx_filtered: u64,
    /// Frames the device had received and no driver had handed out when one of them died or went away.
    pub lost_received: u64,
    /// Frames handed over to be transmitted that were not when driver or device died or went away.
    pub lost_transmit: u64,
    /// Frames for this port to transmit that the application had in hand when it died.
    pub lost_application: u64,
    /// How often the port's driver was started again.
    pub restarts: u64,
    /// Whether the device was gone at the end.
    pub removed: bool,
    /// How often it came back after it had gone.
    pub returns: u64,
    /// Of the frames received and counted bad or dropped, those that drivers counted.
    #[serde(skip)]
    pub rx_refused_by_driver: u64,
    /// Times receiving paused since the packet pool was empty.
    pub rx_no_buffer: u64,
    /// Times frames had to wait since the transmit ring was full.
    pub tx_full: u64,
    /// Rules of the datasheet the driver broke, as counted by a software device.
    pub violations: u64,
    /// The rules, by name.
    pub violated: Vec<String>,
    /// What was plugged into a software port.
    pub wire: Option<WireReport>,
}

/// What passed the wire of a software port: an independent count of the same frames.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WireReport {
    /// Frames given to the port.
    pub sent: u64,
    /// Frames the port gave.
    pub received: u64,
    /// Frames of generators that never came back: those that were dropped on the way.
    pub missing: u64,
    /// Frames that came back altered, out of order or twice, or too long for a port.
    pub errors: u64,
    /// Frames the other end refused: an interface that is down, for one.
    pub refused: u64,
    /// Frames that came while the port did not receive, and are gone.
    pub passed_by: u64,
    /// What failed behind the wire (a full disk, a vanished interface).
    pub failure: Option<String>,
}

/// The packet pool.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PoolReport {
    /// All buffers.
    pub total: u32,
    /// Free ones.
    pub free: u32,
    /// Held by the application.
    pub held: u32,
    /// Posted to a device.
    pub device: u32,
    /// Times a buffer was wanted and none was free.
    pub exhausted: u64,
    /// Whether 2 MiB pages hold the buffers.
    pub huge_pages: bool,
}

impl PoolReport {
    /// The pool's own account.
    pub fn new(account: PoolAccount, exhausted: u64, huge_pages: bool) -> Self {
        let PoolAccount {
            total,
            free,
            device,
            held,
        } = account;
        Self {
            total,
            free,
            held,
            device,
            exhausted,
            huge_pages,
        }
    }
}

impl Report {
    /// Fills in what follows from the ports: packets and rates.
    pub fn sum_up(&mut self, busy_ticks: u64) {
        self.packets = self.ports.iter().map(|port| port.tx_packets).sum();
        if self.seconds > 0.0 {
            self.mpps = self.packets as f64 / self.seconds / 1e6;
        }
        if self.packets > 0 {
            self.ticks_per_packet = busy_ticks as f64 / self.packets as f64;
        }
    }

    /// Failures behind wires: they make a run fail.
    pub fn failures(&self) -> impl Iterator<Item = String> + '_ {
        self.ports.iter().filter_map(|port| {
            let failure = port.wire.as_ref()?.failure.as_ref()?;
            Some(format!("{}: {failure}", port.device))
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} frames in {:.2} s: {:.3} Mpps, {:.1} ticks a packet",
            self.packets, self.seconds, self.mpps, self.ticks_per_packet
        )?;
        if let (Some(latency), Some(device)) = (self.restart_latency_us, self.device_reset_us) {
            writeln!(
                f,
                "{} restarts of drivers, {} frames lost; ready again after {:.1} ms (median; 99 of 100 within {:.1}), \
                 {:.1} of them the device's reset",
                self.restarts,
                self.lost_in_restart,
                latency.p50 / 1e3,
                latency.p99 / 1e3,
                device.p50 / 1e3,
            )?;
        }
        if let Some(ApplicationReport {
            restarts,
            restart_latency_us: Some(latency),
            lost,
            ..
        }) = &self.application
        {
            writeln!(
                f,
                "{restarts} restarts of the application, {lost} frames lost; ready again after {:.2} ms (median; 99 \
                 of 100 within {:.2})",
                latency.p50 / 1e3,
                latency.p99 / 1e3,
            )?;
        }
        let Sleeps {
            slept,
            woken,
            overslept,
        } = self.sleeps;
        if slept > 0 {
            writeln!(
                f,
                "slept {slept} times, woken {woken} times, overslept {overslept} times"
            )?;
        }
        for port in &self.ports {
            write!(f, "{port}")?;
        }
        if let Some(access) = self.vfio {
            writeln!(f, "PCI devices by VFIO's {access}")?;
        }
        let pages = if self.pool.huge_pages {
            "2 MiB pages"
        } else {
            "4 KiB pages"
        };
        write!(
            f,
            "pool: {} buffers in {pages}: {} free, {} held, {} with devices",
            self.pool.total, self.pool.free, self.pool.held, self.pool.device
        )
    }
}

/// Its lines of the summary.
impl fmt::Display for PortReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {} ({}): received {} ({} dropped, {} bad), transmitted {} ({} dropped)",
            self.device,
            self.mac,
            self.rx_packets,
            self.rx_dropped,
            self.rx_errors,
            self.tx_packets,
            self.tx_dropped
        )?;
        if self.rx_filtered > 0 {
            writeln!(f, "    {} for somebody else, not taken", self.rx_filtered)?;
        }
        if self.removed || self.returns > 0 {
            let now = if self.removed { "gone" } else { "back" };
            writeln!(
                f,
                "    {now}: came back {} times, {} dropped while it was gone, {} lost with it",
                self.returns,
                self.tx_dropped_removed,
                self.lost_received + self.lost_transmit
            )?;
        }
        if let Some(wire) = &self.wire {
            writeln!(
                f,
                "    wire: {} in, {} out, {} missing, {} wrong; {} rules broken",
                wire.sent, wire.received, wire.missing, wire.errors, self.violations
            )?;
            if wire.passed_by > 0 {
                writeln!(
                    f,
                    "    wire: {} came while the port did not receive, and are gone",
                    wire.passed_by
                )?;
            }
        }
        for rule in &self.violated {
            writeln!(f, "    broken: {rule}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_were_not_taken_are_told_of_where_there_are_any() {
        let told = |rx_filtered, passed_by| {
            let wire = Some(WireReport {
                passed_by,
                ..WireReport::default()
            });
            let port = PortReport {
                rx_filtered,
                wire,
                ..PortReport::default()
            };
            let ports = vec![port];
            let report = Report {
                ports,
                ..Report::default()
            };
            report.to_string()
        };
        let text = told(7, 9);
        assert!(text.contains("    7 for somebody else"), "{text}");
        assert!(text.contains("    wire: 9 came while"), "{text}");
        assert_eq!(told(0, 0).lines().count() + 2, text.lines().count());
    }
}
