//! What the IOMMU costs: memory for packets is mapped quickly in huge pages, and slowly in small ones.

use serde_json::json;
use sumac_lab::{Image, Lab, Machine, Program};

/// The time in a line such as `512 MiB in 1.2s, 29.677µs of it for mapping; 2 MiB pages: true`, in seconds.
fn time_to_map(text: &str, pages: &str) -> f64 {
    let line = text
        .lines()
        .find(|line| line.starts_with("512 MiB in") && line.ends_with(pages))
        .unwrap_or_else(|| panic!("no line with {pages}:\n{text}"));
    let time = line
        .split_once(", ")
        .and_then(|(_, rest)| rest.split_once(" of it"));
    time.and_then(|(time, _)| seconds(time))
        .unwrap_or_else(|| panic!("no time in {line}"))
}

fn seconds(time: &str) -> Option<f64> {
    let units = [("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    units.iter().find_map(|(unit, factor)| {
        let number: f64 = time.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    })
}

/// 512 MiB are mapped in 2 MiB pages, and in 4 KiB pages when there are no others; how long each took is printed.
/// The card is QEMU's own, so that nobody outside has to be told of each page.
#[test]
fn memory_is_mapped_in_huge_and_in_small_pages() {
    let Some(lab) = Lab::open("memory_is_mapped_in_huge_and_in_small_pages") else {
        return;
    };
    let mut machine = Machine::new();
    machine.iommu(39).memory_mib(1536);
    let card = machine.device(json!({ "driver": "igb" })).address;
    let mut image = Image::new(&lab);
    image.modules(&["vfio-pci", "vfio_iommu_type1"]);
    image.program(&Program::example("sumac-linux", "open_device"));
    image.script(&format!(
        "set -e
        bind-vfio {card}
        echo 300 > /proc/sys/vm/nr_hugepages
        open_device {card} --map 512
        echo 0 > /proc/sys/vm/nr_hugepages
        open_device {card} --map 512"
    ));
    let ended = machine.boot(&lab, &image).finish();
    ended.assert_code(0);
    let huge = time_to_map(&ended.text, "2 MiB pages: true");
    let small = time_to_map(&ended.text, "2 MiB pages: false");
    println!("512 MiB: {huge} s in 2 MiB pages, {small} s in 4 KiB pages");
}
