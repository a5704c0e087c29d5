//! DPDK's unmodified `testpmd` in a guest, on software 82599s that the guest plugs in: by vfio-pci, behind the
//! IOMMU. What goes in comes from capture files and what comes out goes to others, so every byte is compared.
//! The cards are strict: a broken rule of the datasheet fails the test.

mod forward;
#[path = "../../../apps/l2fwd/tests/e2e/frames.rs"]
mod frames;
mod session;
mod traffic;
