//! Which frames a port accepts: addresses, groups, VLANs, promiscuous (sections 7.1.1 and 8.2.3.7).
//!
//! [`Filters`] is the driver's own copy of every list; the device's tables are always rewritten
//! from it. Invariant: all writes happen while receive is halted (section 8.2.3.7.1), which
//! [`crate::reset::with_receive_halted`] sees to.

use alloc::vec::Vec;

use crate::error::Fault;
use crate::mac_address::Station;
use crate::registers::{Etqf, Fctrl, Filter, Ftqf, Mcstctrl, Pools, Rah, Registers, Vlnctrl};
use sumac_interface::net::MacAddress;

/// Receive addresses, the station's own included (section 8.2.3.7.8).
pub const RECEIVE_ADDRESSES: usize = 128;
/// Words of the multicast table (section 8.2.3.7.7).
const MULTICAST_WORDS: usize = 128;
/// Words of the VLAN table (section 8.2.3.7.11).
const VLAN_WORDS: usize = 128;
/// VLAN ids.
const VLANS: u16 = 4096;

/// What a port accepts.
#[derive(Clone, Debug)]
pub struct Filters {
    station: MacAddress,
    more_stations: Vec<MacAddress>,
    groups: Vec<MacAddress>,
    vlans: Option<[u32; VLAN_WORDS]>,
    promiscuous: bool,
    all_multicast: bool,
    broadcast: bool,
}

impl Filters {
    /// Only `station` and broadcasts.
    pub fn new(station: MacAddress) -> Self {
        Self {
            station,
            more_stations: Vec::new(),
            groups: Vec::new(),
            vlans: None,
            promiscuous: false,
            all_multicast: false,
            broadcast: true,
        }
    }

    /// The station's own address.
    pub fn station(&self) -> MacAddress {
        self.station
    }

    /// Changes the station's own address.
    ///
    /// # Errors
    /// [`Fault::NotAStation`].
    pub fn set_station(&mut self, mac: MacAddress) -> Result<(), Fault> {
        if !mac.is_station() {
            return Err(Fault::NotAStation(mac));
        }
        self.station = mac;
        Ok(())
    }

    /// Accepts another unicast address too; once is enough.
    ///
    /// # Errors
    /// [`Fault::NotAStation`], or [`Fault::TooManyAddresses`] when all receive addresses are taken.
    pub fn add_unicast(&mut self, mac: MacAddress) -> Result<(), Fault> {
        if !mac.is_station() {
            return Err(Fault::NotAStation(mac));
        }
        if self.more_stations.contains(&mac) {
            return Ok(());
        }
        if self.more_stations.len() + 1 >= RECEIVE_ADDRESSES {
            return Err(Fault::TooManyAddresses {
                limit: RECEIVE_ADDRESSES,
            });
        }
        self.more_stations.push(mac);
        Ok(())
    }

    /// Accepts a unicast address no longer.
    pub fn remove_unicast(&mut self, mac: MacAddress) {
        self.more_stations.retain(|other| *other != mac);
    }

    /// Accepts a group, and what shares its hash.
    ///
    /// # Errors
    /// [`Fault::NotAGroup`].
    pub fn add_multicast(&mut self, mac: MacAddress) -> Result<(), Fault> {
        if !mac.is_group() {
            return Err(Fault::NotAGroup(mac));
        }
        if !self.groups.contains(&mac) {
            self.groups.push(mac);
        }
        Ok(())
    }

    /// Accepts a group no longer.
    pub fn remove_multicast(&mut self, mac: MacAddress) {
        self.groups.retain(|other| *other != mac);
    }

    /// Accepts only some VLANs, none at first; or all of them.
    pub fn filter_vlans(&mut self, filter: bool) {
        self.vlans = filter.then(|| self.vlans.unwrap_or([0; VLAN_WORDS]));
    }

    /// Accepts a VLAN, or no longer; turns VLAN filtering on.
    ///
    /// # Errors
    /// [`Fault::NoSuchVlan`].
    pub fn set_vlan(&mut self, vlan: u16, accept: bool) -> Result<(), Fault> {
        if vlan >= VLANS {
            return Err(Fault::NoSuchVlan(vlan));
        }
        let table = self.vlans.get_or_insert([0; VLAN_WORDS]);
        // 4,096 ids are 128 words of 32, so the word exists.
        if let Some(word) = table.get_mut(usize::from(vlan >> 5)) {
            let bit = 1 << (vlan & 0x1f);
            *word = if accept { *word | bit } else { *word & !bit };
        }
        Ok(())
    }

    /// Accepts every frame.
    pub fn set_promiscuous(&mut self, on: bool) {
        self.promiscuous = on;
    }

    /// Accepts every multicast.
    pub fn set_all_multicast(&mut self, on: bool) {
        self.all_multicast = on;
    }

    /// Accepts broadcasts.
    pub fn set_broadcast(&mut self, on: bool) {
        self.broadcast = on;
    }

