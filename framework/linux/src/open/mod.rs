//! From device specs to devices a driver can take.
//!
//! All devices of a process share one DMA space, so that one packet pool serves every port: real ones,
//! those that other processes serve, and software ones, in any mixture. Software devices share one thread.
//! What a spec asks for is opened whole or not at all. A device that goes away meanwhile is let go, and can be
//! opened again when it is back.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sumac_device::{DeviceBacking, DeviceControl, DmaSpace};
use sumac_devices::ixgbe::{DEVICE_SFP, DeviceThread, Identity, Module, Sim82599};
use sumac_devices::memory::{DmaFacts, SimDma};
use sumac_devices::wire::{AnyWire, WireReport};
use sumac_packet::MacAddress;

use crate::cores::CoreList;
use crate::dma::{LinuxDma, Reach};
use crate::interrupts::Interrupts;
use crate::noiommu::{self, UioDevice};
use crate::pci::Tree;
use crate::spec::{DeviceSpec, PciAddress, check_together};
use crate::vfio::{self, Access, Space};
use crate::vfio_user::ServedDevice;

mod bare;
mod error;
mod outside;
mod plug;
mod pulled;
mod software;
#[cfg(test)]
mod tests;

pub use bare::Protection;
pub use error::OpenError;
use outside::Outside;
pub use pulled::{Pulling, pull};
use software::Plugged;

/// Opened devices. The software ones run until [`finish`](Self::finish) or until this is dropped.
pub struct OpenPorts {
    /// The devices, in the order of their specs.
    pub ports: Vec<OpenPort>,
    /// Memory that each of them can reach.
    pub dma: Arc<dyn DmaSpace>,
    memory: Memory,
    software: Vec<SoftwareDevice>,
    /// Ends before the devices' thread.
    pulling: Vec<Pulling>,
    thread: Option<DeviceThread>,
    /// What each spec names, and how to come by it again.
    ways: Vec<(DeviceSpec, Way)>,
    tree: Tree,
}

/// How a device was come by.
enum Way {
    Pci(PciAddress, Arc<dyn Space>),
    /// Without an IOMMU.
    Bare(PciAddress),
    /// By this socket; what reaches memory for it, until it is gone.
    Served(PathBuf, Option<Arc<dyn Reach>>),
    Software(SoftwareDevice),
}

/// Where drivers' memory comes from.
enum Memory {
    /// All devices are software: the window they reach.
    Window(SimDma),
    /// Some are not.
    Shared(LinuxDma),
}

impl Memory {
    fn space(&self) -> Arc<dyn DmaSpace> {
        match self {
            Self::Window(dma) => Arc::new(dma.clone()),
            Self::Shared(dma) => Arc::new(dma.clone()),
        }
    }
}

/// An opened device.
pub struct OpenPort {
    /// What the user named it.
    pub spec: DeviceSpec,
    /// What a driver takes.
    pub backing: DeviceBacking,
    /// How the device is stopped when its driver is gone.
    pub control: Arc<dyn DeviceControl>,
    /// Its interrupts, if it has any.
    pub interrupts: Option<Arc<dyn Interrupts>>,
    /// The device from behind, if it is a software device.
    pub software: Option<SoftwareDevice>,
}

impl OpenPort {
    /// A software device, whose driver's memory is of `dma`.
    fn software(spec: &DeviceSpec, software: &SoftwareDevice, dma: &Arc<dyn DmaSpace>) -> Self {
        Self {
            spec: spec.clone(),
            backing: DeviceBacking {
                dma: Arc::clone(dma),
                ..software.device.backing()
            },
            control: Arc::new(Plugged::new(&software.device)),
            interrupts: Some(Arc::new(software.clone())),
            software: Some(software.clone()),
        }
    }

