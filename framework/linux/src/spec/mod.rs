//! The device spec: how a user names a device, for every application, parsed here and nowhere else.
//!
//! | spec | device |
//! |---|---|
//! | `0000:03:00.0`, `03:00.0` | a PCI device bound to vfio-pci |
//! | `vfio-user:SOCKET` | a device served by another process |
//! | `sim`, `sim:KEY[=VALUE],...` | a built-in software device; see [`SimSpec`] |
//!
//! Parsing touches neither files nor devices; [`check_together`] looks at what only a whole command
//! line can get wrong. Display writes the form that parses to the same spec.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

mod error;
mod pci;
mod sim;
mod together;

pub use error::SpecError;
pub use pci::PciAddress;
pub use sim::{GenSpec, Pulled, Rate, SimSpec, WireSpec};
pub use together::check_together;

/// One device, as a user named it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DeviceSpec {
    /// A PCI device bound to vfio-pci.
    Pci(PciAddress),
    /// A device that another process serves on this socket.
    VfioUser(PathBuf),
    /// A built-in software device.
    Sim(SimSpec),
}

impl FromStr for DeviceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let unknown = || SpecError::Unknown {
            spec: text.to_owned(),
        };
        match text.split_once(':') {
            None if text == "sim" => Ok(Self::Sim(SimSpec::default())),
            Some(("sim", keys)) => SimSpec::parse(text, keys).map(Self::Sim),
            Some(("vfio-user", "")) => Err(SpecError::NoSocket),
            Some(("vfio-user", socket)) => Ok(Self::VfioUser(socket.into())),
            Some((start, _)) if start.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                let address = text.parse().map_err(|()| SpecError::BadPciAddress {
                    spec: text.to_owned(),
                })?;
                Ok(Self::Pci(address))
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => address.fmt(f),
            Self::VfioUser(socket) => write!(f, "vfio-user:{}", socket.display()),
            Self::Sim(sim) => sim.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
