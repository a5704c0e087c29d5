//! `sumac hugepages`: shows what is reserved, reserves, and gives back.

use clap::Args;
use sumac_linux::pci::Tree;

use crate::caller::Caller;
use crate::huge_pages::{self, POOL_PAGE, Reserved};
use crate::{Trouble, output};

/// What `sumac hugepages` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Packet pools are made of 2 MiB pages: fewer entries for the IOMMU and the processor to look up. They need no\n\
        mounted hugetlbfs. What is reserved stays so until it is given back or the machine starts anew; reserve\n\
        early, for memory in pieces yields few. At start: hugepages=COUNT on the kernel command line.\n\n\
        Examples:\n  \
        sumac hugepages                                # what there is\n  \
        sudo sumac hugepages --for-pool 4096           # room for a pool of 4096 buffers beside what is in use\n  \
        sudo sumac hugepages 64 --node 0               # 64 pages on node 0\n  \
        sudo sumac hugepages 0                         # give all back"
)]
pub struct Options {
    /// Pages to have reserved on each NUMA node; 0 gives them back.
    #[arg(value_name = "COUNT", conflicts_with = "for_pool")]
    count: Option<u64>,
    /// As many free ones as a packet pool of this many buffers needs, with its rings.
    #[arg(long, value_name = "BUFFERS", value_parser = clap::value_parser!(u32).range(1..=1 << 22))]
    for_pool: Option<u32>,
    /// Size of a page: 2M or 1G.
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = size)]
    size: u64,
    /// Only on this NUMA node (`sumac devices` shows which one a card is near to).
    #[arg(long, value_name = "N")]
    node: Option<u32>,
    /// As a JSON list.
    #[arg(long)]
    json: bool,
}

fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) =
        text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let unit = match unit {
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return Err("write a number and a unit: 2M or 1G".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "write a number and a unit: 2M or 1G".to_owned())?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "no page is that large".to_owned())
}

/// Shows, reserves or gives back.
///
/// # Errors
/// [`Trouble`]: no such node or size, more than there is, or fewer than asked for could be had.
pub fn run(options: &Options, tree: &Tree, caller: &Caller) -> Result<(), Trouble> {
    let mut chosen = huge_pages::reserved(tree);
    let asked = options.count.is_some() || options.for_pool.is_some();
    let is_chosen = |pages: &Reserved| {
        let size = pages.page_bytes == options.size || !asked;
        size && (options.node.is_none() || pages.node == options.node)
    };
    chosen.retain(is_chosen);
    if options.node.is_none() {
        // A node may have processors only.
        chosen.retain(|pages| huge_pages::memory(tree, pages.node) != Some(0));
    }
    if chosen.is_empty() {
        return Err(none(options));
    }
    if asked {
        // What cannot be is refused before anything is changed.
        let wanted: Vec<u64> = chosen.iter().map(|pages| wanted(options, pages)).collect();
        for (pages, wanted) in chosen.iter().zip(&wanted) {
            check(tree, pages, *wanted)?;
        }
        for (pages, wanted) in chosen.iter_mut().zip(wanted) {
            *pages = huge_pages::reserve(tree, pages, wanted)
                .map_err(|error| refused(caller, pages, &error))?;
            let got = pages.pages;
            if got < wanted {
                return Err(Trouble::Machine(format!(
                    "{}: {got} of {wanted} pages could be had, for its memory is in use or in pieces: end what uses it, or \
                    reserve them at start (hugepages={wanted} on the kernel command line)",
                    place(pages)
                )));
            }
        }
    }
    if options.json {
        return output::json(&chosen);
    }
    let rows: Vec<_> = chosen.iter().map(row).collect();
    output::print(&output::table(
        ["node", "size", "reserved", "free", "in use", "surplus"],
        &rows,
    ))
}

fn wanted(options: &Options, pages: &Reserved) -> u64 {
    match (options.count, options.for_pool) {
        (_, Some(buffers)) => {
            let bytes = huge_pages::pages_for_pool(buffers) * POOL_PAGE;
            // Pages beyond those set aside do not count: they are somebody's.
            pages.used().saturating_sub(pages.surplus) + bytes.div_ceil(pages.page_bytes.max(1))
        }
        (count, None) => count.unwrap_or(pages.pages),
    }
}

/// A machine whose whole memory is reserved does not live long.
fn check(tree: &Tree, pages: &Reserved, wanted: u64) -> Result<(), Trouble> {
    let Some(memory) = huge_pages::memory(tree, pages.node) else {
        return Ok(());
    };
    let most = memory / 10 * 9 / pages.page_bytes.max(1);
    match wanted <= most.max(pages.pages) {
        true => Ok(()),
        false => Err(Trouble::Input(format!(
            "{}: {wanted} pages of {} are more than nine tenths of its {} MiB: {most} at most",
            place(pages),
            bytes(pages.page_bytes),
            memory >> 20
        ))),
    }
}

fn none(options: &Options) -> Trouble {
    let node = options
        .node
        .map_or_else(String::new, |node| format!(" on node {node}"));
    Trouble::Input(format!(
        "no pages of {}{node} here: `sumac hugepages` lists what this kernel has",
        bytes(options.size)
    ))
}

fn refused(caller: &Caller, pages: &Reserved, error: &std::io::Error) -> Trouble {
    let remedy = match error.kind() {
        std::io::ErrorKind::PermissionDenied if !caller.is_root() => ": run it as root (sudo)",
        _ => "",
    };
    Trouble::Machine(format!("{}: {error}{remedy}", place(pages)))
}

fn place(pages: &Reserved) -> String {
    pages
        .node
        .map_or_else(|| "this machine".to_owned(), |node| format!("node {node}"))
}

fn row(pages: &Reserved) -> [String; 6] {
    [
        pages
            .node
            .map_or_else(|| "-".to_owned(), |node| node.to_string()),
        bytes(pages.page_bytes),
        pages.pages.to_string(),
        pages.free.to_string(),
        pages.used().to_string(),
        pages.surplus.to_string(),
    ]
}

/// A size as `--size` takes it.
fn bytes(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => format!("{}G", bytes >> 30),
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        bytes => format!("{}K", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for text in ["2M", "1G", "64K"] {
            assert_eq!(bytes(size(text).expect("a size")), text);
        }
        for text in [
            "",
            "M",
            "2",
            "2T",
            "2ü",
            "-2M",
            "99999999999999999999M",
            "18446744073709551615G",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
