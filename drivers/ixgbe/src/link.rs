//! The link: its mode, its restart, its state (sections 3.7.4 and 4.6.4).
//!
//! The EEPROM is the only statement of how a board is wired, so the mode it loaded into AUTOC and
//! AUTOC2 stays; setting the link up is restarting it in that mode. X540 and X550 negotiate in
//! their PHY, which needs nothing from a driver.

use core::fmt;

use sumac_device::Clock;

use crate::error::Fault;
use crate::flow_control::FlowControl;
use crate::ids::{Generation, Identity, Media};
use crate::registers::{Autoc, Autoc2, Esdp, Links, MILLISECOND, Pcs1gana, Registers};
use crate::semaphore::{self, Resource};

/// How fast a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speed {
    /// 100 Mbit/s.
    M100,
    /// 1 Gbit/s.
    G1,
    /// 2.5 Gbit/s (X550).
    G2_5,
    /// 5 Gbit/s (X550).
    G5,
    /// 10 Gbit/s.
    G10,
}

impl Speed {
    /// In Mbit/s.
    pub const fn mbits(self) -> u32 {
        match self {
            Self::M100 => 100,
            Self::G1 => 1_000,
            Self::G2_5 => 2_500,
            Self::G5 => 5_000,
            Self::G10 => 10_000,
        }
    }
}

/// Whether frames can pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// They cannot.
    Down,
    /// They can; the speed is `None` when the device names one this driver does not know.
    Up(Option<Speed>),
}

impl LinkState {
    /// Whether the link is up.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Up(_))
    }

    /// From LINKS (section 8.2.3.22.20).
    const fn from_links(links: Links, generation: Generation) -> Self {
        if !links.up() {
            return Self::Down;
        }
        let odd = matches!(generation, Generation::X550) && links.non_standard();
        Self::Up(match (links.speed(), odd) {
            (1, false) => Some(Speed::M100),
            (2, false) => Some(Speed::G1),
            (3, false) => Some(Speed::G10),
            (1, true) => Some(Speed::G5),
            (3, true) => Some(Speed::G2_5),
            _ => None,
        })
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("down"),
            Self::Up(None) => f.write_str("up"),
            Self::Up(Some(speed)) => write!(f, "up, {} Mbit/s", speed.mbits()),
        }
    }
}

/// AUTOC.LMS, link mode select (section 8.2.3.22.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkMode {
    /// 1G, no autonegotiation.
    Fixed1G = 0,
    /// 10G parallel (XAUI, CX4), no autonegotiation.
    Parallel10G = 1,
    /// 1G, clause 37 autonegotiation.
    Negotiated1G = 2,
    /// 10G serial (SFI).
    Serial10G = 3,
    /// KX, KX4, KR, clause 73 autonegotiation.
    Backplane = 4,
    /// SGMII, 100 Mbit/s and 1G.
    Sgmii = 5,
    /// As `Backplane`, then clause 37 at 1G.
    BackplaneNegotiated1G = 6,
    /// As `Backplane`, then SGMII.
    BackplaneSgmii = 7,
}

impl LinkMode {
    /// What the EEPROM asked for.
    pub fn of(registers: &Registers) -> Self {
        match registers.get::<Autoc>().link_mode() {
            0 => Self::Fixed1G,
            1 => Self::Parallel10G,
            2 => Self::Negotiated1G,
            3 => Self::Serial10G,
            4 => Self::Backplane,
            5 => Self::Sgmii,
            6 => Self::BackplaneNegotiated1G,
            _ => Self::BackplaneSgmii,
        }
    }
}

/// Between two looks at LINKS.
const LINK_INTERVAL: u64 = 10 * MILLISECOND;

/// Sets the link up (section 4.6.4): mode as the EEPROM says, pause advertised as asked, restart.
/// Does not wait: a link may take seconds, and one without a partner never comes.
///
/// # Errors
/// [`Fault::TimedOut`] when firmware does not let go of AUTOC, or [`Fault::DeviceGone`].
pub fn set_up(
    registers: &Registers,
    clock: &dyn Clock,
    identity: Identity,
    flow_control: FlowControl,
) -> Result<(), Fault> {
    if identity.generation != Generation::I82599 {
        return Ok(());
    }
    // Symmetric for whoever obeys, asymmetric for whoever sends (IEEE 802.3, annex 28B).
    let symmetric = flow_control.receives();
    let asymmetric = flow_control != FlowControl::None;
    let _held = semaphore::acquire(
        registers,
        clock,
        identity.generation,
        Resource::MacRegisters,
    )?;
    registers.update(|autoc2: Autoc2| autoc2.with_link_disable(0));
    if identity.media == Media::Sfp {
        laser_on(registers);
    }
    match identity.media {
        Media::Sfp => registers.update(|page: Pcs1gana| {
            page.with_symmetric_pause(symmetric)
                .with_asymmetric_pause(asymmetric)
        }),
        Media::Backplane => registers.update(|autoc: Autoc| {
            autoc
                .with_symmetric_pause(symmetric)
                .with_asymmetric_pause(asymmetric)
        }),
        Media::Cx4 | Media::Xaui | Media::Copper => {}
    }
    registers.update(|autoc: Autoc| autoc.with_restart(true));
    registers.alive()
}

/// Pin 3 drives a module's TX_DISABLE (section 3.5, as Intel's boards are wired). A driver that went
/// before may have left it high, and reset does not change it.
fn laser_on(registers: &Registers) {
    const TX_DISABLE: u8 = 1 << 3;
    let pins: Esdp = registers.get();
    if pins.outputs() & TX_DISABLE != 0 {
        registers.set(pins.with_levels(pins.levels() & !TX_DISABLE));
    }
}

/// The link now. LINKS is read twice: the first read clears what it latched since.
///
/// # Errors
/// [`Fault::DeviceGone`].
pub fn state(registers: &Registers, generation: Generation) -> Result<LinkState, Fault> {
    let _latched: Links = registers.get();
    let links: Links = registers.get();
    registers.alive()?;
    Ok(LinkState::from_links(links, generation))
}

/// The link when it came up, or after `timeout_ns`.
///
/// # Errors
/// [`Fault::DeviceGone`]. A link that stays down is a finding, not a failure.
pub fn wait(
    registers: &Registers,
    clock: &dyn Clock,
    generation: Generation,
    timeout_ns: u64,
) -> Result<LinkState, Fault> {
    let mut last = Ok(LinkState::Down);
    // What counts is the last state seen, which the closure keeps.
    let _in_time = clock.wait_until(LINK_INTERVAL, timeout_ns, || {
        last = state(registers, generation);
        !matches!(last, Ok(LinkState::Down))
    });
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_by_generation() {
        let up = Links::new().with_up(true);
        let state = |links, generation| LinkState::from_links(links, generation);
        assert_eq!(
            state(Links::new().with_speed(3), Generation::I82599),
            LinkState::Down
        );
        assert_eq!(
            state(up.with_speed(3), Generation::I82599),
            LinkState::Up(Some(Speed::G10))
        );
        assert_eq!(
            state(up.with_speed(0), Generation::I82599),
            LinkState::Up(None)
        );
        let odd = up.with_speed(1).with_non_standard(true);
        assert_eq!(state(odd, Generation::X550), LinkState::Up(Some(Speed::G5)));
        assert_eq!(
            state(odd, Generation::I82599),
            LinkState::Up(Some(Speed::M100))
        );
    }
}
