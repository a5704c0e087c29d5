//! What a caller asks of a port, checked before the device is touched.

use crate::flow_control::FlowControl;
use crate::ids::Generation;
use crate::mac_address::Station;
use crate::mtu;
use crate::rss::RssConfig;
use sumac_interface::domain::PortSettings;
use sumac_interface::net::MacAddress;

/// Most queue pairs of a port.
pub const MAX_QUEUES: u16 = 64;
/// Fewest descriptors of a ring.
pub const MIN_DESCRIPTORS: u16 = 64;
/// Most descriptors of a ring (section 7.1.9: 64 Ki; more than 4,096 only adds latency).
pub const MAX_DESCRIPTORS: u16 = 4096;

/// What a port is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Queue pairs, 1 to [`MAX_QUEUES`]. RSS reaches the first 16 receive queues (64 on the
    /// X550); the others only transmit.
    pub queues: u16,
    /// Descriptors of each receive ring: a power of two, [`MIN_DESCRIPTORS`] to [`MAX_DESCRIPTORS`].
    pub rx_descriptors: u16,
    /// Descriptors of each transmit ring, likewise.
    pub tx_descriptors: u16,
    /// Longest IP packet in bytes, [`mtu::MIN`] to [`mtu::MAX`].
    pub mtu: u16,
    /// The station address, or the EEPROM's.
    pub mac: Option<MacAddress>,
    /// Receive every frame, whomever it is for.
    pub promiscuous: bool,
    /// Receive every multicast.
    pub all_multicast: bool,
    /// How frames spread over the receive queues.
    pub rss: RssConfig,
    /// Take VLAN tags out of received frames; the descriptor has them.
    pub vlan_strip: bool,
    /// Pause frames.
    pub flow_control: FlowControl,
    /// Refuse a device whose EEPROM has a bad checksum.
    pub check_eeprom: bool,
    /// Set interrupts up, for whoever sleeps when nothing comes; the host connects their vectors.
    pub interrupts: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            queues: 1,
            rx_descriptors: 512,
            tx_descriptors: 512,
            mtu: 1500,
            mac: None,
            promiscuous: false,
            all_multicast: false,
            rss: RssConfig::default(),
            vlan_strip: false,
            flow_control: FlowControl::None,
            check_eeprom: true,
            interrupts: false,
        }
    }
}

impl From<PortSettings> for PortConfig {
    /// What is not in the settings is as usual. A port that takes frames for anybody takes every multicast.
    fn from(settings: PortSettings) -> Self {
        Self {
            queues: settings.queues,
            rx_descriptors: settings.rx_descriptors,
            tx_descriptors: settings.tx_descriptors,
            mtu: settings.mtu,
            promiscuous: settings.promiscuous,
            all_multicast: settings.promiscuous,
            check_eeprom: !settings.found_whole,
            interrupts: settings.interrupts,
            ..Self::default()
        }
    }
}

/// Why a configuration cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No queue, or more than the device has.
    #[error("{0} queues cannot be; use 1 to {MAX_QUEUES}")]
    Queues(u16),
    /// A ring of the wrong length.
    #[error(
        "a ring of {0} descriptors cannot be; use a power of two from {MIN_DESCRIPTORS} to {MAX_DESCRIPTORS}"
    )]
    Descriptors(u16),
    /// An MTU out of range.
    #[error("an MTU of {0} bytes cannot be; use {min} to {max}", min = mtu::MIN, max = mtu::MAX)]
    Mtu(u16),
    /// An address no station may have.
    #[error("{0} is no station address; give one that is neither a group address nor zero")]
    MacAddress(MacAddress),
    /// A redirection table that names a queue that is not there.
    #[error(
        "the RSS table's entry {entry} names queue {queue}; this port can spread over queues below {below}"
    )]
    RssQueue {
        /// Index in the table.
        entry: usize,
        /// The queue it names.
        queue: u8,
        /// The first queue it may not name.
        below: u16,
    },
}

impl PortConfig {
    /// Checks everything that can be checked without the device.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn check(&self, generation: Generation) -> Result<(), ConfigError> {
        if self.queues == 0 || self.queues > MAX_QUEUES {
            return Err(ConfigError::Queues(self.queues));
        }
        for descriptors in [self.rx_descriptors, self.tx_descriptors] {
            let in_range = (MIN_DESCRIPTORS..=MAX_DESCRIPTORS).contains(&descriptors);
            if !in_range || !descriptors.is_power_of_two() {
                return Err(ConfigError::Descriptors(descriptors));
            }
        }
        mtu::check(self.mtu)?;
        if let Some(mac) = self.mac.filter(|mac| !mac.is_station()) {
            return Err(ConfigError::MacAddress(mac));
        }
        self.rss.check(self.rss_queues(generation))
    }

    /// How many queues RSS spreads over.
    pub fn rss_queues(&self, generation: Generation) -> u16 {
        self.queues.min(generation.rss_queues())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut PortConfig)) -> ConfigError {
        let mut config = PortConfig::default();
        change(&mut config);
        config
            .check(Generation::I82599)
            .expect_err("must be refused")
    }

    #[test]
    fn the_default_and_the_extremes_are_fine() {
        assert_eq!(PortConfig::default().check(Generation::I82599), Ok(()));
        let most = PortConfig {
            queues: 64,
            rx_descriptors: 4096,
            tx_descriptors: 64,
            mtu: 9710,
            ..PortConfig::default()
        };
        assert_eq!(most.check(Generation::I82599), Ok(()));
    }

    #[test]
    fn each_bad_value_is_named() {
        assert_eq!(refused(|c| c.queues = 0), ConfigError::Queues(0));
        assert_eq!(refused(|c| c.queues = 65), ConfigError::Queues(65));
        assert_eq!(
            refused(|c| c.rx_descriptors = 500),
            ConfigError::Descriptors(500)
        );
        assert_eq!(
            refused(|c| c.tx_descriptors = 8192),
            ConfigError::Descriptors(8192)
        );
        assert_eq!(refused(|c| c.mtu = 67), ConfigError::Mtu(67));
        assert_eq!(refused(|c| c.mtu = 9711), ConfigError::Mtu(9711));
        let group = MacAddress([1, 0, 0, 0, 0, 0]);
        assert_eq!(
            refused(|c| c.mac = Some(group)),
            ConfigError::MacAddress(group)
        );
    }

    #[test]
    fn rss_may_not_name_a_missing_queue() {
        let error = refused(|c| {
            c.queues = 4;
            c.rss.table = Some([4; 128]);
        });
        assert_eq!(
            error,
            ConfigError::RssQueue {
                entry: 0,
                queue: 4,
                below: 4
            }
        );
        let error = refused(|c| {
            c.queues = 32;
            c.rss.table = Some([16; 128]);
        });
        assert_eq!(
            error,
            ConfigError::RssQueue {
                entry: 0,
                queue: 16,
                below: 16
            }
        );
    }
}
