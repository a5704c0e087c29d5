use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use sumac_testbed::machine::Machine;

use super::binding::{BindError, UserDriver, bind, hand_over, unbind};
use super::in_use::{holders, needs};
use super::*;
use std::path::Path;

const CARD: &str = "0000:03:00.0";
const OTHER: &str = "0000:03:00.1";

fn tree(machine: &Machine) -> Tree {
    Tree::at(machine.root())
}

fn address(text: &str) -> PciAddress {
    text.parse().expect("an address")
}

/// Two ports of a card: the first with the kernel's driver, both in group 12.
fn card() -> Machine {
    let machine = Machine::new();
    machine.device(CARD, "8086:10fb", 0x02_0000);
    machine.device(OTHER, "8086:10fb", 0x02_0000);
    machine.driver(CARD, "ixgbe");
    machine.interface(CARD, "enp3s0f0");
    machine.group(CARD, 12);
    machine.group(OTHER, 12);
    machine
}

fn read(machine: &Machine) -> PciDevice {
    PciDevice::read(&tree(machine), address(CARD)).expect("the device")
}

#[test]
fn what_a_device_says_is_read() {
    let machine = card();
    machine.fact(CARD, "numa_node", "1");
    machine.fact(CARD, "driver_override", "vfio-pci");
    machine.fact(CARD, "current_link_speed", "2.5 GT/s PCIe");
    machine.fact(CARD, "current_link_width", "4");
    machine.fact(CARD, "max_link_speed", "5.0 GT/s PCIe");
    machine.fact(CARD, "max_link_width", "8");
    machine.fact(CARD, "link/l1_aspm", "1");
    machine.fact(CARD, "link/l0s_aspm", "0");
    machine.fact(CARD, "link/clkpm", "1");
    let ports = "0x000000000000e020 0x000000000000e03f 0x0000000000040101";
    let memory = "0x00000000fe000000 0x00000000fe07ffff 0x0000000000140204";
    let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000";
    machine.fact(CARD, "resource", &[memory, none, ports].join("\n"));
    machine.fact(CARD, "net/enp3s0f0/speed", "10000");
    machine.fact(CARD, "net/enp3s0f0/carrier", "1");
    let device = read(&machine);
    assert_eq!((device.id.vendor, device.id.device), (0x8086, 0x10fb));
    assert_eq!(device.class, 0x02_0000);
    assert_eq!(device.driver.as_deref(), Some("ixgbe"));
    assert_eq!(device.driver_override.as_deref(), Some("vfio-pci"));
    assert_eq!((device.group, device.node), (Some(12), Some(1)));
    let link = device.link.expect("a link");
    assert!(link.is_reduced());
    let rates = [link.current, link.highest].map(|rate| rate.expect("a rate").to_string());
    assert_eq!(rates, ["2.5 GT/s x4", "5.0 GT/s x8"]);
    let regions = [
        Region {
            bar: 0,
            bytes: 512 << 10,
            kind: RegionKind::Memory,
        },
        Region {
            bar: 2,
            bytes: 32,
            kind: RegionKind::Ports,
        },
    ];
    assert_eq!(device.regions, regions);
    assert_eq!(device.aspm, ["l1"]);
    let interface = &device.interfaces[0];
    assert_eq!(interface.name, "enp3s0f0");
    assert!(interface.is_up);
    assert_eq!(
        (interface.carrier, interface.megabits),
        (Some(true), Some(10_000))
    );
}

#[test]
fn what_makes_no_sense_is_not_known() {
    let machine = card();
    machine.fact(CARD, "current_link_speed", "Unknown");
    machine.fact(CARD, "current_link_width", "0");
    machine.fact(CARD, "max_link_speed", "1e99 GT/s");
    machine.fact(CARD, "max_link_width", "255");
    machine.fact(
        CARD,
        "resource",
        "0x9 0x1 0x200\n0x0 0xffffffffffffffff 0x200\nrubbish\n0x1",
    );
    machine.fact(CARD, "net/enp3s0f0/speed", "-1");
    let device = read(&machine);
    assert_eq!((device.link, device.node), (None, None));
    assert!(device.regions.is_empty());
    assert_eq!(device.interfaces[0].megabits, None);
    machine.fact(CARD, "vendor", "Intel");
    let error = PciDevice::read(&tree(&machine), address(CARD)).expect_err("no number");
    assert!(error.to_string().contains("0000:03:00.0/vendor"), "{error}");
}

