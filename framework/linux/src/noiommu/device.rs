//! One device that uio_pci_generic has: registers, configuration space, reset; no interrupts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sumac_device::{Bar, DeviceBacking, DeviceControl, DmaSpace, PciId};

use super::NoIommuError;
use crate::bar::{Area, Calls, MappedBar};
use crate::function::{self, Config};
use crate::pci::{PciDevice, RegionKind, Tree};
use crate::spec::PciAddress;
use crate::time::LinuxClock;

/// A device of this process's.
pub(crate) struct UioDevice {
    address: PciAddress,
    id: PciId,
    bar: Bar,
    config: FileConfig,
    /// Writing to it resets the function; where Linux knows how to.
    reset: PathBuf,
}

struct FileConfig(File);

/// What a process has as long as it has the BAR, beyond which there are no registers.
struct Held {
    /// Closing it ends the device's DMA: Linux does so when the process ends, however it does.
    _uio: File,
    /// One process at a time.
    _registers: Locked,
}

/// A file that is locked until this is dropped, also where a process that was started has it open as well: that goes on
/// until it runs its own program.
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing it is what is left if this fails.
        let _ = self.0.unlock();
    }
}

impl UioDevice {
    /// Takes over a device, in an unknown state: resets it, and lets it do DMA.
    pub fn open(tree: &Tree, device: &PciDevice) -> Result<Self, NoIommuError> {
        let address = device.address;
        let folder = tree.path(device.folder());
        let failed = |what| {
            move |source| NoIommuError::System {
                device: address,
                what,
                source,
            }
        };
        let uio = tree.names(device.folder().join("uio")).into_iter().next();
        let uio = uio.ok_or_else(|| NoIommuError::NotBound {
            device: address,
            driver: device.driver.clone(),
        })?;
        let registers = file(address, &folder.join("resource0"))?;
        // Locked before the other file is opened: closing that one would take the bus from who has the device.
        match registers.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(NoIommuError::InUse(address)),
            Err(TryLockError::Error(error)) => return Err(failed("locking it")(error)),
        }
        let uio = file(address, &tree.path(Path::new("dev").join(uio)))?;
        let config = FileConfig(file(address, &folder.join("config"))?);
        let bar = map(registers, uio, device).map_err(failed("mapping BAR 0"))?;
        let bar = bar.ok_or(NoIommuError::Unfit {
            device: address,
            reason: "its BAR 0 holds no registers",
        })?;
        let opened = Self {
            address,
            id: device.id,
            bar,
            config,
            reset: folder.join("reset"),
        };
        opened.halt().map_err(failed("resetting it"))?;
        function::set_bus_master(&opened.config, true).map_err(failed("letting it do DMA"))?;
        Ok(opened)
    }

    /// What a driver takes.
    pub fn backing(&self, dma: Arc<dyn DmaSpace>) -> DeviceBacking {
        let name = self.address.to_string();
        function::backing(name, self.id, &self.bar, dma)
    }

    /// Ends its DMA, and resets it.
    fn halt(&self) -> io::Result<()> {
        let reset = || {
            let mut file = OpenOptions::new().write(true).open(&self.reset)?;
            file.write_all(b"1")
        };
        function::halt(&self.config, self.id, &self.bar, &LinuxClock, reset)
    }
}

fn file(device: PciAddress, path: &Path) -> Result<File, NoIommuError> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => NoIommuError::Permission {
            device,
            path: path.to_owned(),
        },
        _ => NoIommuError::System {
            device,
            what: "opening its files",
            source,
        },
    })
}

/// The register BAR; none if BAR 0 is something else.
fn map(registers: File, uio: File, device: &PciDevice) -> io::Result<Option<Bar>> {
    let bar = device.regions.iter().find(|region| region.bar == 0);
    let bar = bar.filter(|region| region.kind == RegionKind::Memory);
    let Some(len) = bar.and_then(|region| u32::try_from(region.bytes).ok()) else {
        return Ok(None);
    };
    let area = Area::map(&registers, 0, 0, len)?;
    let held = Held {
        _uio: uio,
        _registers: Locked(registers),
    };
    let bar = MappedBar::new(len, vec![area], held);
    Ok(Some(Bar::new(Arc::new(bar))))
}

impl Calls for Held {
    fn read32(&self, _offset: u32) -> u32 {
        u32::MAX
    }

    fn write32(&self, _offset: u32, _value: u32) {}
}

impl Config for FileConfig {
    fn read(&self, offset: u16, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset.into())
    }

    fn write(&self, offset: u16, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset.into())
    }
}

impl DeviceControl for UioDevice {
    fn stop(&self) -> bool {
        function::stopped(&self.address, self.halt(), || {
            function::answers(&self.config)
        })
    }

    fn is_there(&self) -> bool {
        function::is_there(&self.config, &self.bar)
    }

    fn start(&self) {
        if let Err(error) = function::set_bus_master(&self.config, true) {
            log::error!("{}: cannot be let do DMA: {error}", self.address);
        }
    }
}
