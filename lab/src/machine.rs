//! A guest's hardware, and QEMU's command line for it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::LabError;
use crate::guest::{self, Guest};
use crate::image::Image;
use crate::tools::{self, Lab};

/// How long QEMU waits for an answer of a device's server: the server may not be scheduled for a while.
const PATIENCE_MS: u32 = 60_000;
/// A guest boots in seconds; what it does after that, on a busy machine, is what a test may raise this for.
const LIMIT: Duration = Duration::from_secs(300);
/// So long before its limit a guest says what it is at, and ends.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// A PCI device of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Where the guest finds it, such as `0000:01:00.0`.
    pub address: String,
    /// What QEMU's monitor knows it by.
    pub id: String,
    /// What QEMU's monitor knows the root port by that it is behind.
    pub port: String,
}

/// A machine to boot: a q35 board, one core and 512 MiB unless told otherwise, an emulated processor.
///
/// Each device has a root port of its own, so that it has an IOMMU group of its own and can be pulled out.
#[derive(Clone, Debug)]
pub struct Machine {
    memory_mib: u32,
    cores: u32,
    iommu_bits: Option<u32>,
    ports: usize,
    devices: Vec<OsString>,
    kernel_options: Vec<String>,
    expected: Vec<&'static str>,
    limit: Duration,
    /// Whether the guest is told of its limit.
    limited: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine without an IOMMU or devices.
    pub fn new() -> Self {
        Self {
            memory_mib: 512,
            cores: 1,
            iommu_bits: None,
            ports: 0,
            devices: Vec::new(),
            kernel_options: Vec::new(),
            expected: Vec::new(),
            limit: LIMIT,
            limited: true,
        }
    }

    /// How much memory it has.
    pub fn memory_mib(&mut self, mib: u32) -> &mut Self {
        self.memory_mib = mib;
        self
    }

    /// How many cores it has.
    pub fn cores(&mut self, cores: u32) -> &mut Self {
        self.cores = cores;
        self
    }

    /// An Intel IOMMU with bus addresses of 39 or 48 bits, turned on in the kernel.
    pub fn iommu(&mut self, bits: u32) -> &mut Self {
        self.iommu_bits = Some(bits);
        self.kernel_option("intel_iommu=on")
    }

    /// Another word on the kernel's command line.
    pub fn kernel_option(&mut self, option: &str) -> &mut Self {
        self.kernel_options.push(option.to_owned());
        self
    }

    /// What QEMU may say of it: part of a line. Of what it says otherwise only warnings are let pass.
    pub fn qemu_says(&mut self, part: &'static str) -> &mut Self {
        self.expected.push(part);
        self
    }

    /// How long the guest may take from boot to end. Half a minute before that it says what it is at and ends, with exit
    /// code 124.
    pub fn limit(&mut self, limit: Duration) -> &mut Self {
        self.limit = limit;
        self
    }

