//! `sumac bind` and `sumac unbind`: devices to vfio-pci or uio_pci_generic, and back to the kernel's driver.

use std::path::PathBuf;

use clap::Args;
use nix::unistd::User;
use sumac_linux::pci::binding::{self, BindError, UserDriver};
use sumac_linux::pci::{IommuGroup, PciDevice, Tree};
use sumac_linux::spec::{PciAddress, SpecError};

use crate::caller::Caller;
use crate::{Trouble, output};

/// What is given up by binding without an IOMMU.
const UNPROTECTED: &str = "no IOMMU keeps it in bounds: it can read and overwrite all memory of this machine, and so can a mistake of \
    whatever drives it; only root can use it, by `l2fwd --unsafe-noiommu`";

/// What `sumac bind` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Loads the driver's module if need be. The former driver is remembered in /run/sumac/bound, and `sumac unbind` gives the\n\
        device back to it. A network interface of the device is gone while it is bound.\n\n\
        Examples:\n  \
        sudo sumac bind 0000:03:00.0 0000:03:00.1      # both ports of a card\n  \
        sudo sumac bind --user $USER 0000:03:00.0      # then applications run without root\n  \
        sudo sumac bind --unsafe-noiommu 0000:03:00.0  # where there is no IOMMU, at your own risk"
)]
pub struct BindOptions {
    /// The devices, by their PCI addresses (`sumac devices`).
    #[arg(required = true, value_name = "BDF", value_parser = address)]
    devices: Vec<PciAddress>,
    /// Also everything else in their IOMMU groups: a group goes to a process whole.
    #[arg(long)]
    group: bool,
    /// Even if the default route or a mounted disk is lost with it.
    #[arg(long)]
    force: bool,
    /// To uio_pci_generic and not to vfio-pci: for devices that no IOMMU translates for, which only `l2fwd
    /// --unsafe-noiommu` takes. Gives up what keeps a device from memory that is not the program's: the device, or
    /// a mistake of its driver, can read and overwrite anything on this machine.
    #[arg(long, conflicts_with_all = ["user", "group"])]
    unsafe_noiommu: bool,
    /// Who may use them without root: a user's name or number.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// What `sumac unbind` takes.
#[derive(Debug, Args)]
pub struct UnbindOptions {
    /// The devices, by their PCI addresses.
    #[arg(required = true, value_name = "BDF", value_parser = address)]
    devices: Vec<PciAddress>,
}

/// A PCI address as an argument.
///
/// # Errors
/// How one is written.
pub fn address(text: &str) -> Result<PciAddress, String> {
    text.parse().map_err(|()| {
        SpecError::BadPciAddress {
            spec: text.to_owned(),
        }
        .to_string()
    })
}

impl From<BindError> for Trouble {
    fn from(error: BindError) -> Self {
        match error.is_input() {
            true => Self::Input(error.to_string()),
            false => Self::Machine(error.to_string()),
        }
    }
}

/// Binds devices to vfio-pci or to uio_pci_generic.
///
/// # Errors
/// [`Trouble`] with the first that cannot be; those before it stay bound.
pub fn bind(options: &BindOptions, tree: &Tree, caller: &Caller) -> Result<(), Trouble> {
    let user = options.user.as_deref().map(user).transpose()?;
    let to = match options.unsafe_noiommu {
        true => UserDriver::Uio,
        false => UserDriver::Vfio,
    };
    for address in with_groups(options, tree)? {
        let before = read(tree, address)?;
        let after = binding::bind(tree, address, to, options.force)?;
        let files = match &user {
            Some((name, uid)) => binding::hand_over(tree, &after, name, *uid)?,
            None => after.files(tree),
        };
        output::print(&told(&before, &after, &files, options.user.as_deref()))?;
        match to {
            UserDriver::Vfio => warn_of_others(tree, &after, caller),
            UserDriver::Uio => output::tell(&format!("{address}: {UNPROTECTED}")),
        }
    }
    Ok(())
}

fn read(tree: &Tree, address: PciAddress) -> Result<PciDevice, Trouble> {
    PciDevice::read(tree, address).map_err(|error| Trouble::Input(error.to_string()))
}

/// The devices asked for, and what is in their groups and in the way if that is wanted.
fn with_groups(options: &BindOptions, tree: &Tree) -> Result<Vec<PciAddress>, Trouble> {
    let mut addresses = options.devices.clone();
    for address in &options.devices {
        let device = read(tree, *address)?;
        let Some(group) = device.group.filter(|_| options.group) else {
            continue;
        };
        let group = IommuGroup::read(tree, group);
        let others: Vec<PciAddress> = group
            .in_the_way(*address)
            .filter_map(|member| member.address)
            .collect();
        addresses.extend(others);
    }
    let mut seen = Vec::new();
    addresses.retain(|address| {
        let new = !seen.contains(address);
        seen.push(*address);
        new
    });
    Ok(addresses)
}

/// A user's name and number.
fn user(name: &str) -> Result<(String, u32), Trouble> {
    if let Ok(uid) = name.parse() {
        return Ok((name.to_owned(), uid));
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok((name.to_owned(), user.uid.as_raw())),
        Ok(None) => Err(Trouble::Input(format!(
            "no user `{name}`: give a name that `getent passwd` lists, or a number"
        ))),
        Err(error) => Err(Trouble::Machine(format!(
            "looking for user `{name}`: {error}"
        ))),
    }
}

fn told(before: &PciDevice, after: &PciDevice, files: &[PathBuf], user: Option<&str>) -> String {
    let was = before.driver.as_deref().unwrap_or("no driver");
    let is = after.driver.as_deref().unwrap_or("no driver");
    let files: Vec<String> = files
        .iter()
        .map(|file| format!("/{}", file.display()))
        .collect();
    let files = match (files.is_empty(), user) {
        (true, _) => String::new(),
        (false, None) => format!(" ({})", files.join(", ")),
        (false, Some(user)) => format!(" ({}, for {user})", files.join(", ")),
    };
    match was == is {
        true => format!("{}: with {is} already{files}\n", after.address),
        false => format!("{}: from {was} to {is}{files}\n", after.address),
    }
}

/// A group with another driver's device in it cannot be used yet.
fn warn_of_others(tree: &Tree, device: &PciDevice, caller: &Caller) {
    let Some(number) = device.group else { return };
    let group = IommuGroup::read(tree, number);
    let others: Vec<String> = group
        .in_the_way(device.address)
        .map(|member| {
            format!(
                "{} with {}",
                member.name,
                member.driver.as_deref().unwrap_or_default()
            )
        })
        .collect();
    if !others.is_empty() {
        output::tell(&format!(
            "{}: group {number} cannot be used yet, for it also holds {}: `{}`",
            device.address,
            others.join(", "),
            caller.sumac_as_root(&format!("bind --group {}", device.address))
        ));
    }
}

/// Gives devices back to the drivers they had.
///
/// # Errors
/// [`Trouble`] with the first that cannot be.
pub fn unbind(options: &UnbindOptions, tree: &Tree) -> Result<(), Trouble> {
    for address in &options.devices {
        let before = read(tree, *address)?;
        let after = binding::unbind(tree, *address)?;
        output::print(&told(&before, &after, &[], None))?;
    }
    Ok(())
}
