//! The IOMMU itself: which addresses it takes, what its mappings cost, and what becomes of a driver that points its
//! device elsewhere. The cards are QEMU's own: what a card of another process does passes QEMU's IOMMU by, and each
//! mapping is a message to that process.

use serde_json::{Value, json};
use sumac_lab::{Image, Lab, Machine, Program, Served};

use crate::frames::mixed;
use crate::setup::{Cards, assert_same, number};

/// A narrow IOMMU and a wide one are asked for what they take, and memory lies there: 39 bits here and in all
/// other tests, 48 bits with `l2fwd` on them.
#[test]
fn l2fwd_forwards_by_wide_bus_addresses() {
    let Some(lab) = Lab::open("l2fwd_forwards_by_wide_bus_addresses") else {
        return;
    };
    let frames = mixed();
    let mut cards = Cards::with([&frames, &frames]);
    cards.machine.iommu(48);
    let total = 2 * frames.len();
    let script = format!(
        "open_device $A $B
        l2fwd $A $B --isolation driver --no-mac-updating --json --frames {total}"
    );
    let guest = cards.boot_with(&lab, &script, |image| {
        image.program(&Program::example("sumac-linux", "open_device"));
    });
    let outcome = cards.finish(guest);
    assert_eq!(
        bus_addresses(&outcome.ended.text),
        ["0x100000..0xfee00000", "0xfef00000..0x1000000000000"]
    );
    assert_same(&outcome.sent[0], &frames);
    assert_same(&outcome.sent[1], &frames);
}

fn bus_addresses(text: &str) -> Vec<&str> {
    let lines = text.lines();
    lines
        .filter_map(|line| line.strip_prefix("bus addresses: "))
        .collect()
}

/// Times in a line of `map_pages`, for mapping: median, least and most, in milliseconds.
fn times(text: &str, card: &str, way: &str) -> [f64; 3] {
    let line = text
        .split_once(&format!("{card}: "))
        .and_then(|(_, after)| after.lines().find_map(|line| line.strip_prefix(way)));
    // `131072 mappings: 2606.6 (2580.1 to 2701.9) ms; away ..`
    let times = line.and_then(|line| {
        let (times, _) = line.split_once("mappings: ")?.1.split_once(" ms")?;
        let numbers = times.split(['(', ')', ' ']);
        let mut numbers = numbers.filter_map(|word| word.parse().ok());
        Some([numbers.next()?, numbers.next()?, numbers.next()?])
    });
    times.unwrap_or_else(|| panic!("no times for {way} on {card}:\n{text}"))
}

/// Memory is mapped in 2 MiB pages and in 4 KiB pages, at once and page by page; how long each took is printed, in the
/// shape of all figures. SUMAC_MAP_MIB and SUMAC_MAP_ROUNDS ask for more. Page by page in 4 KiB takes more mappings than the kernel allows, until it is told to allow
/// them. A card of another process has to be told of each page, and takes 16,384 mappings, so less memory is mapped.
#[test]
fn memory_is_mapped_in_huge_and_in_small_pages() {
    let Some(lab) = Lab::open("memory_is_mapped_in_huge_and_in_small_pages") else {
        return;
    };
    let mib = number("SUMAC_MAP_MIB", 64);
    let rounds = number("SUMAC_MAP_ROUNDS", 1);
    let few = mib.min(32);
    let served = Served::cards(&["null"]);
    let mut machine = Machine::new();
    machine.iommu(39).memory_mib(512 + 2 * mib);
    let card = machine.device(json!({ "driver": "igb" })).address;
    let other = machine.vfio_user(&served.socket(0)).address;
    let mut image = Image::new(&lab);
    image.modules(&["vfio-pci", "vfio_iommu_type1"]);
    for program in ["open_device", "map_pages"] {
        image.program(&Program::example("sumac-linux", program));
    }
    image.script(&format!(
        "set -e
        bind-vfio {card} {other}
        echo {} > /proc/sys/vm/nr_hugepages
        open_device {card}
        limit=/sys/module/vfio_iommu_type1/parameters/dma_entry_limit
        echo 1000 > $limit
        if map_pages {card} 8 1 2> /tmp/said; then exit 1; fi
        grep -q '4 KiB pages one by one: No space left on device' /tmp/said
        echo 1000000 > $limit
        map_pages {card} {mib} {rounds}
        map_pages {other} {few} {rounds}",
        mib / 2 + 16
    ));
    let ended = machine.boot(&lab, &image).finish();
    ended.assert_code(0);
    served.finish();
    assert_eq!(
        bus_addresses(&ended.text),
        ["0x100000..0xfee00000", "0xfef00000..0x8000000000"]
    );
    for (name, card, mib) in [("igb", &card, mib), ("served", &other, few)] {
        for row in rows(&ended.text, card, rounds) {
            println!("{mib} MiB, {name}: {row}");
        }
    }
}