    /// Other arguments of QEMU's, such as devices that share a slot.
    pub fn arguments<A: Into<OsString>>(
        &mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> &mut Self {
        self.devices.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// A device of QEMU's by its properties, as in `json!({ "driver": "igb" })`.
    pub fn device(&mut self, mut properties: Value) -> Slot {
        self.ports += 1;
        let number = self.ports;
        let slot = Slot {
            address: format!("0000:{number:02x}:00.0"),
            id: format!("device{number}"),
            port: format!("port{number}"),
        };
        let port = json!({
            "driver": "pcie-root-port", "id": slot.port, "bus": "pcie.0",
            "addr": format!("{number:#x}"), "chassis": number, "slot": number,
        });
        properties["id"] = json!(slot.id);
        properties["bus"] = json!(slot.port);
        for device in [port, properties] {
            self.arguments(["-device".to_owned(), device.to_string()]);
        }
        slot
    }

    /// A device that a process serves by vfio-user at this socket. The process has to listen before the boot.
    pub fn vfio_user(&mut self, socket: &Path) -> Slot {
        self.device(vfio_user(socket))
    }

    /// Devices that are served at these sockets, as functions of one slot: in one IOMMU group, and not to be pulled out.
    pub fn vfio_user_functions(
        &mut self,
        sockets: impl Iterator<Item = impl AsRef<Path>>,
    ) -> Vec<Slot> {
        let mut slots: Vec<Slot> = Vec::new();
        for (function, socket) in sockets.enumerate() {
            let mut properties = vfio_user(socket.as_ref());
            properties["addr"] = json!(format!("0.{function}"));
            properties["multifunction"] = json!(true);
            let slot = match slots.first() {
                None => self.device(properties),
                Some(first) => {
                    let mut slot = first.clone();
                    slot.address.pop();
                    slot.address += &function.to_string();
                    slot.id = format!("{}function{function}", first.id);
                    properties["id"] = json!(slot.id);
                    properties["bus"] = json!(slot.port);
                    self.arguments(["-device".to_owned(), properties.to_string()]);
                    slot
                }
            };
            slots.push(slot);
        }
        slots
    }

    /// QEMU's own NVMe controller with a file as its disk.
    pub fn nvme(&mut self, file: &Path) -> Slot {
        let node = format!("disk{}", self.ports + 1);
        let disk = json!({
            "driver": "raw", "node-name": node,
            "file": { "driver": "file", "filename": file },
        });
        self.arguments(["-blockdev".to_owned(), disk.to_string()]);
        self.device(json!({ "driver": "nvme", "drive": node, "serial": node }))
    }

    /// Starts a guest.
    ///
    /// # Panics
    /// When its image cannot be made or QEMU not be started.
    #[track_caller]
    pub fn boot(&self, lab: &Lab, image: &Image) -> Guest {
        Guest::boot(lab, image, self).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a guest on this terminal until it ends; the time limit does not count.
    ///
    /// # Errors
    /// When its image cannot be made or QEMU not be started.
    pub fn attend(&self, lab: &Lab, image: &Image) -> Result<(), LabError> {
        let mut machine = self.clone();
        machine.limited = false;
        guest::attend(lab, image, &machine)
    }

    pub(crate) fn expected(&self) -> &[&'static str] {
        &self.expected
    }

    pub(crate) fn time_limit(&self) -> Duration {
        self.limit
    }

    /// QEMU's command but for the kernel, the image and what the guest talks through.
    pub(crate) fn qemu(&self) -> std::process::Command {
        let mut qemu = tools::qemu();
        let memory = self.memory_mib;
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        qemu.args(["-display", "none", "-cpu", "max"]);
        qemu.args(["-accel", "tcg,thread=multi", "-m", &memory.to_string()]);
        qemu.args(["-smp", &self.cores.to_string()]);
        qemu.args(["-machine", "q35,kernel-irqchip=split,memory-backend=ram"]);
        // Shared, so that devices in other processes can reach it.
        let ram = format!("memory-backend-memfd,id=ram,size={memory}M,share=on");
        qemu.args(["-object", &ram]);
        if let Some(bits) = self.iommu_bits {
            // Caching mode tells the device model of every mapping, which devices in other processes need.
            let iommu = format!("intel-iommu,intremap=on,caching-mode=on,aw-bits={bits}");
            qemu.args(["-device", &iommu]);
        }
        qemu.args(&self.devices);
        // Without a look whether the timer ticks: on a busy machine it may not in time, and the kernel gives up.
        let words = ["console=ttyS0", "panic=-1", "quiet", "no_timer_check"];
        // A word that the kernel does not know is in the environment of its first process.
        let patience = self.limit.checked_sub(LAST_WORDS);
        let patience = patience.filter(|patience| self.limited && !patience.is_zero());
        let patience = patience.map(|patience| format!("LAB_PATIENCE={}", patience.as_secs()));
        let own = patience.iter().chain(&self.kernel_options);
        let line: Vec<_> = (words.into_iter()).chain(own.map(String::as_str)).collect();
        qemu.arg("-append").arg(line.join(" "));
        qemu
    }
}

/// QEMU's properties of a device that a process serves at this socket.
pub(crate) fn vfio_user(socket: &Path) -> Value {
    let socket = json!({ "type": "unix", "path": socket });
    json!({ "driver": "vfio-user-pci", "rombar": 0, "socket": socket, "x-msg-timeout": PATIENCE_MS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_each_device_has_a_port() {
        let mut machine = Machine::new();
        let first = machine.device(json!({ "driver": "igb" }));
        let second = machine.vfio_user(Path::new("/tmp/socket"));
        assert_eq!(first.address, "0000:01:00.0");
        assert_eq!(second.address, "0000:02:00.0");
        let line = format!("{:?}", machine.qemu());
        for part in ["port1", "port2", "vfio-user-pci", "/tmp/socket"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("intel-iommu") && !line.contains("kvm"));
    }
}
