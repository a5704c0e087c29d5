//! The Linux host: what a program needs around drivers, and drivers need of Linux.
//!
//! - [`spec`]: how users name devices; [`open`] turns names into devices a driver can take.
//! - [`cores`]: which processors there are, and pinning threads to them.
//! - [`dma`]: memory that devices outside this process reach.
//! - [`image`]: memory for domain images.
//! - [`interrupts`]: what a thread sleeps on until a device rings.
//! - [`pci`]: PCI devices as Linux shows them, and how one changes its driver.
//! - [`vfio`], [`vfio_user`]: devices bound to vfio-pci, and those that other processes serve.
//! - [`time`]: the clock behind bounded waits, and the processor's tick counter.
//! - [`domains`]: this process as a host of domains.
//! - [`grant`]: a device handed to a driver in a domain of its own, and taken back when that is gone.
//! - [`trust`]: whose domain files this user loads.
//! - [`signals`]: a clean stop on SIGINT and SIGTERM.
// UNSAFETY: reading the tick counter, handling signals and lending memory to domains have no safe form.
#![expect(unsafe_code)]
#![expect(
    clippy::single_range_in_vec_init,
    reason = "lists here are of ranges of addresses, some of one range"
)]

mod bar;
pub mod cores;
pub mod dma;
pub mod domains;
mod function;
pub mod grant;
pub mod image;
pub mod interrupts;
pub mod logging;
pub mod noiommu;
pub mod open;
pub mod pci;
pub mod signals;
pub mod spec;
pub mod time;
pub mod trust;
pub mod vfio;
pub mod vfio_user;

pub use cores::{CoreError, CoreList};
pub use image::LinuxImages;
pub use interrupts::{Bell, Interrupts};
pub use open::{OpenError, OpenPort, OpenPorts, SoftwareDevice};
pub use signals::Stop;
pub use spec::{DeviceSpec, SpecError};
pub use time::{LinuxClock, TickCounter, TickRate};
