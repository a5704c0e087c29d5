//! `sumac doctor`: what keeps a device from being used, and the command that mends it.
//!
//! - [`iommu`], [`machine`]: what holds for every device;
//! - [`device`]: what holds for one.
//!
//! Only looks: every check reads small files. A check says one thing, and where one fault follows from another
//! only the other is told.

mod device;
mod finding;
mod iommu;
mod machine;
#[cfg(test)]
mod tests;

use std::io;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use sumac_linux::pci::{self, PciDevice, Transceiver, Tree};
use sumac_linux::spec::PciAddress;

use crate::caller::Caller;
use crate::{Trouble, cards, output};
use finding::{Finding, State};

/// What `sumac doctor` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Run it as the user who will run the application: limits and permissions are that user's. Mend from the top: a\n\
        fault may hide others. Each command can be pasted as it is.\n\n\
        Exit status: 0 if nothing is in the way (there may be warnings), 1 if something is, 2 if an argument is wrong."
)]
pub struct Options {
    /// The devices, by their PCI addresses; without any, all that Sumac drives, and those that are bound to vfio-pci or
    /// uio_pci_generic.
    #[arg(value_name = "BDF", value_parser = crate::bind::address)]
    devices: Vec<PciAddress>,
    /// For a packet pool of this many buffers: how much memory has to be lockable, and in huge pages.
    #[arg(long, value_name = "BUFFERS", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1 << 22))]
    pool: u32,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// What all checks look at.
#[derive(Clone, Copy)]
struct Patient<'a> {
    tree: &'a Tree,
    caller: &'a Caller,
    pool: u32,
    /// Whether whoever asks has named the devices; else all that could be used are looked at.
    named: bool,
    /// Asks for the module in the cage of an interface.
    cage: fn(&str) -> io::Result<Transceiver>,
}

/// Looks at the machine and its devices, and says what was found; success if nothing is in the way.
///
/// # Errors
/// [`Trouble`] where nothing could be looked at.
pub fn run(options: &Options, tree: &Tree, caller: &Caller) -> Result<ExitCode, Trouble> {
    let patient = Patient {
        tree,
        caller,
        pool: options.pool,
        named: !options.devices.is_empty(),
        cage: Transceiver::of_interface,
    };
    let report = Report::new(examine(&patient, &options.devices));
    if options.json {
        output::json(&report)?;
    } else {
        output::print(&report.text())?;
    }
    Ok(match report.faults {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

fn examine(patient: &Patient<'_>, devices: &[PciAddress]) -> Vec<Finding> {
    let mut findings = iommu::examine(patient);
    findings.extend(machine::examine(patient));
    let chosen = match devices.is_empty() {
        true => of_interest(patient.tree),
        false => devices.to_vec(),
    };
    if chosen.is_empty() {
        let what = "no card here that Sumac drives, and no device bound for processes";
        findings.push(
            Finding::warning("devices", what).mended_by(patient.caller.sumac("devices --all")),
        );
    }
    for address in chosen {
        let about = device::examine(patient, address).into_iter();
        let name = Some(address.to_string());
        findings.extend(about.map(|finding| Finding {
            device: name.clone(),
            ..finding
        }));
    }
    findings
}

/// The devices worth a look when none is named.
fn of_interest(tree: &Tree) -> Vec<PciAddress> {
    let wanted = |device: &PciDevice| cards::driven(device).is_some() || device.is_handed_over();
    let devices = pci::devices(tree).unwrap_or_default().into_iter();
    devices
        .filter(wanted)
        .map(|device| device.address)
        .collect()
}

/// All findings.
#[derive(Serialize)]
struct Report {
    findings: Vec<Finding>,
    faults: usize,
    warnings: usize,
}

impl Report {
    fn new(findings: Vec<Finding>) -> Self {
        let count = |state| {
            findings
                .iter()
                .filter(|finding| finding.state == state)
                .count()
        };
        Self {
            faults: count(State::Fault),
            warnings: count(State::Warning),
            findings,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut about: Option<&str> = None;
        for finding in &self.findings {
            let device = finding.device.as_deref();
            if device != about {
                text += &format!("{}\n", device.unwrap_or_default());
                about = device;
            }
            text += &format!(
                "{:<7}  {:<10}  {}\n",
                finding.state.name(),
                finding.check,
                finding.what
            );
            if let Some(command) = &finding.command {
                text += &format!("{:19}  {command}\n", "");
            }
        }
        text + &self.verdict()
    }

    fn verdict(&self) -> String {
        let number = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        match (self.faults, self.warnings) {
            (0, 0) => "all is well\n".to_owned(),
            (0, warnings) => format!("nothing in the way, {}\n", number(warnings, "warning")),
            (faults, 0) => format!("{}\n", number(faults, "fault")),
            (faults, warnings) => format!(
                "{}, {}\n",
                number(faults, "fault"),
                number(warnings, "warning")
            ),
        }
    }
}
