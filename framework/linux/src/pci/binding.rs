//! Changing the driver of a device: to one that leaves it to processes, and back to the kernel's.
//!
//! Through `driver_override`, which names the one driver that may take a device, so that no other device of the
//! same kind is touched. What had the device before is remembered in `/run/sumac/bound`, which is gone at the
//! next start of the machine, as the binding itself is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use super::in_use::{self, Holder, Need};
use super::write::{WriteError, write};
use super::{PciDevice, PciError, Tree, UIO_PCI, VFIO_PCI};
use crate::spec::PciAddress;

/// Where former drivers are remembered, a file a device.
const REMEMBERED: &str = "run/sumac/bound";
/// Where the bus shows its drivers.
const DRIVERS: &str = "sys/bus/pci/drivers";
/// The modules behind vfio-pci: the driver, and the IOMMU's side.
pub const MODULES: [&str; 2] = ["vfio-pci", "vfio_iommu_type1"];
/// The other IOMMU's side, which newer kernels can have instead of the last module, or beside it.
pub const IOMMUFD: &str = "dev/iommu";
/// A driver that leaves devices to processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserDriver {
    /// vfio-pci, where an IOMMU keeps the device in bounds.
    Vfio,
    /// uio_pci_generic, where none does: the device can reach all memory of the machine.
    Uio,
}

impl UserDriver {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vfio => VFIO_PCI,
            Self::Uio => UIO_PCI,
        }
    }

    fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Vfio => &MODULES,
            Self::Uio => &[UIO_PCI],
        }
    }

    /// Whether it is one of them.
    fn is_one(driver: &str) -> bool {
        [Self::Vfio, Self::Uio].map(Self::name).contains(&driver)
    }
}

/// Longest that a driver may take to let go of a device or to take it.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 20 });

/// Why a device keeps the driver it has.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Nothing can be told of the device.
    #[error(transparent)]
    Device(#[from] PciError),
    /// The machine needs it.
    #[error("{address}: {need}: give another device, or --force if you can do without it")]
    Needed {
        /// The device.
        address: PciAddress,
        /// For what.
        need: Need,
    },
    /// vfio-pci takes only what an IOMMU keeps in bounds.
    #[error(
        "{0}: in no IOMMU group, so vfio-pci will not take it: `sumac doctor {0}` tells what is missing"
    )]
    NoGroup(PciAddress),
    /// An IOMMU keeps it in bounds: there is no need to do without.
    #[error(
        "{0}: an IOMMU translates for it, so it is of no use without one: `sumac bind {0}` gives it to vfio-pci"
    )]
    Translated(PciAddress),
    /// A process has it open.
    #[error("{address}: in use by {holder}: end that first (`kill {}`)", holder.process)]
    Held {
        /// The device.
        address: PciAddress,
        /// Who has it.
        holder: Holder,
    },
    /// The kernel has it.
    #[error("{address}: bound neither to vfio-pci nor to uio_pci_generic but to {}: nothing to undo", driver.as_deref().unwrap_or("no driver"))]
    NotBound {
        /// The device.
        address: PciAddress,
        /// What has it.
        driver: Option<String>,
    },
    /// A module is not there or does not load.
    #[error(
        "module {module}: {reason}: install the modules of this kernel, or take one that has them"
    )]
    Module {
        /// Which one.
        module: String,
        /// What modprobe said.
        reason: String,
    },
    /// The kernel refused a step.
    #[error("{address}: {step}: {reason}{}", remedy(reason))]
    Refused {
        /// The device.
        address: PciAddress,
        /// Which step.
        step: &'static str,
        /// What it said.
        reason: io::Error,
    },
    /// A driver did not come to an end with a step.
    #[error(
        "{address}: {step} takes more than {} s: {driver} hangs, and keeps process {process}: `dmesg` and `sudo cat /proc/{process}/stack` tell where; the device is of no use until that process is gone, by itself or with a restart of the machine", PATIENCE.as_secs()
    )]
    TooLong {
        /// The device.
        address: PciAddress,
        /// Which step.
        step: &'static str,
        /// The driver.
        driver: String,
        /// The process that is left behind in the step.
        process: u32,
    },
    /// Every step was done, and yet the driver does not have the device.
    #[error("{address}: {driver} did not take it: `dmesg | grep {address}` tells why")]
    NotTaken {
        /// The device.
        address: PciAddress,
        /// The driver that should have it.
        driver: String,
    },
    /// A file for a user does not appear or cannot be handed over.
    #[error("{address}: handing {} to {user}: {reason}", file.display())]
    HandOver {
        /// The device.
        address: PciAddress,
        /// The file.
        file: PathBuf,
        /// To whom.
        user: String,
        /// What went wrong.
        reason: io::Error,
    },
}

