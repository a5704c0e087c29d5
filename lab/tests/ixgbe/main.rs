//! Linux's unmodified `ixgbe` in a guest, on software 82599s that the guest plugs in: the judge of the device.
//! The cards are strict: a broken rule of the datasheet fails the test.

mod guest;
mod modules;
mod self_test;
mod traffic;
