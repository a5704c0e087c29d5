//! Which of the kernel's two ways into VFIO is taken.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::sync::Arc;

use super::VfioError;
use super::container::Container;
use super::ioas::Ioas;
use super::space::{Joined, Space};
use crate::pci::{PciDevice, Tree};

/// Names the way, for those who do not leave it to this crate.
const VARIABLE: &str = "SUMAC_VFIO";

/// By which of the kernel's files devices are taken. What a device can do then is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// By their IOMMU groups, into a container: `/dev/vfio/vfio` and `/dev/vfio/GROUP`.
    Group,
    /// Each by its own file, into an address space of iommufd: `/dev/iommu` and `/dev/vfio/devices/vfioN`
    /// (Linux 6.6).
    Cdev,
}

impl Access {
    /// What `SUMAC_VFIO` asks for; none where it is not set.
    pub(super) fn asked_for() -> Result<Option<Self>, VfioError> {
        env::var_os(VARIABLE)
            .as_deref()
            .map(Self::named)
            .transpose()
    }

    fn named(name: &OsStr) -> Result<Self, VfioError> {
        [Self::Group, Self::Cdev]
            .into_iter()
            .find(|access| name == access.name())
            .ok_or_else(|| VfioError::Access(name.to_string_lossy().into_owned()))
    }

    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Cdev => "cdev",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A space, and the devices that were put into it, in their order.
pub(super) type Taken = (Arc<dyn Space>, Vec<Joined>);

/// Takes devices, of which `first` is one, in the way asked for; otherwise each by its own file where that can be had,
/// and by their groups where not.
pub(super) fn take(
    tree: &Tree,
    asked: Option<Access>,
    first: &PciDevice,
    devices: &[PciDevice],
) -> Result<Taken, VfioError> {
    let by_cdev = || put(tree, Arc::new(Ioas::create(tree, first.address)?), devices);
    let by_group = || {
        put(
            tree,
            Arc::new(Container::create(tree, first.address)?),
            devices,
        )
    };
    match asked {
        Some(Access::Cdev) => by_cdev(),
        Some(Access::Group) => by_group(),
        None => match by_cdev() {
            Ok(taken) => Ok(taken),
            // Nor could the group be had, and it is less exact about who has it.
            Err(error @ VfioError::InUse { .. }) => Err(error),
            Err(error) => by_group().map_err(|of_group| telling(error, of_group)),
        },
    }
}

fn put(tree: &Tree, space: Arc<dyn Space>, devices: &[PciDevice]) -> Result<Taken, VfioError> {
    let joined = (devices.iter())
        .map(|device| Arc::clone(&space).device(tree, device))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((space, joined))
}

/// Which error is to be shown where neither way is open: that of groups, unless the kernel has none.
fn telling(of_cdev: VfioError, of_group: VfioError) -> VfioError {
    use VfioError::{NoIommufd, NoOwnFile, NoVfio};
    match (&of_cdev, &of_group) {
        (NoIommufd { .. } | NoOwnFile(_), _) => of_group,
        (_, NoVfio(_)) => of_cdev,
        _ => of_group,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_asked_for_by_its_name() {
        for access in [Access::Group, Access::Cdev] {
            let named = Access::named(OsStr::new(access.name()));
            assert_eq!(named.ok(), Some(access));
        }
        for name in ["", "iommufd", "Group", "cdev "] {
            let error = Access::named(OsStr::new(name)).expect_err("no such way");
            let line = error.to_string();
            assert!(line.starts_with(&format!("SUMAC_VFIO={name}: ")), "{line}");
        }
    }
}
