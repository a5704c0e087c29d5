//! What of a port may change while it runs: addresses, filters, MTU, RSS, flow control.
//!
//! Invariant: the device changes with receive halted, and the driver's own copy only when the device
//! took the change, so that a reset brings back what the caller was told.

use sumac_interface::net::MacAddress;

use super::Control;
use crate::error::{Error, Fault};
use crate::filters::Filters;
use crate::flow_control::{self, FlowControl};
use crate::link;
use crate::mtu;
use crate::registers::Registers;
use crate::reset;
use crate::rss::{self, RssConfig};

impl Control {
    /// The station's address.
    pub fn mac(&self) -> MacAddress {
        self.filters.station()
    }

    /// Changes the station's address.
    ///
    /// # Errors
    /// [`Fault::NotAStation`], or the device's fault.
    pub fn set_mac(&mut self, mac: MacAddress) -> Result<(), Error> {
        self.change_filters(|filters| filters.set_station(mac), Filters::write_stations)?;
        self.config.mac = Some(mac);
        Ok(())
    }

    /// Receives every frame, or only those for this station.
    ///
    /// # Errors
    /// The device's fault.
    pub fn set_promiscuous(&mut self, on: bool) -> Result<(), Error> {
        self.change_filters(
            |filters| {
                filters.set_promiscuous(on);
                Ok(())
            },
            Filters::write_modes,
        )?;
        self.config.promiscuous = on;
        Ok(())
    }

    /// Receives every multicast, or only the groups added.
    ///
    /// # Errors
    /// The device's fault.
    pub fn set_all_multicast(&mut self, on: bool) -> Result<(), Error> {
        self.change_filters(
            |filters| {
                filters.set_all_multicast(on);
                Ok(())
            },
            Filters::write_modes,
        )?;
        self.config.all_multicast = on;
        Ok(())
    }

    /// Receives broadcasts, as it does at first, or not.
    ///
    /// # Errors
    /// The device's fault.
    pub fn set_broadcast(&mut self, on: bool) -> Result<(), Error> {
        self.change_filters(
            |filters| {
                filters.set_broadcast(on);
                Ok(())
            },
            Filters::write_modes,
        )
    }

    /// Receives another unicast address too.
    ///
    /// # Errors
    /// [`Fault::NotAStation`], [`Fault::TooManyAddresses`], or the device's fault.
    pub fn add_unicast(&mut self, mac: MacAddress) -> Result<(), Error> {
        self.change_filters(|filters| filters.add_unicast(mac), Filters::write_stations)
    }

    /// Receives a unicast address no longer.
    ///
    /// # Errors
    /// The device's fault.
    pub fn remove_unicast(&mut self, mac: MacAddress) -> Result<(), Error> {
        self.change_filters(
            |filters| {
                filters.remove_unicast(mac);
                Ok(())
            },
            Filters::write_stations,
        )
    }

    /// Receives a group (and, by the hash's nature, perhaps others).
    ///
    /// # Errors
    /// [`Fault::NotAGroup`], or the device's fault.
    pub fn add_multicast(&mut self, mac: MacAddress) -> Result<(), Error> {
        self.change_filters(|filters| filters.add_multicast(mac), Filters::write_groups)
    }

    /// Receives a group no longer.
    ///
    /// # Errors
    /// The device's fault.
    pub fn remove_multicast(&mut self, mac: MacAddress) -> Result<(), Error> {
        self.change_filters(
            |filters| {
                filters.remove_multicast(mac);
                Ok(())
            },
            Filters::write_groups,
        )
    }

    /// Receives only VLANs added, or all.
    ///
    /// # Errors
    /// The device's fault.
    pub fn filter_vlans(&mut self, on: bool) -> Result<(), Error> {
        self.change_filters(
            |filters| {
                filters.filter_vlans(on);
                Ok(())
            },
            |filters, registers| {
                filters.write_vlans(registers);
                filters.write_modes(registers);
            },
        )
    }

    /// Receives a VLAN, or no longer; turns VLAN filtering on.
    ///
    /// # Errors
    /// [`Fault::NoSuchVlan`], or the device's fault.
    pub fn set_vlan(&mut self, vlan: u16, accept: bool) -> Result<(), Error> {
        self.change_filters(
            |filters| filters.set_vlan(vlan, accept),
            |filters, registers| {
                filters.write_vlans(registers);
                filters.write_modes(registers);
            },
        )
    }

    /// Changes the driver's copy, then the device with receive halted; the copy only counts when
    /// the device took it.
    fn change_filters(
        &mut self,
        change: impl FnOnce(&mut Filters) -> Result<(), Fault>,
        write: impl FnOnce(&Filters, &Registers),
    ) -> Result<(), Error> {
        let mut filters = self.filters.clone();
        change(&mut filters).map_err(|fault| self.error(fault))?;
        self.with_receive_halted(|registers| write(&filters, registers))?;
        self.filters = filters;
        Ok(())
    }

    fn with_receive_halted(&self, change: impl FnOnce(&Registers)) -> Result<(), Error> {
        reset::with_receive_halted(&self.registers, &*self.clock, change)
            .map_err(|fault| self.error(fault))
    }

    /// The longest IP packet in bytes.
    pub fn mtu(&self) -> u16 {
        self.config.mtu
    }

    /// Changes the MTU. Frames longer than a receive buffer take several descriptors.
    ///
    /// # Errors
    /// [`ConfigError::Mtu`](crate::ConfigError::Mtu), or the device's fault.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        mtu::check(mtu).map_err(|error| self.error(error))?;
        self.with_receive_halted(|registers| mtu::apply(registers, mtu))?;
        self.config.mtu = mtu;
        Ok(())
    }

    /// Changes how frames spread over the receive queues.
    ///
    /// # Errors
    /// [`ConfigError::RssQueue`](crate::ConfigError::RssQueue), or the device's fault.
    pub fn set_rss(&mut self, rss: RssConfig) -> Result<(), Error> {
        let generation = self.identity.generation;
        let queues = self.config.rss_queues(generation);
        rss.check(queues).map_err(|error| self.error(error))?;
        self.with_receive_halted(|registers| rss::apply(registers, generation, &rss, queues))?;
        self.config.rss = rss;
        Ok(())
    }

    /// Changes flow control and renegotiates the link, which goes down for it.
    ///
    /// # Errors
    /// The device's fault.
    pub fn set_flow_control(&mut self, mode: FlowControl) -> Result<(), Error> {
        let generation = self.identity.generation;
        self.with_receive_halted(|registers| flow_control::apply(registers, generation, mode))?;
        link::set_up(&self.registers, &*self.clock, self.identity, mode)
            .map_err(|fault| self.error(fault))?;
        self.config.flow_control = mode;
        Ok(())
    }
}
