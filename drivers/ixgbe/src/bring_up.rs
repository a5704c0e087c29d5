//! Bring-up in the datasheet's order (section 4.6.3): a checklist, to be read beside it.

use sumac_device::Clock;

use crate::config::PortConfig;
use crate::eeprom;
use crate::error::{Fault, Wait};
use crate::filters::Filters;
use crate::flow_control;
use crate::ids::{Generation, Identity};
use crate::interrupts;
use crate::link;
use crate::mtu;
use crate::registers::{
    CtrlExt, Dmatxctl, Dtxmxszrq, Eec, Hlreg0, MILLISECOND, Rdrxctl, Receive, Registers, Rfctl,
    Rttdcs, Rxctrl, Transmit, Txpbthresh,
};
use crate::reset;
use crate::rss;
use crate::stats;
use sumac_interface::net::MacAddress;

/// How long the EEPROM may take to be read (section 4.6.3 gives none; other drivers wait as long).
const EEPROM_TIMEOUT: u64 = 500 * MILLISECOND;
/// How long the DMA unit may take.
const DMA_TIMEOUT: u64 = 500 * MILLISECOND;
/// Between two looks at either.
const INTERVAL: u64 = MILLISECOND;
/// Transmit packet buffer in KiB, all of it for traffic class 0 (section 4.6.11.3.4).
const TX_BUFFER_KIB: u32 = 160;
/// Longest frame in KiB, rounded up, which the threshold leaves room for (section 8.2.3.9.16).
const TX_FRAME_KIB: u32 = 10;

/// Takes the device from any state to configured, with its MAC address: section 4.6.3 up to the
/// queues, receive still off.
///
/// # Errors
/// The step's [`Fault`]; the device is left as that step found it, for another try.
pub fn bring_up(
    registers: &Registers,
    clock: &dyn Clock,
    identity: Identity,
    config: &PortConfig,
) -> Result<MacAddress, Fault> {
    registers.alive_now()?;
    // 4.6.3.1: disable interrupts, reset, disable them again.
    reset::disable_interrupts(registers);
    reset::global_reset(registers, clock)?;
    reset::disable_interrupts(registers);
    // 4.6.3: the EEPROM has been read by the hardware.
    registers.wait(
        clock,
        Wait::EepromAutoRead,
        INTERVAL,
        EEPROM_TIMEOUT,
        |registers| registers.get::<Eec>().auto_read_done(),
    )?;
    if config.check_eeprom {
        eeprom::check(registers, clock, identity.generation)?;
    }
    // 4.6.3: the DMA unit is ready.
    registers.wait(clock, Wait::DmaInit, INTERVAL, DMA_TIMEOUT, |registers| {
        registers.get::<Rdrxctl>().dma_init_done()
    })?;
    // The firmware leaves the device to the driver from here on.
    registers.update(|ctrl_ext: CtrlExt| ctrl_ext.with_driver_loaded(true));
    // An address from the configuration makes up for an EEPROM without one.
    let mac = match config.mac {
        Some(mac) => mac,
        None => eeprom::mac_address(registers)?,
    };
    // 4.6.3.2: flow control.
    flow_control::apply(registers, identity.generation, config.flow_control);
    // 4.6.4: link.
    link::set_up(registers, clock, identity, config.flow_control)?;
    // 4.6.5: statistics.
    stats::initialise(registers, config.queues);
    // 4.6.7 and 4.6.8: receive and transmit, without the queues.
    initialise_receive(registers, identity.generation, config);
    initialise_transmit(registers, config.queues);
    // 4.6.3 and 7.3.1: interrupts, masked until queues are armed.
    if config.interrupts {
        interrupts::set_up(registers, config.queues);
    }
    registers.alive()?;
    Ok(mac)
}

/// The filters a configuration asks for.
pub(crate) fn initial_filters(mac: MacAddress, config: &PortConfig) -> Filters {
    let mut filters = Filters::new(mac);
    filters.set_promiscuous(config.promiscuous);
    filters.set_all_multicast(config.all_multicast);
    filters
}

/// Section 4.6.7, but for filters and queues. Ends with receive off.
fn initialise_receive(registers: &Registers, generation: Generation, config: &PortConfig) {
    registers.update(|rxctrl: Rxctrl| rxctrl.with_enable(false));
    // CRC stripping must be the same in both places; coalescing fields as told, though it is off.
    registers.update(|hlreg0: Hlreg0| hlreg0.with_strip_crc(true));
    registers.update(|rdrxctl: Rdrxctl| {
        rdrxctl
            .with_strip_crc(true)
            .with_coalescing_first_size(0)
            .with_coalescing_ack(true)
            .with_fcoe_write_fix(true)
    });
    registers.update(|rfctl: Rfctl| rfctl.with_coalescing_disable(true));
    // 4.6.11.3.4, neither DCB nor virtualisation: one packet buffer for everything.
    registers.write(Receive::Rxpbsize(0), generation.receive_buffer_kib() << 10);
    for class in 1..8 {
        registers.write(Receive::Rxpbsize(class), 0);
    }
    let queues = config.rss_queues(generation);
    rss::apply(registers, generation, &config.rss, queues);
    mtu::apply(registers, config.mtu);
    // Last paragraph of 4.6.7; its other half is per queue.
    registers.update(|ctrl_ext: CtrlExt| ctrl_ext.with_no_snoop_disable(true));
}

/// Section 4.6.8, but for the queues.
fn initialise_transmit(registers: &Registers, queues: u16) {
    registers.update(|hlreg0: Hlreg0| hlreg0.with_transmit_crc(true).with_transmit_pad(true));
    // The arbiter stands still while the buffers are divided.
    registers.update(|rttdcs: Rttdcs| rttdcs.with_arbiter_disable(true));
    registers.update(|requests: Dtxmxszrq| requests.with_max_bytes(0xfff));
    registers.write(Transmit::Txpbsize(0), TX_BUFFER_KIB << 10);
    let threshold = (TX_BUFFER_KIB - TX_FRAME_KIB) as u16;
    registers.set_at(0, Txpbthresh::new().with_threshold_kib(threshold));
    for class in 1..8 {
        registers.write(Transmit::Txpbsize(class), 0);
        registers.set_at(class, Txpbthresh::new());
    }
    registers.write(Transmit::Mtqc, 0);
    registers.update(|rttdcs: Rttdcs| rttdcs.with_arbiter_disable(false));
    // 4.6.11.3.4: no rate limit on any queue in use.
    for queue in 0..queues {
        registers.write(Transmit::Rttdqsel, queue.into());
        registers.write(Transmit::Rttdt1c, 0);
    }
}

/// Lets transmit queues be enabled: before the first of them (section 4.6.8).
pub(crate) fn enable_transmit(registers: &Registers) {
    registers.update(|dmatxctl: Dmatxctl| dmatxctl.with_enable(true));
}

/// After the last transmit queue was disabled.
pub(crate) fn disable_transmit(registers: &Registers) {
    registers.update(|dmatxctl: Dmatxctl| dmatxctl.with_enable(false));
}
