//! From device specs to devices a driver can take.
//!
//! All software devices of a process share one DMA space, so that one packet pool serves every
//! port, and one thread. What a spec asks for is opened whole or not at all.

use std::sync::Arc;

use sumac_device::{DeviceBacking, DeviceControl, DmaSpace};
use sumac_devices::ixgbe::{
    DEVICE_KR, DEVICE_KX4, DEVICE_SFP, DeviceThread, Identity, Module, Sim82599, Sim82599Config,
};
use sumac_devices::memory::{DmaFacts, SimDma, WindowError};
use sumac_devices::wire::{AnyWire, WireError, WireReport};
use sumac_packet::MacAddress;

use crate::cores::{CoreError, CoreList};
use crate::spec::{DeviceSpec, SimSpec, SpecError, check_together};

mod plug;
#[cfg(test)]
mod tests;

/// Why devices cannot be opened. Each is one line that names the device and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The specs contradict each other.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A device of a kind that this build does not drive.
    #[error("{spec}: this build drives software devices only; give `sim` or `sim:KEY=VALUE,...`")]
    SoftwareOnly {
        /// The spec.
        spec: String,
    },
    /// A PCI device id that the software device cannot have.
    #[error(
        "{spec}: the software device cannot be a {id:04x}; take id={}",
        known_ids()
    )]
    DeviceId {
        /// The spec.
        spec: String,
        /// The id asked for.
        id: u16,
    },
    /// What is to be plugged in.
    #[error("{spec}: {source}")]
    Wire {
        /// The spec.
        spec: String,
        /// What is wrong with it, and what to do.
        source: WireError,
    },
    /// Memory that devices can reach.
    #[error("memory for devices: {0}")]
    Memory(#[from] WindowError),
    /// The core for the software devices.
    #[error("software devices: {0}")]
    Core(#[from] CoreError),
    /// The thread for the software devices.
    #[error("starting the software devices' thread: {0}")]
    Thread(std::io::Error),
}

/// The ids the software device can have.
const KNOWN_IDS: [u16; 3] = [DEVICE_SFP, DEVICE_KX4, DEVICE_KR];

fn known_ids() -> String {
    KNOWN_IDS.map(|id| format!("{id:04x}")).join(", ")
}

/// Opened devices. The software ones run until [`finish`](Self::finish) or until this is dropped.
pub struct OpenPorts {
    /// The devices, in the order of their specs.
    pub ports: Vec<OpenPort>,
    /// Memory that each of them can reach.
    pub dma: Arc<dyn DmaSpace>,
    memory: SimDma,
    software: Vec<SoftwareDevice>,
    thread: Option<DeviceThread>,
}

/// An opened device.
pub struct OpenPort {
    /// What the user named it.
    pub spec: DeviceSpec,
    /// What a driver takes.
    pub backing: DeviceBacking,
    /// How the device is stopped when its driver is gone.
    pub control: Arc<dyn DeviceControl>,
    /// The device from behind, if it is a software device.
    pub software: Option<SoftwareDevice>,
}

/// A software device from behind: what a driver does not see.
#[derive(Clone)]
pub struct SoftwareDevice {
    device: Sim82599,
}

impl SoftwareDevice {
    /// What has passed its wire.
    pub fn wire(&self) -> WireReport {
        self.device.wire_report()
    }

    /// The driver's protocol violations, by name, with their number; none is good.
    pub fn violations(&self) -> Vec<(&'static str, u64)> {
        self.device.violations().by_name().collect()
    }

    /// The device itself: its statistics, its violations in words, faults for tests.
    pub fn device(&self) -> &Sim82599 {
        &self.device
    }
}

impl OpenPorts {
    /// Whether the software devices run, or there are none. They end by themselves only if one of
    /// them panicked.
    pub fn is_alive(&self) -> bool {
        self.software.is_empty() || self.thread.as_ref().is_some_and(DeviceThread::is_alive)
    }

    /// What kind of memory drivers have been given so far: huge pages, locked.
    pub fn memory(&self) -> DmaFacts {
        self.memory.facts()
    }

    /// Stops the software devices and flushes what is plugged into them; once drivers have stopped.
    /// What goes wrong is in [`WireReport::failure`].
    pub fn finish(&mut self) {
        self.thread = None;
        for software in &self.software {
            software.device.finish();
        }
    }
}

/// Opens what the specs name, all together. Software devices run on a thread of their own, on
/// `device_core` if one is given.
///
/// # Errors
/// [`OpenError`]; nothing stays open and no output file is left behind.
pub fn open(specs: &[DeviceSpec], device_core: Option<usize>) -> Result<OpenPorts, OpenError> {
    check_together(specs)?;
    let sims = specs
        .iter()
        .map(software_only)
        .collect::<Result<Vec<_>, _>>()?;
    let identities = sims
        .iter()
        .enumerate()
        .map(|(number, (spec, sim))| identity(number, spec, sim))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(core) = device_core {
        CoreList::from(core).check_usable()?;
    }
    let dma = SimDma::new()?;

    let sockets: Vec<_> = sims
        .iter()
        .zip(&identities)
        .map(|((spec, sim), identity)| plug::Socket {
            name: spec.to_string(),
            wire: &sim.wire,
            mac: MacAddress(identity.mac),
        })
        .collect();
    let wires = plug::plug_all(&sockets)
        .map_err(|plug::PlugError { spec, source }| OpenError::Wire { spec, source })?;

    let make = |(number, (wire, identity))| {
        let config = Sim82599Config {
            identity,
            ..Sim82599Config::new(format!("sim{number}"), wire)
        };
        Sim82599::new(config, &dma)
    };
    let devices: Vec<Sim82599> = wires
        .into_iter()
        .zip(identities)
        .enumerate()
        .map(make)
        .collect();
    let thread = match devices.is_empty() {
        true => None,
        false => Some(DeviceThread::spawn(&devices, device_core).map_err(OpenError::Thread)?),
    };
    let software: Vec<_> = devices
        .into_iter()
        .map(|device| SoftwareDevice { device })
        .collect();
    let port = |(spec, software): (&DeviceSpec, &SoftwareDevice)| OpenPort {
        spec: spec.clone(),
        backing: software.device.backing(),
        control: Arc::new(software.device.clone()),
        software: Some(software.clone()),
    };
    Ok(OpenPorts {
        ports: specs.iter().zip(&software).map(port).collect(),
        dma: Arc::new(dma.clone()),
        memory: dma,
        software,
        thread,
    })
}

/// What the specs plug into software ports, in their order, for software devices that others make:
/// generators send to any address.
///
/// # Errors
/// [`OpenError`]; nothing stays open and no output file is left behind.
pub fn wires(specs: &[DeviceSpec]) -> Result<Vec<AnyWire>, OpenError> {
    check_together(specs)?;
    let sims = specs
        .iter()
        .map(software_only)
        .collect::<Result<Vec<_>, _>>()?;
    let sockets: Vec<_> = sims
        .iter()
        .map(|(spec, sim)| plug::Socket {
            name: spec.to_string(),
            wire: &sim.wire,
            mac: MacAddress::BROADCAST,
        })
        .collect();
    plug::plug_all(&sockets)
        .map_err(|plug::PlugError { spec, source }| OpenError::Wire { spec, source })
}

/// Who each software port is and what is plugged into it, in the order of the specs, for devices that
/// are served to other processes. In the cage of an SFP+ port is a short-range module.
///
/// # Errors
/// [`OpenError`]; nothing stays open and no output file is left behind.
pub fn sockets(specs: &[DeviceSpec]) -> Result<Vec<(Identity, AnyWire)>, OpenError> {
    check_together(specs)?;
    let mut identities = Vec::new();
    let mut sockets = Vec::new();
    for (number, spec) in specs.iter().enumerate() {
        let (spec, sim) = software_only(spec)?;
        let mut who = identity(number, spec, sim)?;
        if who.device_id == DEVICE_SFP {
            who.module = Module::ShortRange;
        }
        sockets.push(plug::Socket {
            name: spec.to_string(),
            wire: &sim.wire,
            mac: MacAddress(who.mac),
        });
        identities.push(who);
    }
    let wires = plug::plug_all(&sockets)
        .map_err(|plug::PlugError { spec, source }| OpenError::Wire { spec, source })?;
    Ok(identities.into_iter().zip(wires).collect())
}

fn software_only(spec: &DeviceSpec) -> Result<(&DeviceSpec, &SimSpec), OpenError> {
    match spec {
        DeviceSpec::Sim(sim) => Ok((spec, sim)),
        DeviceSpec::Pci(_) | DeviceSpec::VfioUser(_) => Err(OpenError::SoftwareOnly {
            spec: spec.to_string(),
        }),
    }
}

/// Who software device `number` is: as its spec says, else an X520 with an address of its own.
fn identity(number: usize, spec: &DeviceSpec, sim: &SimSpec) -> Result<Identity, OpenError> {
    let usual = Identity::default();
    let device_id = sim.device_id.unwrap_or(usual.device_id);
    if !KNOWN_IDS.contains(&device_id) {
        return Err(OpenError::DeviceId {
            spec: spec.to_string(),
            id: device_id,
        });
    }
    let [a, b, c, d, e, _] = usual.mac;
    let own = MacAddress([a, b, c, d, e, number as u8]);
    Ok(Identity {
        device_id,
        mac: sim.mac.unwrap_or(own).octets(),
        function: number as u8 & 1,
        ..usual
    })
}
