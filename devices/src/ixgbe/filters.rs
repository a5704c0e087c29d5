//! Layer-2 filters (section 7.1.1): which frames a port takes.
//!
//! Invariant: a snapshot; it is made anew whenever a register it comes from changed.

use super::registers as r;
use super::statistics::BROADCAST;

/// A receive address.
type Mac = [u8; 6];

/// The filter settings as a snapshot of FCTRL, RAL/RAH, MTA, UTA, VLNCTRL and VFTA.
#[derive(Clone)]
pub(super) struct Filters {
    unicast: bool,
    multicast: bool,
    broadcast: bool,
    /// The first receive address, apart for speed.
    first: Option<Mac>,
    /// The same as a word, byte 0 lowest; no unicast address if there is none.
    first_word: u64,
    others: Vec<Mac>,
    multicast_table: Option<(u32, Box<[u32; 128]>)>,
    unicast_table: Option<Box<[u32; 128]>>,
    vlan_table: Option<Box<[u32; 128]>>,
}

/// Why a frame was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// By an exact address, broadcast or promiscuous mode.
    Exactly,
    /// By a hash table only (status PIF).
    Inexactly,
}

impl Filters {
    /// Takes the settings from the registers.
    pub fn snapshot(read: impl Fn(u32) -> u32) -> Self {
        let fctrl = read(r::FCTRL);
        let mut addresses = (0..128).filter_map(|index| {
            let at = r::receive_address(index);
            let (low, high) = (read(at), read(at + 4));
            (high & r::RAH_VALID != 0).then(|| mac(low, high))
        });
        let first = addresses.next();
        let first_word = first.map_or(BROADCAST, |m| {
            u64::from_le_bytes([m[0], m[1], m[2], m[3], m[4], m[5], 0, 0])
        });
        let others = addresses.collect();
        let mcstctrl = read(r::MCSTCTRL);
        let multicast_table =
            (mcstctrl & r::MCSTCTRL_ENABLE != 0).then(|| (mcstctrl & 3, table(&read, r::MTA)));
        let unicast_table =
            Some(table(&read, r::UTA)).filter(|table| table.iter().any(|&w| w != 0));
        let vlan_table = (read(r::VLNCTRL) & r::VLNCTRL_FILTER != 0).then(|| table(&read, r::VFTA));
        Self {
            unicast: fctrl & r::FCTRL_UNICAST != 0,
            multicast: fctrl & r::FCTRL_MULTICAST != 0,
            broadcast: fctrl & r::FCTRL_BROADCAST != 0,
            first,
            first_word,
            others,
            multicast_table,
            unicast_table,
            vlan_table,
        }
    }

    /// Whether the frame passes without looking further: promiscuous, or the first address.
    /// `start` is the frame's first eight bytes, byte 0 lowest.
    #[inline(always)]
    pub fn plainly(&self, start: u64) -> bool {
        let destination = start & BROADCAST;
        if destination & 1 != 0 {
            self.multicast || self.broadcast && destination == BROADCAST
        } else {
            self.unicast || destination == self.first_word
        }
    }

    /// Whether the port takes a frame to `destination`.
    pub fn accept(&self, destination: &Mac) -> Option<Accepted> {
        if *destination == [0xFF; 6] {
            let taken = self.broadcast || self.multicast;
            return taken.then_some(Accepted::Exactly);
        }
        if destination[0] & 1 != 0 {
            if self.multicast || self.listed(destination) {
                return Some(Accepted::Exactly);
            }
            let (kind, table) = self.multicast_table.as_ref()?;
            return in_table(table, vector(*kind, destination)).then_some(Accepted::Inexactly);
        }
        if self.unicast || self.listed(destination) {
            return Some(Accepted::Exactly);
        }
        let table = self.unicast_table.as_ref()?;
        in_table(table, vector(0, destination)).then_some(Accepted::Inexactly)
    }

    /// Whether the port takes frames of this tag.
    pub fn accept_vlan(&self, control: u16) -> bool {
        (self.vlan_table.as_ref()).is_none_or(|table| in_table(table, control & 0xFFF))
    }