#[test]
fn the_bus_is_listed_in_order() {
    let machine = card();
    machine.device("0000:00:1f.6", "8086:15b7", 0x02_0000);
    machine.folder("sys/bus/pci/devices/no-address");
    let listed: Vec<String> = devices(&tree(&machine))
        .expect("a bus")
        .iter()
        .map(|device| device.address.to_string())
        .collect();
    assert_eq!(listed, ["0000:00:1f.6", CARD, OTHER]);
    let nothing = Tree::at(machine.root().join("nowhere"));
    assert!(matches!(devices(&nothing), Err(PciError::NoBus(_))));
    let absent = PciDevice::read(&tree(&machine), address("0000:09:00.0"));
    assert!(matches!(absent, Err(PciError::Absent(_))), "{absent:?}");
}

#[test]
fn a_group_names_what_is_in_the_way() {
    let machine = card();
    machine.device("0000:00:01.0", "8086:0101", 0x06_0400);
    machine.driver("0000:00:01.0", "pcieport");
    machine.group("0000:00:01.0", 12);
    let group = || IommuGroup::read(&tree(&machine), 12);
    let in_the_way = |of: &str| -> Vec<String> {
        group()
            .in_the_way(address(of))
            .map(|member| member.name.clone())
            .collect()
    };
    assert_eq!(group().members.len(), 3);
    assert_eq!(in_the_way(CARD), [""; 0]);
    assert_eq!(in_the_way(OTHER), [CARD]);
    machine.driver(CARD, "mlx5-vfio-pci");
    assert_eq!(in_the_way(OTHER), [""; 0]);
    assert!(!group().is_noiommu);
    machine.file("sys/kernel/iommu_groups/12/name", "vfio-noiommu");
    assert!(group().is_noiommu);
    assert_eq!(IommuGroup::all(&tree(&machine)), [group()]);
    assert!(IommuGroup::read(&tree(&machine), 99).members.is_empty());
}

const ROUTES: &str =
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT";

