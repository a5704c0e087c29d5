//! Why devices cannot be opened.

use sumac_devices::memory::WindowError;
use sumac_devices::wire::WireError;

use super::software::known_ids;
use crate::cores::CoreError;
use crate::noiommu::NoIommuError;
use crate::spec::SpecError;
use crate::vfio::VfioError;
use crate::vfio_user::VfioUserError;

/// Why devices cannot be opened. Each is one line that names the device and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The specs contradict each other.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A PCI device.
    #[error(transparent)]
    Vfio(#[from] VfioError),
    /// A PCI device that is to be used without an IOMMU.
    #[error(transparent)]
    NoIommu(#[from] NoIommuError),
    /// A device that another process serves.
    #[error(transparent)]
    VfioUser(#[from] VfioUserError),
    /// A device of a kind that cannot be used for what is asked.
    #[error(
        "{spec}: only software devices can be used for this; give `sim` or `sim:KEY=VALUE,...`"
    )]
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
    /// A software device that went away has not come back.
    #[error("{spec}: the device is gone")]
    StillGone {
        /// The spec.
        spec: String,
    },
    /// A device that came back does not take the memory that drivers have.
    #[error("{spec}: memory for devices: {reason}")]
    Memoryless {
        /// The spec.
        spec: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A software device behind a shared BAR, which is to go away.
    #[error(
        "{spec}: a card that a process drives through a shared BAR does not go away by itself: leave gone= and back= out"
    )]
    GoneElsewhere {
        /// The spec.
        spec: String,
    },
}