impl BindError {
    /// Whether it is what was asked for that is wrong, rather than the machine.
    pub fn is_input(&self) -> bool {
        use BindError::{Device, Held, Needed, NoGroup, NotBound, Translated};
        matches!(
            self,
            Device(_) | Held { .. } | Needed { .. } | NoGroup(_) | NotBound { .. } | Translated(_)
        )
    }
}

fn remedy(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::PermissionDenied => "; run it as root (sudo)",
        _ => "; `dmesg` may tell why",
    }
}

/// Gives a device to a driver that leaves it to processes, and remembers what of the kernel's had it; nothing to do
/// if that driver has it. Needs by the machine count only without `force`. If it is not taken, its former driver
/// gets it back.
///
/// # Errors
/// [`BindError`].
pub fn bind(
    tree: &Tree,
    address: PciAddress,
    to: UserDriver,
    force: bool,
) -> Result<PciDevice, BindError> {
    let device = PciDevice::read(tree, address)?;
    if device.driver.as_deref() == Some(to.name()) {
        return Ok(device);
    }
    if let Some(need) = in_use::needs(tree, &device)
        .into_iter()
        .next()
        .filter(|_| !force)
    {
        return Err(BindError::Needed { address, need });
    }
    match to {
        UserDriver::Vfio if device.group.is_none() && !is_noiommu_allowed(tree) => {
            return Err(BindError::NoGroup(address));
        }
        UserDriver::Uio if device.group.is_some() => return Err(BindError::Translated(address)),
        _ => {}
    }
    refuse_held(tree, &device)?;
    for module in to.modules() {
        match load_module(tree, module) {
            // Devices come into its address spaces where there are no containers.
            Err(_) if *module == MODULES[1] && tree.path(IOMMUFD).exists() => {}
            loaded => loaded?,
        }
    }
    // One that goes from process to process keeps what is remembered of it.
    if !device.is_handed_over() {
        remember(tree, &device)?;
    }
    let steps = Steps { tree, address };
    let moved = steps
        .set_override(to.name())
        .and_then(|()| steps.move_to(to.name()));
    match moved {
        Ok(()) => Ok(PciDevice::read(tree, address)?),
        // What would be next waits for the same driver.
        Err(error @ BindError::TooLong { .. }) => Err(error),
        Err(error) => {
            // What went wrong first is what matters; the kernel's driver takes it back if it can.
            let _ = restore(
                &steps,
                Some(device.driver.as_deref().unwrap_or_default()),
                &device.modalias,
            );
            Err(error)
        }
    }
}

/// Gives a device back to the driver it had before; to whichever of the kernel's fits if that is not known.
///
/// # Errors
/// [`BindError`]; with [`BindError::NotBound`] for a device that the kernel has.
pub fn unbind(tree: &Tree, address: PciAddress) -> Result<PciDevice, BindError> {
    let device = PciDevice::read(tree, address)?;
    if !device.is_handed_over() {
        let driver = device.driver;
        return Err(BindError::NotBound { address, driver });
    }
    refuse_held(tree, &device)?;
    let memory = tree.path(REMEMBERED).join(address.to_string());
    let former = super::tree::read(&memory).ok();
    let steps = Steps { tree, address };
    restore(&steps, former.as_deref(), &device.modalias)?;
    // A stale memory would be overwritten by the next bind; it harms nobody.
    let _ = fs::remove_file(memory);
    Ok(PciDevice::read(tree, address)?)
}

fn refuse_held(tree: &Tree, device: &PciDevice) -> Result<(), BindError> {
    let address = device.address;
    let mut holders = in_use::holders(tree, device).into_iter();
    (holders.next()).map_or(Ok(()), |holder| Err(BindError::Held { address, holder }))
}

