//! Our `l2fwd` in a guest, on software 82599s that the guest plugs in: through VFIO, behind the IOMMU.
//!
//! What goes in comes from capture files and what comes out goes to others, so every byte is compared. The cards
//! are strict: a broken rule of the datasheet fails the test; and so does a fault that the IOMMU reports.

mod cdev;
mod forward;
#[path = "../../../apps/l2fwd/tests/e2e/frames.rs"]
mod frames;
mod idle;
mod iommu;
mod noiommu;
mod refused;
mod removal;
mod setup;
#[path = "../testpmd/traffic.rs"]
mod traffic;
