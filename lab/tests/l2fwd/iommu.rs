//! What the IOMMU does: it maps packet memory quickly in huge pages, and stops a driver that means other memory.

use sumac_lab::{Ended, Lab};

use crate::setup::Cards;

/// Buffers of 2,112 bytes that fill 512 MiB.
const BUFFERS: u32 = 254_200;
/// At least the packet pool's mapping.
const LARGE: u64 = 500 << 20;

/// The time that the kernel took to map the packet pool, in seconds, from the lines of strace.
fn time_to_map(ended: &Ended, from: &str, to: &str) -> f64 {
    let (_, after) = ended.text.split_once(from).expect("it was written");
    let (part, _) = after.split_once(to).expect("it was written");
    let lines = part
        .lines()
        .filter(|line| line.contains("VFIO_IOMMU_MAP_DMA"));
    let large = lines.filter(|line| number_after(line, "size=").is_some_and(|size| size >= LARGE));
    let times: Vec<f64> = large
        .filter_map(|line| line.rsplit_once('<')?.1.trim_end_matches('>').parse().ok())
        .collect();
    assert_eq!(times.len(), 1, "one mapping of the pool:\n{part}");
    times[0]
}

fn number_after(line: &str, key: &str) -> Option<u64> {
    let (_, after) = line.split_once(key)?;
    let digits: String = after
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric())
        .collect();
    match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// A pool of 512 MiB in 2 MiB pages is mapped at least fifty times as fast as in 4 KiB pages.
#[test]
fn huge_pages_are_mapped_fifty_times_as_fast() {
    let Some(lab) = Lab::open("huge_pages_are_mapped_fifty_times_as_fast") else {
        return;
    };
    let mut cards = Cards::with([&[], &[]]);
    cards.machine.memory_mib(1536);
    let script = format!(
        "map() {{ strace -f -T -e trace=ioctl -o /tmp/trace l2fwd $A $B --isolation driver --pool {BUFFERS} --duration 100ms --json; }}
        echo 300 > /proc/sys/vm/nr_hugepages
        map > /tmp/said; grep huge_pages /tmp/said
        echo in huge pages; grep MAP_DMA /tmp/trace; echo that was all
        echo 0 > /proc/sys/vm/nr_hugepages
        map > /tmp/said; grep huge_pages /tmp/said
        echo in small pages; grep MAP_DMA /tmp/trace; echo that was all"
    );
    let guest = cards.boot_with(&lab, &script, |image| {
        image.tools(&["strace"]);
    });
    let (ended, _) = cards.finish_load(guest);
    let huge = time_to_map(&ended, "in huge pages", "that was all");
    let small = time_to_map(&ended, "in small pages", "that was all");
    println!(
        "512 MiB: {huge:.6} s in 2 MiB pages, {small:.6} s in 4 KiB pages: {:.0}",
        small / huge
    );
    assert!(small / huge >= 50.0, "{huge} s and {small} s");
}
