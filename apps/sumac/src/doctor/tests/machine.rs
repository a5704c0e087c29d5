//! What the machine lacks: modules, files, memory.

use super::*;

#[test]
fn modules_that_are_not_loaded() {
    let machine = well();
    machine.remove("sys/module/vfio_iommu_type1");
    let command = "modprobe -a vfio-pci vfio_iommu_type1";
    assert_fault(&machine, "vfio", "not loaded: vfio_iommu_type1", command);
    machine.remove("sys/module/vfio_pci");
    machine.file("proc/sys/kernel/osrelease", "6.12.0");
    machine.file(
        "lib/modules/6.12.0/modules.dep",
        "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz",
    );
    assert_fault(
        &machine,
        "vfio",
        "not loaded: vfio-pci, vfio_iommu_type1",
        command,
    );
    machine.file(
        "lib/modules/6.12.0/modules.dep",
        "kernel/drivers/net/tun.ko:",
    );
    assert_fault(
        &machine,
        "vfio",
        "6.12.0) comes without",
        "apt-get install linux-image-amd64",
    );
}

#[test]
fn files_that_are_not_for_the_user() {
    let machine = well();
    ordinary(&machine);
    mode(&machine, "12", 0o666);
    assert_fault(
        &machine,
        "vfio",
        "/dev/vfio/vfio",
        "sudo chmod 666 /dev/vfio/vfio",
    );
    mode(&machine, "vfio", 0o666);
    assert_well(&machine);
    mode(&machine, "12", 0o664);
    let command = "sudo sumac bind --user 54321 0000:03:00.0";
    assert_fault(
        &machine,
        "permission",
        "/dev/vfio/12 is not for this user",
        command,
    );
}

#[test]
fn files_that_are_not_there() {
    let machine = well();
    machine.remove("dev/vfio/12");
    assert_only(
        &machine,
        "permission",
        State::Fault,
        "no file of its group",
        None,
    );
    machine.file("sys/class/vfio/12/dev", "244:7");
    let command = "mkdir -p /dev/vfio && mknod -m 600 /dev/vfio/12 c 244 7";
    assert_fault(&machine, "permission", "no file of its group", command);
    machine.file("dev/vfio/12", "");
    machine.remove("dev/vfio/vfio");
    let command = "mkdir -p /dev/vfio && mknod -m 666 /dev/vfio/vfio c 10 196";
    assert_fault(&machine, "vfio", "no /dev/vfio/vfio here", command);
    machine.remove("sys/module/vfio_pci");
    let command = "modprobe -a vfio-pci vfio_iommu_type1";
    assert_fault(&machine, "vfio", "not loaded: vfio-pci", command);
}

#[test]
fn too_little_memory_to_lock() {
    let machine = well();
    lockable(&machine, "65536");
    assert_well(&machine);
    ordinary(&machine);
    mode(&machine, "vfio", 0o666);
    mode(&machine, "12", 0o666);
    lockable(&machine, "8388608");
    let command = "sudo prlimit --pid $$ --memlock=unlimited:unlimited";
    assert_fault(
        &machine,
        "memlock",
        "8192 KiB may be locked, 12 MiB for 4096 buffers needed",
        command,
    );
    lockable(&machine, "12582912");
    assert_well(&machine);
}

#[test]
fn too_few_huge_pages() {
    let machine = well();
    machine.file(
        &format!("sys/devices/system/node/node0/{PAGES}/free_hugepages"),
        "5",
    );
    assert_warning(
        &machine,
        "hugepages",
        "5 pages of 2 MiB free, 6 needed",
        "sumac hugepages --for-pool 4096",
    );
    machine.file(
        &format!("sys/devices/system/node/node0/{PAGES}/free_hugepages"),
        "6",
    );
    assert_well(&machine);
}

#[test]
fn huge_pages_on_the_wrong_node() {
    let machine = well();
    for file in ["nr_hugepages", "free_hugepages"] {
        machine.file(
            &format!("sys/devices/system/node/node1/{PAGES}/{file}"),
            "0",
        );
    }
    machine.fact(CARD, "numa_node", "1");
    let command = "sumac hugepages --for-pool 4096 --node 1";
    assert_warning(
        &machine,
        "node",
        "near node 1, with 0 huge pages free, 6 needed",
        command,
    );
    machine.fact(CARD, "numa_node", "0");
    assert_well(&machine);
}

#[test]
fn lockdown_is_told_and_no_fault() {
    let machine = well();
    machine.file(
        "sys/kernel/security/lockdown",
        "none [integrity] confidentiality",
    );
    assert_well(&machine);
    assert!(
        look(&machine)
            .iter()
            .any(|finding| finding.check == "lockdown" && finding.what.starts_with("integrity"))
    );
    machine.file(
        "sys/kernel/security/lockdown",
        "[none] integrity confidentiality",
    );
    assert!(
        look(&machine)
            .iter()
            .all(|finding| finding.check != "lockdown")
    );
}