/// Makes a user the owner of the files through which a process takes a device, and of `/dev/iommu` where the kernel has
/// files for devices alone. Gives them a moment to appear.
///
/// # Errors
/// [`BindError::HandOver`].
pub fn hand_over(
    tree: &Tree,
    device: &PciDevice,
    user: &str,
    uid: u32,
) -> Result<Vec<PathBuf>, BindError> {
    let start = Instant::now();
    let mut files = loop {
        let files = device.vfio_files(tree);
        if !files.is_empty() || start.elapsed() > Duration::from_secs(2) {
            break files;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let fail = |file: PathBuf, reason: io::Error| BindError::HandOver {
        address: device.address,
        file,
        user: user.to_owned(),
        reason,
    };
    if files.is_empty() {
        return Err(fail(tree.path("dev/vfio"), io::ErrorKind::NotFound.into()));
    }
    if device.own_file(tree).is_some() && tree.path(IOMMUFD).exists() {
        files.push(IOMMUFD.into());
    }
    for file in &files {
        std::os::unix::fs::chown(tree.path(file), Some(uid), None)
            .map_err(|reason| fail(file.clone(), reason))?;
    }
    Ok(files)
}

/// Whether vfio may hand over devices without an IOMMU.
pub fn is_noiommu_allowed(tree: &Tree) -> bool {
    tree.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
        .as_deref()
        == Some("Y")
}

/// Whether a module is loaded or part of the kernel.
pub fn is_module_there(tree: &Tree, module: &str) -> bool {
    tree.path("sys/module")
        .join(module.replace('-', "_"))
        .is_dir()
}

fn load_module(tree: &Tree, module: &str) -> Result<(), BindError> {
    if is_module_there(tree, module) {
        return Ok(());
    }
    let fail = |reason: String| BindError::Module {
        module: module.to_owned(),
        reason,
    };
    // Not every user's PATH has it, and a shell as root by `su` may lack it too.
    let places = ["modprobe", "/sbin/modprobe", "/usr/sbin/modprobe"];
    let started = places
        .iter()
        .find_map(|place| Command::new(place).arg(module).output().ok());
    let output = started.ok_or_else(|| fail("no modprobe on this machine".into()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(fail(
        said.lines()
            .next()
            .unwrap_or("modprobe failed")
            .trim()
            .to_owned(),
    ))
}

/// Writes down which driver has a device.
fn remember(tree: &Tree, device: &PciDevice) -> Result<(), BindError> {
    let folder = tree.path(REMEMBERED);
    let file = folder.join(device.address.to_string());
    let text = device.driver.clone().unwrap_or_default();
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, text + "\n"));
    written.map_err(|reason| BindError::Refused {
        address: device.address,
        step: "remembering its driver in /run/sumac",
        reason,
    })
}

/// Back to the driver that had it; to none if it had none (an empty name), to whatever fits if nobody knows.
fn restore(steps: &Steps<'_>, former: Option<&str>, modalias: &str) -> Result<(), BindError> {
    // One that left it to processes may have it by that name only.
    let only = former.filter(|driver| UserDriver::is_one(driver));
    steps.set_override(only.unwrap_or_default())?;
    match former {
        Some("") => steps.release(),
        Some(driver) => {
            if !steps.tree.path(DRIVERS).join(driver).is_dir() {
                load_module(steps.tree, driver)?;
            }
            steps.move_to(driver)
        }
        None => {
            // Where there is no module for it, no driver is what it gets.
            if !modalias.is_empty() {
                let _ = load_module(steps.tree, modalias);
            }
            steps.release()?;
            steps.probe()
        }
    }
}

/// The writes to sysfs that move a device.
struct Steps<'a> {
    tree: &'a Tree,
    address: PciAddress,
}

impl Steps<'_> {
    fn folder(&self) -> PathBuf {
        Path::new("sys/bus/pci/devices").join(self.address.to_string())
    }

    fn driver(&self) -> Option<String> {
        self.tree.link_name(self.folder().join("driver"))
    }

    /// An empty line takes the override away.
    fn set_override(&self, driver: &str) -> Result<(), BindError> {
        let file = self.folder().join("driver_override");
        self.write(
            "naming the driver it may have",
            file,
            &format!("{driver}\n"),
        )
    }

    /// Takes it from the driver that has it, if any has.
    fn release(&self) -> Result<(), BindError> {
        if self.driver().is_none() {
            return Ok(());
        }
        let file = self.folder().join("driver/unbind");
        self.write("taking it from its driver", file, &self.address.to_string())
    }

    /// Lets drivers look at it.
    fn probe(&self) -> Result<(), BindError> {
        let file = "sys/bus/pci/drivers_probe".into();
        self.write("offering it to drivers", file, &self.address.to_string())
    }

    /// From the driver that has it to another, which is there and may have it.
    fn move_to(&self, driver: &str) -> Result<(), BindError> {
        if self.driver().as_deref() == Some(driver) {
            return Ok(());
        }
        self.release()?;
        let file = Path::new(DRIVERS).join(driver).join("bind");
        self.write("handing it to a driver", file, &self.address.to_string())?;
        match self.driver() {
            Some(has) if has == driver => Ok(()),
            _ => Err(BindError::NotTaken {
                address: self.address,
                driver: driver.to_owned(),
            }),
        }
    }

    /// A driver can take long to let go, and one that hangs never returns from the write.
    fn write(&self, step: &'static str, file: PathBuf, text: &str) -> Result<(), BindError> {
        let address = self.address;
        write(self.tree.path(file), text, PATIENCE).map_err(|error| match error {
            WriteError::Refused(reason) => BindError::Refused {
                address,
                step,
                reason,
            },
            WriteError::Hangs(process) => BindError::TooLong {
                address,
                step,
                driver: self.driver().unwrap_or_else(|| "its driver".to_owned()),
                process,
            },
        })
    }
}