#[test]
fn the_default_route_is_found_also_below_a_bridge() {
    let machine = card();
    let told = || -> Vec<String> {
        needs(&tree(&machine), &read(&machine))
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let net = "enp3s0f0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
    machine.file("proc/net/route", &format!("{ROUTES}\n{net}"));
    assert_eq!(told(), [""; 0]);
    let default = "enp3s0f0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0";
    machine.file("proc/net/route", &format!("{ROUTES}\n{default}"));
    assert_eq!(
        told(),
        ["the default route goes through its interface enp3s0f0"]
    );
    let bridge = default.replace("enp3s0f0", "br0");
    machine.file("proc/net/route", &format!("{ROUTES}\n{bridge}"));
    assert_eq!(told(), [""; 0]);
    machine.link("sys/class/net/br0/lower_enp3s0f0", "sys/class/net/enp3s0f0");
    assert_eq!(told().len(), 1);
    machine.remove("proc/net/route");
    let (all, one) = ("0".repeat(32), "fd000000000000000000000000000001");
    let v6 =
        |flags, name| format!("{all} 00 {all} 00 {one} 00000400 00000002 00000000 {flags} {name}");
    machine.file("proc/net/ipv6_route", &v6("00200200", "enp3s0f0"));
    assert_eq!(told(), [""; 0], "a route that rejects leads nowhere");
    machine.file("proc/net/ipv6_route", &v6("00000003", "enp3s0f0"));
    assert_eq!(told().len(), 1);
}

#[test]
fn disks_in_use_are_found_also_below_a_volume_and_a_subsystem() {
    let machine = card();
    let told = || -> Vec<String> {
        needs(&tree(&machine), &read(&machine))
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let disk = format!("sys/devices/pci0000:00/{CARD}/nvme/nvme0/nvme0n1");
    machine.link(
        "sys/class/block/nvme0n1p2",
        &machine_path(&machine, &format!("{disk}/nvme0n1p2")),
    );
    machine.link("sys/dev/block/259:2", "sys/class/block/nvme0n1p2");
    machine.link("sys/dev/block/253:0", "sys/class/block/dm-0");
    machine.folder("sys/class/block/dm-0/slaves/nvme0n1p2");
    assert_eq!(told(), [""; 0]);
    let mount = |device: &str| format!("22 1 {device} / /srv rw - ext4 /dev/root rw");
    machine.file("proc/self/mountinfo", &mount("259:2"));
    assert_eq!(told(), ["its disk nvme0n1p2 is in use (/srv)"]);
    machine.file("proc/self/mountinfo", &mount("253:0"));
    assert_eq!(told(), ["its disk nvme0n1p2 is in use (/srv)"]);
    machine.file("proc/self/mountinfo", &mount("0:25"));
    assert_eq!(told(), [""; 0]);
    // btrfs has a number that is no disk's, names one of its disks, and may be on several.
    let spanned = "22 1 0:25 /@ /srv rw shared:1 - btrfs /dev/sda rw";
    machine.file("proc/self/mountinfo", spanned);
    assert_eq!(told(), [""; 0]);
    machine.folder("sys/fs/btrfs/0b5ad4d4/devices/nvme0n1p2");
    assert_eq!(told(), [""; 0]);
    machine.folder("sys/fs/btrfs/0b5ad4d4/devices/sda");
    assert_eq!(told(), ["its disk nvme0n1p2 is in use (/srv)"]);
    machine.remove("sys/fs/btrfs/0b5ad4d4/devices");
    machine.file("proc/self/mountinfo", &spanned.replace("sda", "nvme0n1p2"));
    assert_eq!(told(), ["its disk nvme0n1p2 is in use (/srv)"]);
    machine.file("proc/self/mountinfo", "");
    machine.file(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/nvme0n1p2 partition 1 0 -2",
    );
    assert_eq!(told(), ["its disk nvme0n1p2 is in use (swap)"]);
    // With several paths to it, a disk is not below a PCI device but below its subsystem.
    let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
    machine.remove("sys/class/block/nvme0n1p2");
    machine.folder(&format!("{subsystem}/nvme0n1/nvme0n1p2"));
    machine.link(
        "sys/class/block/nvme0n1p2",
        &format!("{subsystem}/nvme0n1/nvme0n1p2"),
    );
    assert_eq!(told(), [""; 0]);
    machine.link(
        &format!("{subsystem}/nvme0"),
        &format!("sys/devices/pci0000:00/{CARD}/nvme/nvme0"),
    );
    assert_eq!(told(), ["its disk nvme0n1p2 is in use (swap)"]);
}

/// Makes the folder a link is to point to.
fn machine_path(machine: &Machine, path: &str) -> String {
    machine.folder(path);
    path.to_owned()
}

#[test]
fn whoever_has_a_device_open_is_named() {
    let machine = card();
    let told = || -> Vec<String> {
        holders(&tree(&machine), &read(&machine))
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    machine.file("dev/vfio/12", "");
    machine.process(4711, "l2fwd", "dev/vfio/12");
    machine.process(4712, "other", "dev/vfio/13");
    assert_eq!(told(), [""; 0], "not vfio-pci's, so not this device");
    machine.driver(CARD, "vfio-pci");
    assert_eq!(told(), ["process 4711 (l2fwd)"]);
    machine.fact(CARD, "vfio-dev/vfio3/dev", "1:2");
    machine.file("dev/vfio/devices/vfio3", "");
    machine.process(4713, "cdev", "dev/vfio/devices/vfio3");
    assert_eq!(told().len(), 2);
}

#[test]
fn all_files_that_a_device_is_taken_by_are_handed_over() {
    let machine = card();
    machine.driver(CARD, "vfio-pci");
    machine.file("dev/vfio/12", "");
    machine.file("dev/iommu", "");
    let tree = tree(&machine);
    let owned = || {
        let me = nix::unistd::geteuid().as_raw();
        let files = hand_over(&tree, &read(&machine), "me", me).expect("my own");
        let files = files.into_iter().map(|file| file.display().to_string());
        files.collect::<Vec<_>>()
    };
    assert_eq!(owned(), ["dev/vfio/12"]);
    machine.fact(CARD, "vfio-dev/vfio3/dev", "1:2");
    machine.file("dev/vfio/devices/vfio3", "");
    let all = ["dev/vfio/12", "dev/vfio/devices/vfio3", "dev/iommu"];
    assert_eq!(owned(), all);
    machine.remove("dev/iommu");
    assert_eq!(owned(), all[..2]);
}

#[test]
fn binding_refuses_what_the_machine_needs() {
    let machine = card();
    let default = "enp3s0f0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0";
    machine.file("proc/net/route", &format!("{ROUTES}\n{default}"));
    let error =
        bind(&tree(&machine), address(CARD), UserDriver::Vfio, false).expect_err("it is needed");
    assert!(
        matches!(error, BindError::Needed { .. }) && error.is_input(),
        "{error}"
    );
    assert!(error.to_string().contains("--force"), "{error}");
    assert!(!machine.root().join("run").exists(), "nothing was begun");
}

#[test]
fn binding_refuses_what_it_cannot_do() {
    let machine = card();
    let tree = tree(&machine);
    let absent =
        bind(&tree, address("0000:09:00.0"), UserDriver::Vfio, false).expect_err("no such device");
    assert!(
        absent.to_string().contains("sumac devices --all"),
        "{absent}"
    );
    let unbound = unbind(&tree, address(CARD)).expect_err("not bound");
    assert!(
        unbound.to_string().contains("uio_pci_generic but to ixgbe"),
        "{unbound}"
    );
    machine.remove(&format!("sys/devices/pci0000:00/{CARD}/iommu_group"));
    let outside = bind(&tree, address(CARD), UserDriver::Vfio, false).expect_err("no IOMMU");
    assert!(matches!(outside, BindError::NoGroup(_)), "{outside}");
    machine.driver(CARD, "vfio-pci");
    machine.group(CARD, 12);
    machine.file("dev/vfio/12", "");
    machine.process(4711, "l2fwd", "dev/vfio/12");
    let held = unbind(&tree, address(CARD)).expect_err("in use");
    assert!(held.to_string().contains("kill 4711"), "{held}");
}

#[test]
fn a_driver_that_does_not_take_a_device_is_named_and_the_former_one_told() {
    let machine = card();
    for module in ["vfio_pci", "vfio_iommu_type1"] {
        machine.folder(&format!("sys/module/{module}"));
    }
    machine.file("sys/bus/pci/drivers/ixgbe/unbind", "");
    machine.file("sys/bus/pci/drivers/ixgbe/bind", "");
    machine.file("sys/bus/pci/drivers/vfio-pci/bind", "");
    // Nothing plays the kernel here, so vfio-pci never has it.
    let error =
        bind(&tree(&machine), address(CARD), UserDriver::Vfio, false).expect_err("not taken");
    assert!(
        matches!(error, BindError::NotTaken { .. }) && !error.is_input(),
        "{error}"
    );
    let text = |path: &str| tree(&machine).text(path).expect("a file");
    assert_eq!(text("run/sumac/bound/0000:03:00.0"), "ixgbe");
    assert_eq!(text("sys/bus/pci/drivers/ixgbe/unbind"), CARD);
    assert_eq!(text("sys/bus/pci/drivers/vfio-pci/bind"), CARD);
    let left = text(&format!("sys/bus/pci/devices/{CARD}/driver_override"));
    assert_ne!(left, VFIO_PCI, "the override was taken back");
}

/// A driver that hangs keeps whoever wrote to it in the kernel, so that must not be a thread of ours, nor anybody who
/// has what we print to open: those who started us would wait for it.
#[test]
fn a_driver_that_hangs_is_told_of_and_not_waited_for() {
    let machine = card();
    machine.driver(CARD, "vfio-pci");
    let hole = machine.root().join("sys/bus/pci/drivers/vfio-pci/unbind");
    mkfifo(&hole, Mode::S_IRWXU).expect("a file that takes nothing while nobody reads it");
    let error = unbind(&tree(&machine), address(CARD)).expect_err("it hangs");
    let BindError::TooLong {
        driver, process, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((driver.as_str(), error.is_input()), ("vfio-pci", false));
    let told = error.to_string();
    let named = format!("vfio-pci hangs, and keeps process {process}");
    assert!(told.starts_with(CARD) && told.contains(&named), "{told}");
    let process = Path::new("/proc").join(process.to_string());
    let text = std::fs::read_to_string(process.join("status")).expect("it is left behind");
    let parent = format!("\nPPid:\t{}\n", std::process::id());
    assert!(text.contains(&parent), "it is no thread: {text}");
    let open = std::fs::read_dir(process.join("fd")).expect("its files");
    assert_eq!(open.count(), 0, "it has nothing of ours");
    // The driver goes on, and gets what was written.
    assert_eq!(std::fs::read_to_string(hole).expect("it goes on"), CARD);
}

/// A card that was the kernel's and is with uio_pci_generic, on a machine without an IOMMU.
fn card_with_uio() -> Machine {
    let machine = card();
    machine.remove(&format!("sys/devices/pci0000:00/{CARD}/iommu_group"));
    machine.driver(CARD, UIO_PCI);
    machine.fact(CARD, "uio/uio4/name", UIO_PCI);
    machine.file("dev/uio4", "");
    machine.file("run/sumac/bound/0000:03:00.0", "ixgbe");
    machine
}

#[test]
fn doing_without_an_iommu_is_for_where_there_is_none() {
    let machine = card();
    let to_uio = || bind(&tree(&machine), address(CARD), UserDriver::Uio, false);
    let error = to_uio().expect_err("it has an IOMMU");
    assert!(
        matches!(error, BindError::Translated(_)) && error.is_input(),
        "{error}"
    );
    assert!(!machine.root().join("run").exists(), "nothing was begun");
    let machine = card_with_uio();
    let bound = bind(&tree(&machine), address(CARD), UserDriver::Uio, false);
    assert!(bound.expect("it has it already").is_with_uio());
    let no_group = bind(&tree(&machine), address(CARD), UserDriver::Vfio, false);
    assert!(matches!(no_group, Err(BindError::NoGroup(_))));
}

#[test]
fn who_has_a_device_without_an_iommu_open_keeps_it() {
    let machine = card_with_uio();
    machine.group(CARD, 12);
    machine.process(4711, "l2fwd", "dev/uio4");
    let tree = tree(&machine);
    let held = [
        unbind(&tree, address(CARD)),
        bind(&tree, address(CARD), UserDriver::Vfio, false),
    ];
    for held in held {
        let held = held.expect_err("in use");
        assert!(held.to_string().contains("kill 4711"), "{held}");
    }
}

#[test]
fn from_process_to_process_the_kernels_driver_is_remembered() {
    let machine = card_with_uio();
    machine.group(CARD, 12);
    for module in ["vfio_pci", "vfio_iommu_type1"] {
        machine.folder(&format!("sys/module/{module}"));
    }
    for file in ["uio_pci_generic/unbind", "vfio-pci/bind"] {
        machine.file(&format!("sys/bus/pci/drivers/{file}"), "");
    }
    // Nothing plays the kernel here, so vfio-pci never has it.
    let error = bind(&tree(&machine), address(CARD), UserDriver::Vfio, false);
    assert!(matches!(error, Err(BindError::NotTaken { .. })));
    let text = |path: &str| tree(&machine).text(path).expect("a file");
    assert_eq!(text("run/sumac/bound/0000:03:00.0"), "ixgbe");
    let only = text(&format!("sys/bus/pci/devices/{CARD}/driver_override"));
    assert_eq!(only, UIO_PCI, "it may have it again, by its name only");
}
