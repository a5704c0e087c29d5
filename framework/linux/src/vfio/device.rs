//! One device that vfio-pci has: registers, configuration space, interrupts, reset.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use sumac_device::{Bar, DeviceBacking, DeviceControl, DmaSpace, PciId};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX,
};

use super::region::RegionInfo;
use super::space::{DeviceFile, system};
use super::{VfioError, sys};
use crate::bar::{Area, Calls, MappedBar};
use crate::function::{self, Config};
use crate::interrupts::{Bell, Interrupts};
use crate::pci::PciDevice;
use crate::spec::PciAddress;
use crate::time::LinuxClock;

/// A device of this process's.
pub(crate) struct VfioDevice {
    address: PciAddress,
    file: Arc<DeviceFile>,
    resets: bool,
    bar: Bar,
    config: FileConfig,
    id: PciId,
}

/// Configuration space within the device's file.
struct FileConfig {
    file: Arc<DeviceFile>,
    region: RegionInfo,
}

/// Registers within the device's file.
struct FileRegisters {
    file: Arc<DeviceFile>,
    region: RegionInfo,
}

impl VfioDevice {
    /// Takes over the device behind `file`, in an unknown state: resets it, and lets it do DMA.
    pub fn new(device: &PciDevice, file: DeviceFile) -> Result<Self, VfioError> {
        let address = device.address;
        let failed = |what| move |error| system(address, what, error);
        let unfit = |reason| VfioError::Unfit {
            device: address,
            reason,
        };
        let info = sys::device_info(&file).map_err(failed("asking what the device is"))?;
        if info.flags & VFIO_DEVICE_FLAGS_PCI == 0 {
            return Err(unfit("VFIO does not show it as a PCI device"));
        }
        let file = Arc::new(file);
        let region = |index| {
            let bytes = sys::region_info(&file, index)?;
            RegionInfo::parse(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
        };
        let registers = region(VFIO_PCI_BAR0_REGION_INDEX).map_err(failed("asking about BAR 0"))?;
        if !registers.is_registers() {
            return Err(unfit("its BAR 0 holds no registers"));
        }
        let config = FileConfig {
            file: Arc::clone(&file),
            region: region(VFIO_PCI_CONFIG_REGION_INDEX)
                .map_err(failed("asking about configuration space"))?,
        };
        let bar = map(&file, registers).map_err(failed("mapping BAR 0"))?;
        let opened = Self {
            address,
            resets: info.flags & VFIO_DEVICE_FLAGS_RESET != 0,
            bar,
            config,
            id: device.id,
            file,
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
        function::halt(
            &self.config,
            self.id,
            &self.bar,
            &LinuxClock,
            || match self.resets {
                true => sys::reset(&self.file),
                false => Err(io::ErrorKind::Unsupported.into()),
            },
        )
    }
}

fn set_events(file: &File, index: u32, events: &[BorrowedFd<'_>]) -> io::Result<()> {
    let data = match events {
        [] => VFIO_IRQ_SET_DATA_NONE,
        _ => VFIO_IRQ_SET_DATA_EVENTFD,
    };
    sys::set_interrupts(file, index, VFIO_IRQ_SET_ACTION_TRIGGER | data, events)
}

/// The register BAR, mapped where VFIO offers it.
fn map(file: &Arc<DeviceFile>, region: RegionInfo) -> io::Result<Bar> {
    let areas = region.areas.iter().map(|area| {
        let len = (area.end - area.start) as u32;
        Area::map(
            file.as_fd(),
            region.position(area.start)?,
            area.start as u32,
            len,
        )
    });
    let areas = areas.collect::<io::Result<Vec<_>>>()?;
    let len = region.size as u32;
    let rest = FileRegisters {
        file: Arc::clone(file),
        region,
    };
    Ok(Bar::new(Arc::new(MappedBar::new(len, areas, rest))))
}

impl Calls for FileRegisters {
    fn read32(&self, offset: u32) -> u32 {
        let mut bytes = [0; 4];
        let position = self.region.position(offset.into());
        match position.and_then(|at| self.file.read_exact_at(&mut bytes, at)) {
            Ok(()) => u32::from_ne_bytes(bytes),
            Err(_) => u32::MAX,
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        let position = self.region.position(offset.into());
        // A device that is gone loses writes.
        let _ = position.and_then(|at| self.file.write_all_at(&value.to_ne_bytes(), at));
    }
}

impl Config for FileConfig {
    fn read(&self, offset: u16, bytes: &mut [u8]) -> io::Result<()> {
        self.file
            .read_exact_at(bytes, self.region.position(offset.into())?)
    }

    fn write(&self, offset: u16, bytes: &[u8]) -> io::Result<()> {
        self.file
            .write_all_at(bytes, self.region.position(offset.into())?)
    }
}

impl DeviceControl for VfioDevice {
    fn stop(&self) -> bool {
        function::stopped(&self.address, self.halt(), || {
            function::answers(&self.config)
        })
    }

    fn start(&self) {
        if let Err(error) = function::set_bus_master(&self.config, true) {
            log::error!("{}: cannot be let do DMA: {error}", self.address);
        }
    }

    fn is_there(&self) -> bool {
        function::is_there(&self.config, &self.bar)
    }
}

impl Interrupts for VfioDevice {
    fn vectors(&self) -> io::Result<u32> {
        sys::interrupts(&self.file, VFIO_PCI_MSIX_IRQ_INDEX)
    }

    fn connect(&self, bells: &[Arc<Bell>]) -> io::Result<()> {
        let events: Vec<BorrowedFd<'_>> = bells.iter().map(|bell| bell.as_fd()).collect();
        set_events(&self.file, VFIO_PCI_MSIX_IRQ_INDEX, &events)
    }

    fn on_removal(&self, bell: &Bell) -> io::Result<()> {
        set_events(&self.file, VFIO_PCI_REQ_IRQ_INDEX, &[bell.as_fd()])
    }
}