    /// A device without an IOMMU, and without interrupts.
    fn bare(spec: &DeviceSpec, device: &Arc<UioDevice>, dma: &Arc<dyn DmaSpace>) -> Self {
        Self {
            spec: spec.clone(),
            backing: device.backing(Arc::clone(dma)),
            control: Arc::clone(device) as _,
            interrupts: None,
            software: None,
        }
    }

    /// A device outside this process.
    fn outside<D: DeviceControl + Interrupts + 'static>(
        spec: &DeviceSpec,
        backing: DeviceBacking,
        device: &Arc<D>,
    ) -> Self {
        Self {
            spec: spec.clone(),
            backing,
            control: Arc::clone(device) as _,
            interrupts: Some(Arc::clone(device) as _),
            software: None,
        }
    }
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

    /// Whether the devices can reach all memory of the machine, since no IOMMU translates for them.
    pub fn is_unprotected(&self) -> bool {
        let mut ways = self.ways.iter();
        ways.any(|(_, way)| matches!(way, Way::Bare(_)))
    }

    /// By which of the kernel's files PCI devices were taken through VFIO; none where none was.
    pub fn access(&self) -> Option<Access> {
        self.ways.iter().find_map(|(_, way)| match way {
            Way::Pci(_, space) => Some(space.access()),
            _ => None,
        })
    }

    /// What kind of memory drivers have been given so far: huge pages, locked.
    pub fn memory(&self) -> DmaFacts {
        match &self.memory {
            Memory::Window(dma) => dma.facts(),
            Memory::Shared(dma) => dma.facts(),
        }
    }

    /// Bus addresses that drivers' memory can have, in order: what all devices outside this process and their
    /// IOMMUs take. None where all devices are software.
    pub fn bus_addresses(&self) -> &[Range<u64>] {
        match &self.memory {
            Memory::Window(_) => &[],
            Memory::Shared(dma) => dma.bus_addresses(),
        }
    }

    /// How long it took so far to make drivers' memory reachable for devices outside this process.
    pub fn mapping_time(&self) -> Duration {
        match &self.memory {
            Memory::Window(_) => Duration::ZERO,
            Memory::Shared(dma) => dma.mapping_time(),
        }
    }

    /// Lets device number `index` go, which is gone or about to: memory is not shown to it any more. Of what was
    /// opened of it, drivers included, nothing may be left; then its host has it back.
    pub fn let_go(&mut self, index: usize) {
        if let (Some((_, Way::Served(_, reach))), Memory::Shared(dma)) =
            (self.ways.get_mut(index), &self.memory)
            && let Some(reach) = reach.take()
        {
            dma.leave(&reach);
        }
    }

    /// Opens device number `index` again, after it was let go. It may be another of the same name.
    ///
    /// # Errors
    /// [`OpenError`]; it may well be that the device is not back yet.
    pub fn reopen(&mut self, index: usize) -> Result<OpenPort, OpenError> {
        let (dma, tree) = (&self.dma, &self.tree);
        let Some((spec, way)) = self.ways.get_mut(index) else {
            let spec = format!("device {index}");
            return Err(OpenError::StillGone { spec });
        };
        let show = |reach: &Arc<dyn Reach>| match &self.memory {
            Memory::Window(_) => Ok(()),
            Memory::Shared(dma) => dma.join(reach).map_err(|reason| OpenError::Memoryless {
                spec: spec.to_string(),
                reason,
            }),
        };
        match way {
            Way::Software(software) if !software.device.is_there() => Err(OpenError::StillGone {
                spec: spec.to_string(),
            }),
            Way::Software(software) => Ok(OpenPort::software(spec, software, dma)),
            Way::Pci(address, space) => {
                let (device, first) = vfio::reopen(tree, space, *address)?;
                if first {
                    show(&(Arc::clone(space) as _))?;
                }
                let backing = device.backing(Arc::clone(dma));
                Ok(OpenPort::outside(spec, backing, &device))
            }
            Way::Bare(address) => {
                let opened = noiommu::open(tree, &[*address])?;
                let still_gone = || OpenError::StillGone {
                    spec: spec.to_string(),
                };
                let device = opened.first().ok_or_else(still_gone)?;
                Ok(OpenPort::bare(spec, device, dma))
            }
            Way::Served(socket, reach) => {
                let device = Arc::new(ServedDevice::connect(socket)?);
                show(reach.insert(device.reach()))?;
                let backing = device.backing(Arc::clone(dma));
                Ok(OpenPort::outside(spec, backing, &device))
            }
        }
    }

    /// Stops the software devices and flushes what is plugged into them; once drivers have stopped.
    /// What goes wrong is in [`WireReport::failure`].
    pub fn finish(&mut self) {
        self.pulling.clear();
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
    open_with(specs, device_core, Protection::Iommu)
}

