//! What every device needs of the machine: vfio's modules, lockable memory, huge pages.

use sumac_linux::pci::binding::{self, IOMMUFD, MODULES};

use super::Patient;
use super::finding::Finding;
use crate::huge_pages::{self, POOL_PAGE};

/// Looks at the machine.
pub(super) fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = vec![vfio(patient)];
    findings.extend(container(patient));
    findings.push(memory_lock(patient));
    findings.push(pages(patient));
    findings.extend(lockdown(patient));
    findings
}

/// The modules behind vfio-pci.
fn vfio(patient: &Patient<'_>) -> Finding {
    const CHECK: &str = "vfio";
    let tree = patient.tree;
    let missing: Vec<&str> = MODULES
        .into_iter()
        .filter(|module| !binding::is_module_there(tree, module))
        .collect();
    match missing.as_slice() {
        [] => return Finding::ok(CHECK, format!("{} are there", MODULES.join(" and "))),
        // The IOMMU's side is there by another name.
        [module] if *module == MODULES[1] && has_iommufd(patient) => {
            return Finding::ok(CHECK, format!("{} and iommufd are there", MODULES[0]));
        }
        _ => {}
    }
    let release = tree.text("proc/sys/kernel/osrelease").unwrap_or_default();
    if is_without(
        &tree
            .text(format!("lib/modules/{release}/modules.dep"))
            .unwrap_or_default(),
    ) {
        let what = format!("this kernel ({release}) comes without vfio-pci: take one that has it");
        let command = patient.caller.as_root("apt-get install linux-image-amd64");
        return Finding::fault(CHECK, what).mended_by(command);
    }
    let command = patient
        .caller
        .as_root(&format!("modprobe -a {}", MODULES.join(" ")));
    Finding::fault(CHECK, format!("not loaded: {}", missing.join(", "))).mended_by(command)
}

/// Whether a list of all modules, each with those it needs, lacks vfio-pci. Without a list nobody knows.
fn is_without(list: &str) -> bool {
    let mut files = list
        .lines()
        .filter_map(|line| line.split_once(':')?.0.rsplit('/').next());
    !list.is_empty() && !files.any(|file| file.replace('_', "-").starts_with("vfio-pci.ko"))
}

fn has_iommufd(patient: &Patient<'_>) -> bool {
    patient.tree.path(IOMMUFD).exists()
}

/// Whether this user needs no groups: whose devices have files of their own is another check.
fn may_use_iommufd(patient: &Patient<'_>) -> bool {
    patient.caller.may_use(&patient.tree.path(IOMMUFD))
}

/// `/dev/vfio/vfio`, which every process opens that takes devices by their groups. The modules make it.
fn container(patient: &Patient<'_>) -> Option<Finding> {
    let loaded = MODULES
        .iter()
        .all(|module| binding::is_module_there(patient.tree, module));
    let file = patient.tree.path("dev/vfio/vfio");
    if may_use_iommufd(patient) {
        return None;
    }
    if !file.exists() {
        let what = "no /dev/vfio/vfio here: hand it into this container, or make it";
        let command = patient
            .caller
            .as_root("mknod -m 666 /dev/vfio/vfio c 10 196");
        return loaded.then(|| Finding::fault("vfio", what).mended_by(command));
    }
    if patient.caller.may_use(&file) {
        return None;
    }
    let what = "/dev/vfio/vfio is not for this user";
    let command = patient.caller.as_root("chmod 666 /dev/vfio/vfio");
    Some(Finding::fault("vfio", what).mended_by(command))
}

/// What a device reaches is locked in memory, and counts against a limit.
fn memory_lock(patient: &Patient<'_>) -> Finding {
    const CHECK: &str = "memlock";
    let caller = patient.caller;
    let needed = huge_pages::pages_for_pool(patient.pool) * POOL_PAGE;
    let for_what = format!("{} MiB for {} buffers", needed >> 20, patient.pool);
    match caller.lockable {
        _ if caller.may_lock_anything() => Finding::ok(CHECK, "no limit for root"),
        None => Finding::ok(CHECK, "no limit"),
        Some(bytes) if bytes >= needed => Finding::ok(
            CHECK,
            format!("{} MiB may be locked, {for_what} needed", bytes >> 20),
        ),
        Some(bytes) => {
            let what = format!(
                "{} KiB may be locked, {for_what} needed (this shell; for good: docs/hardware.md)",
                bytes >> 10
            );
            let command = caller.as_root("prlimit --pid $$ --memlock=unlimited:unlimited");
            Finding::fault(CHECK, what).mended_by(command)
        }
    }
}

/// Huge pages for the packet pool. Without them it lies in ordinary pages.
fn pages(patient: &Patient<'_>) -> Finding {
    const CHECK: &str = "hugepages";
    let needed = huge_pages::pages_for_pool(patient.pool);
    let reserved = huge_pages::reserved(patient.tree);
    let free: u64 = reserved
        .iter()
        .filter(|pages| pages.page_bytes == POOL_PAGE)
        .map(|pages| pages.free)
        .sum();
    if free >= needed {
        return Finding::ok(
            CHECK,
            format!("{free} pages of 2 MiB free, {needed} needed"),
        );
    }
    let what = format!(
        "{free} pages of 2 MiB free, {needed} needed: the pool would lie in 4 KiB pages, slower to map and to reach"
    );
    let command = patient
        .caller
        .sumac_as_root(&format!("hugepages --for-pool {}", patient.pool));
    Finding::warning(CHECK, what).mended_by(command)
}

/// Lockdown, which comes with Secure Boot, keeps users from memory and ports; vfio it leaves alone.
fn lockdown(patient: &Patient<'_>) -> Option<Finding> {
    let modes = patient.tree.text("sys/kernel/security/lockdown")?;
    let mode = modes.split('[').nth(1)?.split(']').next()?;
    (mode != "none").then(|| {
        Finding::ok(
            "lockdown",
            format!("{mode}: vfio works; modules need a signature"),
        )
    })
}
