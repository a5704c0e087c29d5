//! What the two ways into VFIO have in common: an address space that a process puts its devices into.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};

use super::{Access, VfioError};
use crate::dma::Reach;
use crate::pci::{PciDevice, Tree};
use crate::spec::PciAddress;

/// An IOMMU address space: what one of its devices can reach the others can, and nothing else.
pub(crate) trait Space: Reach {
    /// Opens a device that is with vfio-pci, and puts it into the space.
    fn device(self: Arc<Self>, tree: &Tree, device: &PciDevice) -> Result<Joined, VfioError>;

    /// By which files devices come into it.
    fn access(&self) -> Access;
}

/// A device of a space's.
pub(crate) struct Joined {
    pub file: DeviceFile,
    /// Nothing is mapped: it is the first in a space that maps only while there are devices.
    pub first: bool,
}

/// An open device: closed when dropped, and then its place in the space given up.
pub(crate) struct DeviceFile {
    // The device goes before its place.
    file: File,
    _place: Box<dyn Send + Sync>,
}

impl DeviceFile {
    /// A device, and what is to be dropped after it.
    pub(super) fn new(file: File, place: impl Send + Sync + 'static) -> Self {
        Self {
            file,
            _place: Box::new(place),
        }
    }
}

impl Deref for DeviceFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

pub(super) fn system(device: PciAddress, what: &'static str, source: io::Error) -> VfioError {
    VfioError::System {
        device,
        what,
        source,
    }
}

/// Why the kernel maps no more, and what to do; `whose` limit of locked memory counts.
pub(super) fn refusal(error: &io::Error, bytes: usize, whose: &str) -> String {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => match getrlimit(Resource::RLIMIT_MEMLOCK) {
            Ok((limit, _)) if limit != libc::RLIM_INFINITY => format!(
                "devices' memory is locked, and {whose} may lock {} KiB in all; run `ulimit -l unlimited` (as root), or set `memlock` in /etc/security/limits.conf and log in again",
                limit / 1024
            ),
            _ => format!("the kernel has no room to map it: {error}; use fewer or smaller buffers"),
        },
        Some(libc::ENOSPC) => "the IOMMU's limit of mappings is reached; raise it: `echo 1000000 > /sys/module/vfio_iommu_type1/parameters/dma_entry_limit`".to_owned(),
        _ => format!("the IOMMU refuses to map {bytes} bytes: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_remedy() {
        let text = |code| refusal(&io::Error::from_raw_os_error(code), 4096, "this process");
        assert!(text(libc::ENOSPC).contains("dma_entry_limit"));
        assert!(text(libc::EINVAL).contains("refuses to map 4096 bytes"));
        let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
        if limit != libc::RLIM_INFINITY {
            let refused = text(libc::ENOMEM);
            assert!(refused.contains("this process may lock"), "{refused}");
            assert!(refused.contains("ulimit -l unlimited"), "{refused}");
        }
    }
}