    fn listed(&self, address: &Mac) -> bool {
        self.first.as_ref() == Some(address) || self.others.contains(address)
    }
}

fn mac(low: u32, high: u32) -> Mac {
    let (l, h) = (low.to_le_bytes(), high.to_le_bytes());
    [l[0], l[1], l[2], l[3], h[0], h[1]]
}

fn table(read: &impl Fn(u32) -> u32, base: u32) -> Box<[u32; 128]> {
    let mut words = Box::new([0; 128]);
    for (index, word) in words.iter_mut().enumerate() {
        *word = read(base + 4 * index as u32);
    }
    words
}

fn in_table(table: &[u32; 128], vector: u16) -> bool {
    table[usize::from(vector >> 5) & 0x7F] >> (vector & 0x1F) & 1 != 0
}

/// The 12 bits of an address that index a hash table; `kind` is MCSTCTRL.MO: bits 47:36, 46:35,
/// 45:34 or 43:32.
fn vector(kind: u32, address: &Mac) -> u16 {
    let high = u16::from_le_bytes([address[4], address[5]]);
    let shift = match kind {
        0 => 4,
        1 => 3,
        2 => 2,
        _ => 0,
    };
    high >> shift & 0xFFF
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const OURS: Mac = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
    const OTHER: Mac = [0x02, 0x11, 0x22, 0x33, 0x44, 0x56];
    const GROUP: Mac = [0x01, 0x00, 0x5E, 0x00, 0x00, 0xFB];

    /// The start of a frame to `address`.
    fn start(address: Mac) -> u64 {
        let [a, b, c, d, e, f] = address;
        u64::from_le_bytes([a, b, c, d, e, f, 0x5A, 0xA5])
    }

    fn filters(extra: &[(u32, u32)]) -> Filters {
        let mut registers = HashMap::from([
            (r::receive_address(0), 0x3322_1102),
            (r::receive_address(0) + 4, r::RAH_VALID | 0x5544),
        ]);
        registers.extend(extra.iter().copied());
        Filters::snapshot(|offset| registers.get(&offset).copied().unwrap_or(0))
    }

    #[test]
    fn only_our_address_passes_by_default() {
        let filters = filters(&[]);
        assert_eq!(filters.accept(&OURS), Some(Accepted::Exactly));
        assert!(filters.plainly(start(OURS)));
        for refused in [OTHER, GROUP, [0xFF; 6]] {
            assert_eq!(filters.accept(&refused), None);
            assert!(!filters.plainly(start(refused)));
        }
    }

    #[test]
    fn each_promiscuous_bit_opens_one_kind() {
        let unicast = filters(&[(r::FCTRL, r::FCTRL_UNICAST)]);
        assert!(unicast.accept(&OTHER).is_some() && unicast.accept(&GROUP).is_none());
        let multicast = filters(&[(r::FCTRL, r::FCTRL_MULTICAST)]);
        assert!(multicast.accept(&OTHER).is_none() && multicast.accept(&GROUP).is_some());
        let broadcast = filters(&[(r::FCTRL, r::FCTRL_BROADCAST)]);
        assert!(broadcast.accept(&GROUP).is_none() && broadcast.accept(&[0xFF; 6]).is_some());
    }

    #[test]
    fn multicast_table_takes_by_twelve_bits() {
        // Bits 47:36 of GROUP: 0xFB0; word 0x7D, bit 0x10.
        let enabled = filters(&[
            (r::MCSTCTRL, r::MCSTCTRL_ENABLE),
            (r::MTA + 4 * 0x7D, 1 << 0x10),
        ]);
        assert_eq!(enabled.accept(&GROUP), Some(Accepted::Inexactly));
        let disabled = filters(&[(r::MTA + 4 * 0x7D, 1 << 0x10)]);
        assert_eq!(disabled.accept(&GROUP), None);
    }

    #[test]
    fn vlan_filter_looks_at_the_identifier_only() {
        let filters = filters(&[(r::VLNCTRL, r::VLNCTRL_FILTER), (r::VFTA + 4 * 3, 1 << 4)]);
        assert!(filters.accept_vlan(100) && filters.accept_vlan(0xE000 | 100));
        assert!(!filters.accept_vlan(101));
    }
}