    /// Writes FCTRL and the VLAN filter: promiscuous also means every VLAN.
    pub(crate) fn write_modes(&self, registers: &Registers) {
        registers.update(|fctrl: Fctrl| {
            fctrl
                .with_broadcast(self.broadcast)
                .with_unicast_promiscuous(self.promiscuous)
                .with_multicast_promiscuous(self.promiscuous || self.all_multicast)
        });
        let filter_vlans = self.vlans.is_some() && !self.promiscuous;
        registers.update(|vlnctrl: Vlnctrl| {
            vlnctrl
                .with_filter_enable(filter_vlans)
                .with_cfi_enable(false)
        });
    }

    /// Writes every receive address: the station first, unused ones invalid, which is in their high half
    /// (section 4.6.7).
    pub(crate) fn write_stations(&self, registers: &Registers) {
        let mut stations = core::iter::once(&self.station).chain(&self.more_stations);
        for index in 0..RECEIVE_ADDRESSES as u32 {
            let station = stations.next();
            let high = match station {
                Some(mac) => {
                    registers.write(Filter::Ral(index), mac.low());
                    Rah::new().with_address(mac.high()).with_valid(true)
                }
                None => Rah::new(),
            };
            registers.set_at(index, high);
            // Without virtualisation all traffic is pool 0's (section 8.2.3.7.10).
            registers.write(Filter::Mpsar(2 * index), u32::from(station.is_some()));
            registers.write(Filter::Mpsar(2 * index + 1), 0);
        }
    }

    /// Writes the multicast table and turns it on if it has anything.
    pub(crate) fn write_groups(&self, registers: &Registers) {
        let mut table = [0u32; MULTICAST_WORDS];
        for group in &self.groups {
            let hash = multicast_hash(*group);
            if let Some(word) = table.get_mut(usize::from(hash >> 5)) {
                *word |= 1 << (hash & 0x1f);
            }
        }
        for (index, word) in (0..).zip(table) {
            registers.write(Filter::Mta(index), word);
        }
        registers.update(|control: Mcstctrl| {
            control
                .with_offset(0)
                .with_filter_enable(!self.groups.is_empty())
        });
    }

    /// Writes the VLAN table.
    pub(crate) fn write_vlans(&self, registers: &Registers) {
        for (index, word) in (0..).zip(self.vlans.unwrap_or([0; VLAN_WORDS])) {
            registers.write(Filter::Vfta(index), word);
        }
    }

    /// Writes everything; after a reset the tables hold anything (section 4.6.7).
    pub(crate) fn write_all(&self, registers: &Registers) {
        clear_unused_tables(registers);
        self.write_stations(registers);
        self.write_groups(registers);
        self.write_vlans(registers);
        self.write_modes(registers);
    }
}

/// The tables of features not used here, which reset leaves as they were (section 4.6.7).
fn clear_unused_tables(registers: &Registers) {
    for index in 0..128 {
        registers.write(Filter::Pfuta(index), 0);
        registers.write(Pools::Pfvlvfb(index), 0);
        registers.set_at(index, Ftqf::new());
    }
    for index in 0..64 {
        registers.write(Pools::Pfvlvf(index), 0);
    }
    for index in 0..8 {
        registers.set_at(index, Etqf::new());
    }
}

/// Bits 47:36 of a group address index the multicast table (section 8.2.3.7.3, MO = 0).
fn multicast_hash(group: MacAddress) -> u16 {
    let [.., fifth, sixth] = group.0;
    (u16::from(sixth) << 4 | u16::from(fifth) >> 4) & 0xfff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_last_twelve_bits_on_the_wire() {
        assert_eq!(
            multicast_hash(MacAddress([1, 0, 0x5e, 0, 0x50, 0xab])),
            0xab5
        );
        assert_eq!(multicast_hash(MacAddress([0xff; 6])), 0xfff);
    }

    #[test]
    fn the_unicast_list_has_an_end() {
        let mut filters = Filters::new(MacAddress([2, 0, 0, 0, 0, 0]));
        for last in 1..=127 {
            assert_eq!(
                filters.add_unicast(MacAddress([2, 0, 0, 0, 1, last])),
                Ok(())
            );
        }
        let one_more = MacAddress([2, 0, 0, 0, 2, 0]);
        assert_eq!(
            filters.add_unicast(one_more),
            Err(Fault::TooManyAddresses { limit: 128 })
        );
        let known = MacAddress([2, 0, 0, 0, 1, 5]);
        assert_eq!(filters.add_unicast(known), Ok(()));
        filters.remove_unicast(known);
        assert_eq!(filters.add_unicast(one_more), Ok(()));
    }

    #[test]
    fn kinds_of_addresses_are_not_mixed_up() {
        let mut filters = Filters::new(MacAddress([2, 0, 0, 0, 0, 0]));
        let group = MacAddress([1, 0, 0x5e, 0, 0, 1]);
        assert_eq!(filters.add_unicast(group), Err(Fault::NotAStation(group)));
        assert_eq!(filters.set_station(group), Err(Fault::NotAStation(group)));
        let station = filters.station();
        assert_eq!(
            filters.add_multicast(station),
            Err(Fault::NotAGroup(station))
        );
        assert_eq!(filters.set_vlan(4096, true), Err(Fault::NoSuchVlan(4096)));
    }
}
