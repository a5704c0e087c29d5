//! IOMMUs that are off, not there or done without, and interrupts that are not remapped.

use super::*;

#[test]
fn an_iommu_that_the_kernel_does_not_use() {
    let machine = without_iommu();
    machine.file("sys/firmware/acpi/tables/DMAR", "");
    let command = "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&intel_iommu=on /' /etc/default/grub && update-grub && reboot";
    assert_fault(&machine, "iommu", "the kernel does not use it", command);
    machine.file("usr/sbin/grubby", "");
    let command = "grubby --update-kernel=ALL --args=intel_iommu=on && reboot";
    assert_fault(&machine, "iommu", "Intel VT-d", command);
    machine.remove("sys/firmware/acpi/tables/DMAR");
    machine.file("sys/firmware/acpi/tables/IVRS", "");
    let command = "grubby --update-kernel=ALL --args=amd_iommu=force_enable && reboot";
    assert_fault(&machine, "iommu", "AMD-Vi", command);
}

#[test]
fn an_iommu_that_is_switched_off() {
    let machine = without_iommu();
    machine.file("sys/firmware/acpi/tables/DMAR", "");
    machine.file("proc/cmdline", "quiet intel_iommu=off");
    let command =
        "sed -i '/^GRUB_CMDLINE/s/intel_iommu=off//' /etc/default/grub && update-grub && reboot";
    assert_fault(&machine, "iommu", "`intel_iommu=off`", command);
}

#[test]
fn no_iommu_at_all() {
    let machine = without_iommu();
    assert_fault(
        &machine,
        "iommu",
        "firmware shows none",
        "systemctl reboot --firmware-setup",
    );
    machine.file("proc/cpuinfo", "processor : 0\nflags : fpu vme hypervisor");
    let command = "qemu-system-x86_64 -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on,caching-mode=on";
    assert_fault(&machine, "iommu", "virtual machine has none", command);
}

#[test]
fn doing_without_an_iommu() {
    let machine = without_iommu();
    machine.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
    machine.group(CARD, 0);
    machine.file("sys/kernel/iommu_groups/0/name", "vfio-noiommu");
    machine.file("dev/vfio/noiommu-0", "");
    let findings = look(&machine).into_iter();
    let bad: Vec<_> = findings
        .filter(|finding| finding.state != State::Ok)
        .map(|finding| (finding.check, finding.state))
        .collect();
    assert_eq!(bad, [("iommu", State::Fault), ("no-iommu", State::Warning)]);
}

#[test]
fn vfio_that_would_do_without_an_iommu() {
    let machine = well();
    machine.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
    let command = "echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    assert_warning(&machine, "no-iommu", "no IOMMU keeps in bounds", command);
}

#[test]
fn interrupts_that_are_not_remapped() {
    let machine = well();
    machine.file(
        "proc/interrupts",
        " CPU0\n 1: 9 IO-APIC 1-edge i8042\n 24: 7 PCI-MSI 524288-edge eth0",
    );
    let command = "modprobe vfio_iommu_type1 allow_unsafe_interrupts=1";
    assert_fault(&machine, "interrupts", "does not remap", command);
    let file = "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
    machine.file(file, "N");
    assert_fault(
        &machine,
        "interrupts",
        "does not remap",
        &format!("echo Y > /{file}"),
    );
    machine.file(file, "Y");
    assert_only(
        &machine,
        "interrupts",
        State::Warning,
        "any interrupt",
        Some("systemctl reboot --firmware-setup"),
    );
    machine.file("proc/interrupts", " CPU0\n 1: 9 GICv3 27 Level timer");
    assert_well(&machine);
}
