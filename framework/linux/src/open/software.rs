//! The software devices among the specs: who they are, what is plugged into them, and their thread.

use std::io;
use std::sync::Arc;

use sumac_device::DeviceControl;
use sumac_devices::ixgbe::{
    DEVICE_KR, DEVICE_KX4, DEVICE_SFP, DeviceThread, Identity, Sim82599, Sim82599Config, VECTORS,
};
use sumac_devices::memory::SimDma;
use sumac_devices::wire::AnyWire;
use sumac_packet::MacAddress;

use super::{OpenError, SoftwareDevice, plug};
use crate::interrupts::{Bell, Interrupts};
use crate::spec::{DeviceSpec, SimSpec};

/// A software device from one time it is plugged in until the next.
pub(super) struct Plugged {
    device: Sim82599,
    returns: u64,
}

impl Plugged {
    /// Lets the device do DMA, as opening any other does: its last driver's host may have ended that.
    pub fn new(device: &Sim82599) -> Self {
        device.start();
        Self {
            device: device.clone(),
            returns: device.returns(),
        }
    }
}

impl DeviceControl for Plugged {
    fn stop(&self) -> bool {
        self.device.stop()
    }

    fn start(&self) {
        self.device.start();
    }

    fn is_there(&self) -> bool {
        self.device.is_there() && self.device.returns() == self.returns
    }
}

impl Interrupts for SoftwareDevice {
    fn vectors(&self) -> io::Result<u32> {
        Ok(VECTORS as u32)
    }

    fn connect(&self, bells: &[Arc<Bell>]) -> io::Result<()> {
        let bells = bells.to_vec();
        self.device.on_interrupt(Box::new(move |vector| {
            if let Some(bell) = bells.get(vector as usize) {
                bell.ring();
            }
        }));
        Ok(())
    }

    fn on_removal(&self, _bell: &Bell) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The ids the software device can have.
const KNOWN_IDS: [u16; 3] = [DEVICE_SFP, DEVICE_KX4, DEVICE_KR];

pub(super) fn known_ids() -> String {
    KNOWN_IDS.map(|id| format!("{id:04x}")).join(", ")
}

/// A software device to be made.
pub(super) struct Sim<'a> {
    /// As it was asked for.
    pub name: String,
    /// What is plugged in.
    pub spec: &'a SimSpec,
    /// Who it is.
    pub identity: Identity,
}

/// The software devices among `specs`, in their order.
pub(super) fn sims(specs: &[DeviceSpec]) -> Result<Vec<Sim<'_>>, OpenError> {
    let sims = specs.iter().filter_map(|spec| match spec {
        DeviceSpec::Sim(sim) => Some((spec, sim)),
        _ => None,
    });
    let sim = |(number, (spec, sim)): (usize, (&DeviceSpec, _))| {
        let name = spec.to_string();
        Ok(Sim {
            identity: identity(number, &name, sim)?,
            name,
            spec: sim,
        })
    };
    sims.enumerate().map(sim).collect()
}

/// As [`sims`], where there may be nothing else.
pub(super) fn only(specs: &[DeviceSpec]) -> Result<Vec<Sim<'_>>, OpenError> {
    let other = |spec: &&DeviceSpec| !matches!(spec, DeviceSpec::Sim(_));
    match specs.iter().find(other) {
        Some(other) => Err(OpenError::SoftwareOnly {
            spec: other.to_string(),
        }),
        None => sims(specs),
    }
}

/// What is plugged into each, in their order; `mac` is where a generator sends to.
pub(super) fn plug(
    sims: &[Sim<'_>],
    mac: impl Fn(&Sim<'_>) -> MacAddress,
) -> Result<Vec<AnyWire>, OpenError> {
    let sockets: Vec<_> = sims
        .iter()
        .map(|sim| plug::Socket {
            name: sim.name.clone(),
            wire: &sim.spec.wire,
            mac: mac(sim),
        })
        .collect();
    plug::plug_all(&sockets)
        .map_err(|plug::PlugError { spec, source }| OpenError::Wire { spec, source })
}

/// Makes them, wires and all.
pub(super) fn make(sims: &[Sim<'_>], dma: &SimDma) -> Result<Vec<SoftwareDevice>, OpenError> {
    let wires = plug(sims, |sim| MacAddress(sim.identity.mac))?;
    let make = |(number, (sim, wire)): (usize, (&Sim<'_>, _))| {
        let config = Sim82599Config {
            identity: sim.identity,
            ..Sim82599Config::new(format!("sim{number}"), wire)
        };
        SoftwareDevice {
            device: Sim82599::new(config, dma),
        }
    };
    Ok(sims.iter().zip(wires).enumerate().map(make).collect())
}

/// Starts their thread.
pub(super) fn start(
    software: &[SoftwareDevice],
    core: Option<usize>,
) -> Result<DeviceThread, OpenError> {
    let devices: Vec<Sim82599> = software.iter().map(|s| s.device.clone()).collect();
    DeviceThread::spawn(&devices, core).map_err(OpenError::Thread)
}

/// Who software device `number` is: as its spec says, else an X520 with an address of its own.
fn identity(number: usize, name: &str, sim: &SimSpec) -> Result<Identity, OpenError> {
    let usual = Identity::default();
    let device_id = sim.device_id.unwrap_or(usual.device_id);
    if !KNOWN_IDS.contains(&device_id) {
        return Err(OpenError::DeviceId {
            spec: name.to_owned(),
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
