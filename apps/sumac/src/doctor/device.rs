//! One device: whether it is there, who has it, who may use it, and how it is connected.

use std::io;
use std::path::{Path, PathBuf};

use sumac_ixgbe::Module;
use sumac_linux::pci::binding::IOMMUFD;
use sumac_linux::pci::in_use::{self, Need};
use sumac_linux::pci::{Interface, IommuGroup, PciDevice, Transceiver};
use sumac_linux::spec::PciAddress;

use super::finding::Finding;
use super::{Patient, iommu};
use crate::cards;
use crate::huge_pages::{self, POOL_PAGE};

/// Looks at one device.
pub(super) fn examine(patient: &Patient<'_>, address: PciAddress) -> Vec<Finding> {
    let device = match PciDevice::read(patient.tree, address) {
        Ok(device) => device,
        Err(_) => return vec![absent(patient)],
    };
    let mut findings = vec![card(&device), driver(patient, &device)];
    findings.extend(group(patient, &device));
    findings.extend(files(patient, &device));
    findings.extend(holder(patient, &device));
    findings.extend(near_pages(patient, &device));
    findings.extend(interfaces(patient, &device));
    findings.extend(link(&device));
    findings.extend(power_saving(patient, &device));
    findings
}

fn absent(patient: &Patient<'_>) -> Finding {
    let what = "no such device: have the bus searched anew, or look for another address with `sumac devices`";
    Finding::fault("device", what).mended_by(patient.caller.write("1", "/sys/bus/pci/rescan"))
}

fn card(device: &PciDevice) -> Finding {
    let what = format!("{} ({})", cards::name(device), cards::id(device));
    match cards::driven(device) {
        Some(_) => Finding::ok("device", what),
        None => Finding::warning("device", format!("{what}: Sumac has no driver for it")),
    }
}

/// vfio-pci has to have it, or where no IOMMU is, uio_pci_generic may. With no group vfio-pci could not: that is
/// the IOMMU's matter.
fn driver(patient: &Patient<'_>, device: &PciDevice) -> Finding {
    const CHECK: &str = "driver";
    if device.is_with_vfio() {
        return Finding::ok(CHECK, "vfio-pci");
    }
    let user = match patient.caller.is_root() {
        true => String::new(),
        false => format!("--user {} ", patient.caller.uid),
    };
    let bind = |options: &str| {
        let arguments = format!("bind {options}{user}{}", device.address);
        patient.caller.sumac_as_root(&arguments)
    };
    if device.is_with_uio() {
        return without_iommu(device).mended_by(bind(""));
    }
    let has = device.driver.as_deref();
    let what = has.map_or_else(
        || "none has it".to_owned(),
        |driver| format!("{driver} has it"),
    );
    let needs = in_use::needs(patient.tree, device);
    let Some(need) = needs.first() else {
        return Finding::fault(CHECK, format!("{what}, not vfio-pci")).mended_by(bind(""));
    };
    let loss = match need {
        Need::DefaultRoute { .. } => "the machine's way out",
        Need::Disk { .. } => "its disk",
    };
    let what = format!("{what}, not vfio-pci; {need}, so binding it takes {loss} away");
    Finding::fault(CHECK, what).mended_by(bind("--force "))
}

/// One that is with uio_pci_generic.
fn without_iommu(device: &PciDevice) -> Finding {
    const CHECK: &str = "driver";
    match device.group {
        Some(_) => {
            let what = "uio_pci_generic has it, which is for where no IOMMU is; there is one: give it to vfio-pci";
            Finding::fault(CHECK, what)
        }
        None => {
            let what = "uio_pci_generic has it: only `l2fwd --unsafe-noiommu` takes it, as root, and then it can reach \
                all memory; once there is an IOMMU give it to vfio-pci";
            Finding::warning(CHECK, what)
        }
    }
}

/// Everything in its group goes to the same process, or stays away from drivers that do DMA.
fn group(patient: &Patient<'_>, device: &PciDevice) -> Option<Finding> {
    const CHECK: &str = "group";
    let group = device
        .group
        .map(|number| IommuGroup::read(patient.tree, number));
    let Some(group) = group.filter(|group| !group.is_noiommu) else {
        // Where nothing is in a group the IOMMU is what was found at fault.
        return iommu::is_on(patient.tree).then(|| {
            let what = "in none: no IOMMU translates for it; another slot may have one";
            Finding::fault(CHECK, what)
        });
    };
    let number = group.number;
    let in_the_way: Vec<String> = group
        .in_the_way(device.address)
        .map(|member| {
            format!(
                "{} ({})",
                member.name,
                member.driver.as_deref().unwrap_or_default()
            )
        })
        .collect();
    if !in_the_way.is_empty() {
        let what = format!(
            "{number} is not viable, for other drivers have what else is in it: {}",
            in_the_way.join(", ")
        );
        let command = patient
            .caller
            .sumac_as_root(&format!("bind --group {}", device.address));
        return Some(Finding::fault(CHECK, what).mended_by(command));
    }
    let others: Vec<&str> = group
        .others(device.address)
        .map(|member| member.name.as_str())
        .collect();
    Some(match others.is_empty() {
        true => Finding::ok(CHECK, format!("{number}, alone")),
        false => Finding::ok(CHECK, format!("{number}, with {}", others.join(", "))),
    })
}

