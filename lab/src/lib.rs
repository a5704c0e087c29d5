//! The QEMU lab: Linux guests in which drivers meet a PCI bus, an IOMMU and each other.
//!
//! A test asks for the [`Lab`], puts what it needs into an [`Image`], describes a [`Machine`] and boots it. The
//! guest runs the test's shell script and ends with its exit code:
//!
//! ```no_run
//! use sumac_lab::{Image, Lab, Machine};
//!
//! let Some(lab) = Lab::open("vfio_group_appears") else { return };
//! let mut image = Image::new(&lab);
//! let mut machine = Machine::new();
//! let nic = machine.iommu(48).device(serde_json::json!({ "driver": "igb" }));
//! image.modules(&["vfio-pci", "vfio_iommu_type1"]);
//! image.script(&format!("set -e; bind-vfio {}; ls /dev/vfio", nic.address));
//! machine.boot(&lab, &image).finish().assert_code(0);
//! ```
//!
//! - [`Lab`]: QEMU, a Debian kernel, busybox and a few programs, fetched once into `target/lab`, a folder for each recipe;
//! - [`kernel`]: one with iommufd, built for tests that need it;
//! - [`Image`]: what is in the guest; [`Program`]s of this workspace come with their libraries;
//! - [`Machine`]: the guest's memory, cores, IOMMU and devices;
//! - [`Guest`]: a guest that runs: its console, its monitor ([`qmp`]), its end;
//! - [`Served`]: software 82599s to plug in;
//! - [`Process`]: a program that runs beside it on the host, such as a device's server.
//!
//! Invariants: nothing is installed and nothing outside `target/lab` and the temporary folder is written; every
//! guest and every process is gone when its value is dropped, or the thread that started it has ended, by whatever; a
//! guest that takes too long says what it is at, or is stopped, and its console shown. KVM is never asked for.
#![forbid(unsafe_code)]

mod apt;
mod console;
mod cpio;
mod error;
mod guest;
mod image;
pub mod kernel;
mod library;
mod machine;
mod module;
mod part;
mod process;
mod program;
pub mod qmp;
mod served;
mod tools;

pub use console::Console;
pub use error::LabError;
pub use guest::{Ended, Guest};
pub use image::Image;
pub use machine::{Machine, Slot};
pub use process::Process;
pub use program::Program;
pub use qmp::Monitor;
pub use served::{Carried, Served};
pub use tools::{Lab, fetch, folder, packages};