/// As [`open`], with this protection.
///
/// # Errors
/// As [`open`].
pub fn open_with(
    specs: &[DeviceSpec],
    device_core: Option<usize>,
    protection: Protection,
) -> Result<OpenPorts, OpenError> {
    open_in(&Tree::default(), specs, device_core, protection)
}

/// As [`open_with`], where Linux's file systems are in `tree`.
///
/// # Errors
/// As [`open`].
pub fn open_in(
    tree: &Tree,
    specs: &[DeviceSpec],
    device_core: Option<usize>,
    protection: Protection,
) -> Result<OpenPorts, OpenError> {
    check_together(specs)?;
    let sims = software::sims(specs)?;
    if let Some(core) = device_core {
        CoreList::from(core).check_usable()?;
    }
    let mut outside = Outside::open(tree, specs, protection)?;
    let window = match sims.is_empty() && !outside.is_empty() {
        true => None,
        false => Some(SimDma::new()?),
    };
    let memory = outside.memory(window.as_ref());
    let dma = memory.space();

    let software = match &window {
        Some(window) => software::make(&sims, window)?,
        None => Vec::new(),
    };
    let thread = match software.is_empty() {
        true => None,
        false => Some(software::start(&software, device_core)?),
    };
    let pulling = pulled::start(&sims, &software)?;
    let mut sims = software.iter();
    let mut ports = Vec::new();
    let mut ways = Vec::new();
    for spec in specs {
        let opened = match spec {
            DeviceSpec::Sim(_) => sims.next().map(|software| {
                let port = OpenPort::software(spec, software, &dma);
                (port, Way::Software(software.clone()))
            }),
            _ => outside.port(spec, &dma),
        };
        if let Some((port, way)) = opened {
            ports.push(port);
            ways.push((spec.clone(), way));
        }
    }
    Ok(OpenPorts {
        ports,
        dma,
        memory,
        software,
        pulling,
        thread,
        ways,
        tree: tree.clone(),
    })
}

/// What the specs plug into software ports, in their order, for software devices that others make:
/// generators send to any address.
///
/// # Errors
/// [`OpenError`]; nothing stays open and no output file is left behind.
pub fn wires(specs: &[DeviceSpec]) -> Result<Vec<AnyWire>, OpenError> {
    check_together(specs)?;
    pulled::refuse(specs)?;
    software::plug(&software::only(specs)?, |_| MacAddress::BROADCAST)
}

/// Who each software port is and what is plugged into it, in the order of the specs, for devices that
/// are served to other processes, and [`pull`]ed out when they say so. In the cage of an SFP+ port is a
/// short-range module.
///
/// # Errors
/// [`OpenError`]; nothing stays open and no output file is left behind.
pub fn sockets(specs: &[DeviceSpec]) -> Result<Vec<(Identity, AnyWire)>, OpenError> {
    check_together(specs)?;
    let mut sims = software::only(specs)?;
    for sim in &mut sims {
        if sim.identity.device_id == DEVICE_SFP {
            sim.identity.module = Module::ShortRange;
        }
    }
    let wires = software::plug(&sims, |sim| MacAddress(sim.identity.mac))?;
    Ok((sims.iter().map(|sim| sim.identity)).zip(wires).collect())
}