/// Who may open its files: its own with `/dev/iommu`, or its group's.
fn files(patient: &Patient<'_>, device: &PciDevice) -> Option<Finding> {
    const CHECK: &str = "permission";
    let may_use = |file: &Path| patient.caller.may_use(&patient.tree.path(file));
    let files: Vec<PathBuf> = device.vfio_files(patient.tree);
    let own = device.own_file(patient.tree);
    let may_use_own = own.as_deref().is_some_and(may_use);
    if let Some(own) = &own
        && may_use_own
        && may_use(Path::new(IOMMUFD))
    {
        let what = format!("/{} and /{IOMMUFD} may be used", own.display());
        return Some(Finding::ok(CHECK, what));
    }
    // The group's file comes first.
    let Some(file) = files.first() else {
        let group = device.group.filter(|_| device.is_with_vfio())?;
        let what = "no file of its group in /dev/vfio: hand it into this container, or make it";
        let finding = Finding::fault(CHECK, what);
        let numbers = patient.tree.text(format!("sys/class/vfio/{group}/dev"));
        return Some(match numbers {
            None => finding,
            Some(numbers) => finding.mended_by(patient.caller.as_root(&format!(
                "mknod -m 600 /dev/vfio/{group} c {}",
                numbers.replace(':', " ")
            ))),
        });
    };
    // Where there are no groups, what is missing may be the other half.
    let file = match own.as_ref() == Some(file) && may_use_own {
        true => Path::new(IOMMUFD),
        false => file,
    };
    let name = format!("/{}", file.display());
    if may_use(file) {
        return Some(Finding::ok(CHECK, format!("{name} may be used")));
    }
    let command = patient.caller.sumac_as_root(&format!(
        "bind --user {} {}",
        patient.caller.uid, device.address
    ));
    Some(Finding::fault(CHECK, format!("{name} is not for this user")).mended_by(command))
}

/// A group is used by one process at a time.
fn holder(patient: &Patient<'_>, device: &PciDevice) -> Option<Finding> {
    let holder = in_use::holders(patient.tree, device).into_iter().next()?;
    let what = format!("{holder} has it open, and only one can");
    let command = patient.caller.as_root(&format!("kill {}", holder.process));
    Some(Finding::fault("in use", what).mended_by(command))
}

/// On a machine of several nodes the pool belongs on the device's.
fn near_pages(patient: &Patient<'_>, device: &PciDevice) -> Option<Finding> {
    let node = device.node?;
    let reserved = huge_pages::reserved(patient.tree);
    let mut of_size = reserved
        .iter()
        .filter(|pages| pages.page_bytes == POOL_PAGE);
    if of_size.clone().count() < 2 {
        return None;
    }
    let here = of_size.find(|pages| pages.node == Some(node))?;
    let needed = huge_pages::pages_for_pool(patient.pool);
    let what = format!("near node {node}, with {} huge pages free", here.free);
    if here.free >= needed {
        return Some(Finding::ok("node", what));
    }
    let command = format!("hugepages --for-pool {} --node {node}", patient.pool);
    let what = format!("{what}, {needed} needed: memory of another node is slower");
    Some(Finding::warning("node", what).mended_by(patient.caller.sumac_as_root(&command)))
}

/// Module and cable, as far as the kernel's driver knows them.
fn interfaces(patient: &Patient<'_>, device: &PciDevice) -> Vec<Finding> {
    let finding = |interface| cable(patient, interface);
    device.interfaces.iter().map(finding).collect()
}

fn cable(patient: &Patient<'_>, interface: &Interface) -> Finding {
    const CHECK: &str = "cable";
    let mut what = crate::devices::interface(interface);
    let mut has_module = true;
    match (patient.cage)(&interface.name) {
        Ok(module) => what += &format!(", {}", module_name(&module)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(_) => {
            what += ", no module answers";
            has_module = false;
        }
    }
    match (interface.is_up, interface.carrier) {
        (true, Some(true)) => Finding::ok(CHECK, what),
        (true, _) => Finding::warning(
            CHECK,
            format!("{what}: look at module, cable and the other end"),
        ),
        (false, _) if !has_module => {
            Finding::warning(CHECK, format!("{what}: put one into the cage"))
        }
        (false, _) => Finding::warning(
            CHECK,
            format!("{what}: switch it on to see whether there is a link"),
        )
        .mended_by(
            patient
                .caller
                .as_root(&format!("ip link set {} up", interface.name)),
        ),
    }
}

/// What kind it is, and what its maker calls it.
fn module_name(transceiver: &Transceiver) -> String {
    // SFF-8472, table 4-1.
    let bytes = transceiver.bytes();
    let module = Module {
        identifier: bytes[0],
        ethernet_10g: bytes[3],
        ethernet_1g: bytes[6],
        cable: bytes[8],
    };
    let words = [
        module.name().to_owned(),
        transceiver.vendor(),
        transceiver.part(),
    ];
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn link(device: &PciDevice) -> Option<Finding> {
    const CHECK: &str = "pcie";
    let link = device.link?;
    let current = link.current?;
    match link.highest.filter(|_| link.is_reduced()) {
        None => Some(Finding::ok(CHECK, current.to_string())),
        Some(best) => Some(Finding::warning(
            CHECK,
            format!("{current} of {best}: another slot, or the card seated anew, gives more"),
        )),
    }
}

/// Links that go to sleep wake up slowly.
fn power_saving(patient: &Patient<'_>, device: &PciDevice) -> Option<Finding> {
    device.aspm.first()?;
    let what = format!(
        "its link goes to sleep ({}), and takes microseconds to wake",
        device.aspm.join(", ")
    );
    let file = |state: &String| format!("/{}/link/{state}_aspm", device.folder().display());
    let commands = device.aspm.iter();
    let commands: Vec<_> =
        (commands.map(|state| patient.caller.write("0", &file(state)))).collect();
    Some(Finding::warning("aspm", what).mended_by(commands.join(" && ")))
}
