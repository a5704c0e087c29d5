//! What a third-party driver sees of the machine: the plan of a private `/sys`, `/dev` and `/run`.
//!
//! A user-space driver finds its device by reading files: `/sys/bus/pci/devices`, `/sys/class/uio`,
//! `/dev/uioN`. This file lists the [`Step`]s that make those files for software devices. Nothing
//! is done here; [`namespace`](super::namespace) does it, inside a mount namespace that lives no
//! longer than the driver, so that there is nothing to clean up: not after a crash either.

use std::ffi::CString;

use super::{PortIdentity, SharedBarError};

/// One thing to do inside the driver's mount namespace. All names are ready for the kernel, since
/// a forked child may not allocate.
#[derive(Debug)]
pub(super) enum Step {
    /// A fresh, empty file system on an existing directory.
    Mount {
        /// Where.
        target: CString,
        /// `tmpfs` or `hugetlbfs`.
        kind: CString,
        /// Mount options, such as `pagesize=2M`.
        options: CString,
    },
    /// A directory.
    Directory(CString),
    /// A regular file with this content.
    File(CString, Vec<u8>),
    /// A symbolic link: name, then what it points to.
    Link(CString, CString),
    /// A named pipe: pollable, and silent for ever.
    Fifo(CString),
    /// A character device: name, major, minor.
    Device(CString, u32, u32),
}

impl Step {
    /// The path the step makes, for error messages.
    pub(super) fn path(&self) -> &CString {
        match self {
            Self::Mount { target, .. } => target,
            Self::Directory(path)
            | Self::File(path, _)
            | Self::Link(path, _)
            | Self::Fifo(path)
            | Self::Device(path, ..) => path,
        }
    }
}

/// Where the driver finds 2 MiB pages: `--huge-dir` of DPDK's EAL.
pub const HUGE_DIRECTORY: &str = "/dev/hugepages";

/// Length of the register BAR (82599 datasheet, section 9.3.6.1: 512 KiB with no flash BAR).
pub(super) const BAR_LENGTH: usize = 512 * 1024;

/// A bus address for BAR 0 of port `port`. Only shown, never used: nothing decodes it.
fn bar_address(port: usize) -> u64 {
    0xe000_0000 + (port * BAR_LENGTH) as u64
}

/// The PCI address of port `port`: one function a slot, as two single-port cards would have.
pub(super) fn pci_address(port: usize) -> String {
    format!("0000:{:02x}:00.0", port + 1)
}

/// Collects steps; the only place that turns text into what the kernel takes.
#[derive(Default)]
struct Plan(Vec<Step>);

impl Plan {
    fn text(text: &str) -> Result<CString, SharedBarError> {
        CString::new(text).map_err(|_| SharedBarError::BadPath(text.to_owned()))
    }

    fn mount(&mut self, target: &str, kind: &str, options: &str) -> Result<(), SharedBarError> {
        self.0.push(Step::Mount {
            target: Self::text(target)?,
            kind: Self::text(kind)?,
            options: Self::text(options)?,
        });
        Ok(())
    }

    fn directory(&mut self, path: &str) -> Result<(), SharedBarError> {
        self.0.push(Step::Directory(Self::text(path)?));
        Ok(())
    }

    fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) -> Result<(), SharedBarError> {
        self.0.push(Step::File(Self::text(path)?, content.into()));
        Ok(())
    }

    fn link(&mut self, path: &str, to: &str) -> Result<(), SharedBarError> {
        self.0.push(Step::Link(Self::text(path)?, Self::text(to)?));
        Ok(())
    }

    fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<(), SharedBarError> {
        self.0.push(Step::Device(Self::text(path)?, major, minor));
        Ok(())
    }
}

/// The steps that show `ports` to a driver. `bars[i]` is a path under which the driver may open the
/// BAR of port `i`.
pub(super) fn plan(ports: &[PortIdentity], bars: &[String]) -> Result<Vec<Step>, SharedBarError> {
    let mut plan = Plan::default();
    devices_and_runtime(&mut plan)?;
    plan.mount("/sys/bus/pci/devices", "tmpfs", "mode=755")?;
    plan.mount("/sys/class", "tmpfs", "mode=755")?;
    plan.directory("/sys/class/uio")?;
    for (index, (port, bar)) in ports.iter().zip(bars).enumerate() {
        function(&mut plan, index, port, bar)?;
    }
    Ok(plan.0)
}

/// A small `/dev` (so that `/dev/uioN` never appears on the machine itself), huge pages, and an
/// empty `/run`, where drivers keep their locks.
fn devices_and_runtime(plan: &mut Plan) -> Result<(), SharedBarError> {
    plan.mount("/run", "tmpfs", "mode=755")?;
    plan.mount("/dev", "tmpfs", "mode=755")?;
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        plan.device(&format!("/dev/{name}"), major, minor)?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        plan.link(&format!("/dev/{name}"), to)?;
    }
    plan.directory("/dev/shm")?;
    plan.directory(HUGE_DIRECTORY)?;
    plan.mount(HUGE_DIRECTORY, "hugetlbfs", "pagesize=2M")
}

