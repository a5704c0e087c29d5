//! Huge pages: how many each NUMA node has reserved, and reserving more or giving them back.

use std::fs;
use std::io;

use serde::Serialize;
use sumac_linux::pci::Tree;
use sumac_rref::pool::STRIDE;

/// Where the kernel shows its NUMA nodes.
const NODES: &str = "sys/devices/system/node";
/// The pages that packet pools are made of.
pub const POOL_PAGE: u64 = 2 << 20;

/// The reserved pages of one size on one NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reserved {
    /// The node; `None` on a machine that shows no nodes.
    pub node: Option<u32>,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Pages set aside.
    pub pages: u64,
    /// Those that nobody uses.
    pub free: u64,
    /// Those above what was set aside, that go away when they are no longer used.
    pub surplus: u64,
    #[serde(skip)]
    folder: String,
}

impl Reserved {
    /// Pages in use.
    pub fn used(&self) -> u64 {
        self.pages.saturating_sub(self.free)
    }
}

/// All sizes on all nodes, in that order.
pub fn reserved(tree: &Tree) -> Vec<Reserved> {
    let mut all: Vec<Reserved> = Vec::new();
    let nodes = tree.names(NODES).into_iter().filter_map(|name| {
        let node: u32 = name.strip_prefix("node")?.parse().ok()?;
        Some((Some(node), format!("{NODES}/{name}/hugepages")))
    });
    for (node, folder) in nodes {
        all.extend(sizes(tree, node, &folder));
    }
    if all.is_empty() {
        all.extend(sizes(tree, None, "sys/kernel/mm/hugepages"));
    }
    all.sort_by_key(|pages| (pages.node, pages.page_bytes));
    all
}

fn sizes(tree: &Tree, node: Option<u32>, folder: &str) -> Vec<Reserved> {
    let size = |name: String| {
        let kib: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let folder = format!("{folder}/{name}");
        let number = |file: &str| tree.text(format!("{folder}/{file}"))?.parse().ok();
        Some(Reserved {
            node,
            page_bytes: kib.checked_mul(1024)?,
            pages: number("nr_hugepages")?,
            free: number("free_hugepages")?,
            surplus: number("surplus_hugepages").unwrap_or(0),
            folder,
        })
    };
    tree.names(folder).into_iter().filter_map(size).collect()
}

/// Pages of [`POOL_PAGE`] bytes that a packet pool of so many buffers takes, with its devices' rings.
pub fn pages_for_pool(buffers: u32) -> u64 {
    // Rings: 16 bytes a descriptor, for many queues less than one page.
    let rings = 1;
    (u64::from(buffers) * STRIDE as u64).div_ceil(POOL_PAGE) + rings
}

/// Sets aside `pages` on a node, or gives back what is above that; returns what there is then. Of what is in
/// use nothing is given back before it is free.
///
/// # Errors
/// What the kernel said.
pub fn reserve(tree: &Tree, of: &Reserved, pages: u64) -> io::Result<Reserved> {
    let file = tree.path(format!("{}/nr_hugepages", of.folder));
    fs::write(&file, pages.to_string())?;
    let now = || {
        let mut all = reserved(tree).into_iter();
        let same = |now: &Reserved| now.folder == of.folder;
        all.find(same).ok_or(io::ErrorKind::NotFound)
    };
    let first = now()?;
    if first.pages >= pages {
        return Ok(first);
    }
    // Free memory may be in pieces: moved together it may do. A kernel without compaction has no such file.
    let _ = fs::write(tree.path("proc/sys/vm/compact_memory"), "1");
    fs::write(&file, pages.to_string())?;
    Ok(now()?)
}

/// Memory of a node in bytes; of the machine where it shows no nodes.
pub fn memory(tree: &Tree, node: Option<u32>) -> Option<u64> {
    let file = node.map_or_else(
        || "proc/meminfo".into(),
        |node| format!("{NODES}/node{node}/meminfo"),
    );
    let text = tree.text(file)?;
    let line = text.lines().find(|line| line.contains("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().rev().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use sumac_testbed::machine::Machine;

    use super::*;

    fn pages(machine: &Machine, folder: &str, size_kib: u64, numbers: [&str; 3]) {
        for (file, number) in ["nr_hugepages", "free_hugepages", "surplus_hugepages"]
            .iter()
            .zip(numbers)
        {
            machine.file(&format!("{folder}/hugepages-{size_kib}kB/{file}"), number);
        }
    }

    #[test]
    fn pages_are_shown_by_node_and_size() {
        let machine = Machine::new();
        let tree = Tree::at(machine.root());
        assert_eq!(reserved(&tree), []);
        pages(&machine, "sys/kernel/mm/hugepages", 2048, ["8", "5", "1"]);
        let told = |tree: &Tree| -> Vec<_> {
            reserved(tree)
                .iter()
                .map(|of| (of.node, of.page_bytes, of.pages, of.used()))
                .collect()
        };
        assert_eq!(told(&tree), [(None, 2 << 20, 8, 3)]);
        pages(
            &machine,
            "sys/devices/system/node/node1/hugepages",
            2048,
            ["4", "4", "0"],
        );
        pages(
            &machine,
            "sys/devices/system/node/node0/hugepages",
            1_048_576,
            ["1", "0", "0"],
        );
        pages(
            &machine,
            "sys/devices/system/node/node0/hugepages",
            2048,
            ["x", "5", "0"],
        );
        assert_eq!(
            told(&tree),
            [(Some(0), 1 << 30, 1, 1), (Some(1), 2 << 20, 4, 0)]
        );
    }

    #[test]
    fn what_is_reserved_goes_to_its_node() {
        let machine = Machine::new();
        let tree = Tree::at(machine.root());
        for node in [0, 1] {
            let folder = format!("sys/devices/system/node/node{node}/hugepages");
            pages(&machine, &folder, 2048, ["0", "0", "0"]);
        }
        let second = reserved(&tree).remove(1);
        assert_eq!(reserve(&tree, &second, 64).expect("written").pages, 64);
        let all: Vec<u64> = reserved(&tree).iter().map(|of| of.pages).collect();
        assert_eq!(all, [0, 64]);
    }

    #[test]
    fn a_pool_takes_its_buffers_and_a_page_for_rings() {
        assert_eq!(pages_for_pool(1), 2);
        // 992 buffers of 2,112 bytes fit a page, 993 do not.
        assert_eq!((pages_for_pool(992), pages_for_pool(993)), (2, 3));
    }

    #[test]
    fn memory_is_the_nodes_or_the_machines() {
        let machine = Machine::new();
        let tree = Tree::at(machine.root());
        machine.file("proc/meminfo", "MemTotal:       24683104 kB\nMemFree: 1 kB");
        machine.file(
            "sys/devices/system/node/node1/meminfo",
            "\nNode 1 MemTotal:       1024 kB",
        );
        assert_eq!(memory(&tree, None), Some(24_683_104 << 10));
        assert_eq!(memory(&tree, Some(1)), Some(1 << 20));
        assert_eq!(memory(&tree, Some(2)), None);
    }
}