/// What a card's mappings took: each way in 2 MiB pages against each in 4 KiB pages.
fn rows(text: &str, card: &str, rounds: u32) -> Vec<Value> {
    let ways = ["at once", "one by one"];
    let pairs = ways
        .iter()
        .flat_map(|large| ways.map(|small| (large, small)));
    let row = |(large, small): (&&str, &str)| {
        let [ours, ..] = times(text, card, &format!("2 MiB pages {large}"));
        let [peer, least, most] = times(text, card, &format!("4 KiB pages {small}"));
        json!({
            "name": format!("map/{large}"), "unit": "ms", "ours": ours, "peer": peer,
            "peer_name": format!("4 KiB pages {small}"), "ratio": ours / peer,
            "spread": [ours / most, ours / least], "windows": rounds, "class": "guest",
            "limited_by": "kernel", "paper": null,
        })
    };
    pairs.map(row).collect()
}

/// A driver that points its card to where it has no memory reads and overwrites nothing: the IOMMU says so, names
/// the card, and neither the kernel, nor another driver at work, nor the card after a reset is the worse for it.
/// Good drivers before and beside it are not mentioned.
#[test]
fn a_bad_driver_is_stopped_by_the_iommu() {
    let Some(lab) = Lab::open("a_bad_driver_is_stopped_by_the_iommu") else {
        return;
    };
    let mut machine = Machine::new();
    machine.iommu(48).cores(2);
    for fault in [
        "vtd_iova_to_sspte:",
        "vtd_iommu_translate:",
        "New fault is not recorded",
    ] {
        machine.qemu_says(fault);
    }
    let [bad, good] = [0, 1].map(|_| machine.device(json!({ "driver": "e1000e" })).address);
    let mut image = Image::new(&lab);
    image.modules(&["vfio-pci", "vfio_iommu_type1"]);
    image.program(&Program::example("sumac-linux", "stray_dma"));
    let script = format!("set -e\nBAD={bad}\nGOOD={good}\n{BAD}");
    image.script(&script);
    machine.boot(&lab, &image).finish().assert_code(0);
}

const BAD: &str = r#"
bind-vfio $BAD $GOOD
echo 32 > /proc/sys/vm/nr_hugepages
faults() { dmesg | grep "DMAR:.*$1" || true; }
stray_dma $BAD good 20
test -z "$(faults fault)"
stray_dma $GOOD good /tmp/enough > /tmp/beside &
beside=$!
wait_on $beside grep 'at work' /tmp/beside
stray_dma $BAD bad
# The kernel tells of them when it gets to it.
told() { faults "DMA $1.*Request device \[${BAD#0000:}\] fault addr 0x1000000" | grep .; }
wait_until told Read
wait_until told Write
touch /tmp/enough
wait $beside
cat /tmp/beside
faults fault
test -z "$(faults "Request device \[${GOOD#0000:}\]")"
stray_dma $GOOD good 20
"#;
