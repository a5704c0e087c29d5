//! The IOMMU: whether there is one, whether the kernel uses it, and what interrupts go through.

use sumac_linux::pci::{IommuGroup, Tree, binding};

use super::Patient;
use super::finding::Finding;

const CHECK: &str = "iommu";

/// Looks at the IOMMU.
pub(super) fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let tree = patient.tree;
    let mut findings = Vec::new();
    if is_on(tree) {
        let groups = IommuGroup::all(tree).len();
        let units = tree.names("sys/class/iommu").join(", ");
        findings.push(Finding::ok(CHECK, format!("{units}: {groups} groups")));
        findings.extend(remapping(patient));
    } else {
        findings.push(off(patient));
    }
    if binding::is_noiommu_allowed(tree) {
        let what =
            "vfio also hands out devices that no IOMMU keeps in bounds; Sumac takes none of them";
        let file = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        findings
            .push(Finding::warning("no-iommu", what).mended_by(patient.caller.write("N", file)));
    }
    findings
}

/// Whether an IOMMU translates for any device.
pub(super) fn is_on(tree: &Tree) -> bool {
    IommuGroup::all(tree).iter().any(|group| !group.is_noiommu)
}

/// No device is in a group: why?
fn off(patient: &Patient<'_>) -> Finding {
    let (tree, caller) = (patient.tree, patient.caller);
    let line = tree.text("proc/cmdline").unwrap_or_default();
    let switched = line.split_whitespace().find(|word| OFF.contains(word));
    if let Some(word) = switched {
        let what = format!("switched off by `{word}` on the kernel command line");
        return Finding::fault(CHECK, what).mended_by(boot_without(patient, word));
    }
    let tables = tree.names("sys/firmware/acpi/tables");
    let has = |name: &str| tables.iter().any(|table| table == name);
    if has("DMAR") {
        let what = "the machine has one (Intel VT-d), but the kernel does not use it";
        return Finding::fault(CHECK, what).mended_by(boot_with(patient, "intel_iommu=on"));
    }
    if has("IVRS") {
        let what = "the machine has one (AMD-Vi), but the kernel does not use it";
        return Finding::fault(CHECK, what).mended_by(boot_with(patient, "amd_iommu=force_enable"));
    }
    if is_virtual(tree) {
        let what =
            "this virtual machine has none: give it one from outside (shown: QEMU's options)";
        return Finding::fault(CHECK, what).mended_by(QEMU);
    }
    let what = "the firmware shows none: switch on VT-d or AMD-Vi (IOMMU) in its set-up";
    Finding::fault(CHECK, what).mended_by(caller.as_root(FIRMWARE))
}

/// Whether this is a virtual machine.
fn is_virtual(tree: &Tree) -> bool {
    let processors = tree.text("proc/cpuinfo").unwrap_or_default();
    let flags = processors.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
}

/// Starts anew, into the firmware's set-up.
const FIRMWARE: &str = "systemctl reboot --firmware-setup";

/// Words of the kernel command line that switch an IOMMU off.
const OFF: [&str; 3] = ["intel_iommu=off", "amd_iommu=off", "iommu=off"];

/// What a guest of QEMU's needs on QEMU's command line.
const QEMU: &str = "qemu-system-x86_64 -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on,caching-mode=on";

/// Puts a word on the kernel command line, for good.
fn boot_with(patient: &Patient<'_>, word: &str) -> String {
    if patient.tree.path("usr/sbin/grubby").exists() {
        return boot(
            patient,
            &format!("grubby --update-kernel=ALL --args={word}"),
            None,
        );
    }
    let edit = format!("sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{word} /' /etc/default/grub");
    boot(patient, &edit, Some("update-grub"))
}

/// Takes one off.
fn boot_without(patient: &Patient<'_>, word: &str) -> String {
    if patient.tree.path("usr/sbin/grubby").exists() {
        return boot(
            patient,
            &format!("grubby --update-kernel=ALL --remove-args={word}"),
            None,
        );
    }
    let edit = format!("sed -i '/^GRUB_CMDLINE/s/{word}//' /etc/default/grub");
    boot(patient, &edit, Some("update-grub"))
}

fn boot(patient: &Patient<'_>, edit: &str, then: Option<&str>) -> String {
    let steps = [Some(edit), then, Some("reboot")].into_iter().flatten();
    let steps: Vec<String> = steps.map(|step| patient.caller.as_root(step)).collect();
    steps.join(" && ")
}

/// Whether interrupts of devices go through the IOMMU too. Without that a device could raise any, so vfio hands
/// none over unless told to. The names of interrupt controllers say it on x86; elsewhere there is no such question.
fn remapping(patient: &Patient<'_>) -> Option<Finding> {
    let interrupts = patient.tree.text("proc/interrupts")?;
    let mut controllers = interrupts.split_whitespace();
    if controllers.any(|word| word.starts_with("IR-")) {
        return Some(Finding::ok("interrupts", "remapped by the IOMMU"));
    }
    if !interrupts.contains("IO-APIC") {
        return None;
    }
    const FILE: &str = "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
    let command = match patient.tree.text(FILE).as_deref() {
        Some("Y") => {
            let what = "not remapped, and vfio does without: a device can raise any interrupt";
            let command = match is_virtual(patient.tree) {
                true => QEMU.to_owned(),
                false => patient.caller.as_root(FIRMWARE),
            };
            return Some(Finding::warning("interrupts", what).mended_by(command));
        }
        Some(_) => patient.caller.write("Y", &format!("/{FILE}")),
        None => patient
            .caller
            .as_root("modprobe vfio_iommu_type1 allow_unsafe_interrupts=1"),
    };
    let what = "the IOMMU does not remap them, so vfio hands out no device; allow it where you trust the devices";
    Some(Finding::fault("interrupts", what).mended_by(command))
}