/// One PCI function bound to `uio_pci_generic`.
fn function(
    plan: &mut Plan,
    index: usize,
    port: &PortIdentity,
    bar: &str,
) -> Result<(), SharedBarError> {
    let at = format!("/sys/bus/pci/devices/{}", pci_address(index));
    plan.directory(&at)?;
    for (name, content) in [
        ("vendor", "0x8086\n".to_owned()),
        ("device", format!("{:#06x}\n", port.device)),
        ("subsystem_vendor", "0x8086\n".to_owned()),
        ("subsystem_device", format!("{:#06x}\n", port.subsystem)),
        ("class", "0x020000\n".to_owned()),
        ("revision", "0x01\n".to_owned()),
        ("max_vfs", "0\n".to_owned()),
        ("numa_node", "0\n".to_owned()),
        ("enable", "1\n".to_owned()),
        ("resource", resource(index)),
    ] {
        plan.file(&format!("{at}/{name}"), content)?;
    }
    plan.file(&format!("{at}/config"), configuration_space(index, port))?;
    plan.link(&format!("{at}/resource0"), bar)?;
    plan.link(
        &format!("{at}/driver"),
        "/sys/bus/pci/drivers/uio_pci_generic",
    )?;
    plan.directory(&format!("{at}/uio"))?;
    plan.directory(&format!("{at}/uio/uio{index}"))?;
    plan.directory(&format!("/sys/class/uio/uio{index}"))?;
    plan.link(&format!("/sys/class/uio/uio{index}/device"), &at)?;
    plan.0
        .push(Step::Fifo(Plan::text(&format!("/dev/uio{index}"))?));
    Ok(())
}

/// The `resource` file: first and last address and flags of the six BARs and the ROM.
fn resource(index: usize) -> String {
    const MEMORY: u64 = 0x0004_0200; // IORESOURCE_MEM | IORESOURCE_SIZEALIGN
    let first = bar_address(index);
    let last = first + BAR_LENGTH as u64 - 1;
    let none = format!("{:#018x} {:#018x} {:#018x}\n", 0, 0, 0);
    format!("{first:#018x} {last:#018x} {MEMORY:#018x}\n") + &none.repeat(6)
}

/// 4 KiB of configuration space: identity, memory and bus master enabled, network controller.
fn configuration_space(index: usize, port: &PortIdentity) -> Vec<u8> {
    let mut space = vec![0; 4096];
    let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x00, &0x8086_u16.to_le_bytes());
    put(0x02, &port.device.to_le_bytes());
    put(0x04, &0x0006_u16.to_le_bytes()); // command: memory space, bus master
    put(0x08, &[0x01, 0x00, 0x00, 0x02]); // revision 1, class 0x020000
    put(0x10, &(bar_address(index) as u32).to_le_bytes());
    put(0x2c, &0x8086_u16.to_le_bytes());
    put(0x2e, &port.subsystem.to_le_bytes());
    space
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Vec<Step> {
        let ports = [PortIdentity::new(0x10fb), PortIdentity::new(0x1517)];
        plan(&ports, &["/bar/0".to_owned(), "/bar/1".to_owned()]).unwrap()
    }

    fn content(steps: &[Step], name: &str) -> Vec<u8> {
        steps
            .iter()
            .find_map(|step| match step {
                Step::File(path, content) if path.to_str() == Ok(name) => Some(content.clone()),
                _ => None,
            })
            .unwrap()
    }

    #[test]
    fn every_port_has_its_identity() {
        let steps = steps();
        let device = |at| content(&steps, &format!("/sys/bus/pci/devices/{at}/device"));
        assert_eq!(device("0000:01:00.0"), b"0x10fb\n");
        assert_eq!(device("0000:02:00.0"), b"0x1517\n");
        let config = content(&steps, "/sys/bus/pci/devices/0000:02:00.0/config");
        assert_eq!(config.len(), 4096);
        assert_eq!(config[..4], [0x86, 0x80, 0x17, 0x15]);
    }

    #[test]
    fn bars_do_not_overlap() {
        let line = |at: &str| {
            let text = content(&steps(), &format!("/sys/bus/pci/devices/{at}/resource"));
            String::from_utf8(text).unwrap()
        };
        assert!(line("0000:01:00.0").starts_with("0x00000000e0000000 0x00000000e007ffff"));
        assert!(line("0000:02:00.0").starts_with("0x00000000e0080000 0x00000000e00fffff"));
        assert_eq!(line("0000:01:00.0").lines().count(), 7);
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let steps = steps();
        let made: Vec<_> = steps.iter().map(|s| s.path().to_str().unwrap()).collect();
        for (at, path) in made.iter().enumerate() {
            let parent = path.rsplit_once('/').unwrap().0;
            let outside = ["", "/sys", "/sys/bus/pci"].contains(&parent);
            assert!(outside || made[..at].contains(&parent), "{path}");
        }
    }
}
