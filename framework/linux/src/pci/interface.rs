//! Network interfaces: whose they are, and which one leads out of the machine.

use std::fs;
use std::path::{Path, PathBuf};

use super::Tree;
use crate::spec::PciAddress;

/// Where the kernel shows its interfaces.
const INTERFACES: &str = "sys/class/net";

/// A network interface of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether somebody switched it on.
    pub is_up: bool,
    /// Whether it sees its link; `None` while it is off.
    pub carrier: Option<bool>,
    /// Its speed in Mbit/s, with a link.
    pub megabits: Option<u32>,
}

impl Interface {
    /// The interfaces of the device at `address`.
    pub(super) fn of(tree: &Tree, address: PciAddress) -> Vec<Self> {
        let names = tree.names(INTERFACES).into_iter();
        names
            .filter(|name| device_of(tree, &Path::new(INTERFACES).join(name)) == Some(address))
            .map(|name| Self::read(tree, name))
            .collect()
    }

    fn read(tree: &Tree, name: String) -> Self {
        let text = |file: &str| tree.text(PathBuf::from(INTERFACES).join(&name).join(file));
        let flags = text("flags").and_then(|flags| super::tree::hex(&flags));
        Self {
            is_up: flags.is_some_and(|flags| flags & 1 != 0),
            carrier: text("carrier").map(|carrier| carrier == "1"),
            // -1 without a link.
            megabits: text("speed").and_then(|speed| speed.parse().ok()),
            name,
        }
    }
}

/// The device behind a link of `/sys/class`: the last PCI address on the way to what it points to. Between the
/// two may be others, such as a virtio device.
pub(super) fn device_of(tree: &Tree, link: &Path) -> Option<PciAddress> {
    let place = fs::canonicalize(tree.path(link)).ok()?;
    let parts = place.iter().rev();
    parts.filter_map(|part| part.to_str()?.parse().ok()).next()
}

/// The interfaces that carry a default route, and those below them (of a bridge, a bond, a VLAN).
pub(super) fn with_default_route(tree: &Tree) -> Vec<String> {
    let v4 = tree.text("proc/net/route").unwrap_or_default();
    let v6 = tree.text("proc/net/ipv6_route").unwrap_or_default();
    let mut names: Vec<String> = v4.lines().filter_map(default_v4).collect();
    names.extend(v6.lines().filter_map(default_v6));
    let mut at = 0;
    while let Some(name) = names.get(at) {
        let folder = Path::new(INTERFACES).join(name);
        let below = tree.names(folder).into_iter();
        let below = below.filter_map(|file| Some(file.strip_prefix("lower_")?.to_owned()));
        let new: Vec<String> = below.filter(|name| !names.contains(name)).collect();
        names.extend(new);
        at += 1;
    }
    names
}

/// Route flags as the kernel numbers them.
const UP: u64 = 0x1;
const REJECT: u64 = 0x200;

fn leads_somewhere(flags: &str) -> bool {
    let flags = u64::from_str_radix(flags, 16);
    flags.is_ok_and(|flags| flags & UP != 0 && flags & REJECT == 0)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ..`
fn default_v4(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [name, "00000000", _, flags, _, _, _, "00000000", ..] = fields[..] else {
        return None;
    };
    leads_somewhere(flags).then(|| name.to_owned())
}

/// Destination, its prefix length, source, its prefix length, next hop, metric, references, uses, flags, name.
fn default_v6(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, "00", _, _, _, _, _, _, flags, name] = fields[..] else {
        return None;
    };
    let default = destination.bytes().all(|digit| digit == b'0');
    (default && leads_somewhere(flags)).then(|| name.to_owned())
}
