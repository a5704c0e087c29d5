//! A plain shared BAR behind a fake sysfs tree: unmodified third-party drivers attach to it.
//!
//! [`SharedBar`] makes a register file for each port, starts a driver in a mount namespace where
//! `/sys`, `/dev` and `/run` show those ports (`sysfs`, `namespace`), finds the process that maps
//! a BAR and shows the device its huge pages (`attach`, `memory`). [`SharedPorts`] are the devices
//! behind the BARs; [`SharedBar::watch`] looks who comes and goes.
//!
//! What a plain BAR cannot do: trap an access. Counters are not cleared by reading, bits are not
//! cleared by writing one. Linux only; needs root.
// UNSAFETY: a BAR is memory shared with another process; a forked child makes raw system calls.
#![expect(unsafe_code)]

mod attach;
mod bar;
mod huge_pages;
mod memory;
mod namespace;
mod ports;
mod sysfs;

use std::process::{Child, Command};
use std::sync::Arc;

pub use bar::BarMemory;
pub use huge_pages::Reservation;
pub use memory::{DriverMemory, Watch};
pub use ports::SharedPorts;
pub use sysfs::HUGE_DIRECTORY;

/// What a port says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortIdentity {
    /// PCI device id.
    pub device: u16,
    /// PCI subsystem device id; the vendor is Intel.
    pub subsystem: u16,
}

impl PortIdentity {
    /// A port with this device id.
    pub const fn new(device: u16) -> Self {
        Self {
            device,
            subsystem: 0,
        }
    }
}

/// What keeps a driver from attaching.
#[derive(Debug, thiserror::Error)]
pub enum SharedBarError {
    /// The machine has too few huge pages, and none can be reserved.
    #[error("huge pages: {0}")]
    HugePages(String),
    /// The kernel refused a mapping.
    #[error("cannot map {what}: {source}")]
    Map {
        /// What was to be mapped.
        what: String,
        /// What the kernel said.
        source: nix::errno::Errno,
    },
    /// A huge page of the driver could not be shown to the device.
    #[error("the driver's memory: {0}")]
    Window(#[from] crate::memory::WindowError),
    /// A driver is there, but its memory cannot be looked at.
    #[error("cannot look at the memory of process {process}: {source}: run as root")]
    Attach {
        /// The driver's process.
        process: u32,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The driver could not be started.
    #[error(
        "cannot start {command} in a mount namespace of its own: {source}: is it installed, and are you root?"
    )]
    Spawn {
        /// The program.
        command: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A path with a NUL byte inside.
    #[error("{0:?} cannot be a path")]
    BadPath(String),
}

/// Software ports that a third-party driver can map.
pub struct SharedBar {
    identities: Vec<PortIdentity>,
    bars: Vec<Arc<BarMemory>>,
    memory: Arc<DriverMemory>,
}

impl SharedBar {
    /// Makes one port for each identity. The first is `0000:01:00.0`, the next `0000:02:00.0`.
    ///
    /// # Errors
    /// [`SharedBarError::Map`] without memory for the BARs or addresses for the window.
    pub fn new(identities: &[PortIdentity]) -> Result<Self, SharedBarError> {
        let bars = identities
            .iter()
            .map(|_| BarMemory::new().map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let memory = Arc::new(DriverMemory::new(&bars)?);
        Ok(Self {
            identities: identities.to_vec(),
            bars,
            memory,
        })
    }

    /// The PCI address of port `port`, as the driver sees it.
    pub fn address(&self, port: usize) -> String {
        sysfs::pci_address(port)
    }

    /// What the ports say they are.
    pub fn identities(&self) -> &[PortIdentity] {
        &self.identities
    }

    /// The registers of each port.
    pub fn registers(&self) -> &[Arc<BarMemory>] {
        &self.bars
    }

    /// The memory of whichever driver is attached.
    pub fn memory(&self) -> &Arc<DriverMemory> {
        &self.memory
    }

    /// Starts `command` where it finds the ports, and only them. Standard streams and environment are
    /// as `command` says. The process is killed when the calling thread ends.
    ///
    /// # Errors
    /// [`SharedBarError::Spawn`], above all when not root.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, SharedBarError> {
        let paths: Vec<_> = self.bars.iter().map(|bar| bar.path()).collect();
        namespace::spawn(command, sysfs::plan(&self.identities, &paths)?)
    }

    /// Starts looking for a driver.
    pub fn watch(&self) -> Watch {
        Watch::start(self.memory.clone())
    }
}
