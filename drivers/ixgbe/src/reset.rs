//! Taking a device to a known state and its receive path to a standstill.
//!
//! Used by [`crate::bring_up`] and when a port stops. Invariant: after [`quiesce`] or
//! [`global_reset`] the device reads and writes no memory.

use sumac_device::Clock;

use crate::error::{Fault, Wait};
use crate::registers::{
    Ctrl, CtrlExt, Dmatxctl, GcrExt, GeneralStatus, Hlreg0, InterruptMask, MICROSECOND,
    MILLISECOND, Registers, Rxctrl, Secrxctrl, Secrxstat, Status,
};

/// How long outstanding PCIe requests may take (section 5.2.5.3.2).
const MASTER_TIMEOUT: u64 = 80 * MILLISECOND;
/// How long reset may take; the bit clears within microseconds.
const RESET_TIMEOUT: u64 = 10 * MILLISECOND;
/// After reset, before any other access (section 4.6.3.2).
const RESET_SETTLE: u64 = 10 * MILLISECOND;
/// Between two resets (section 5.2.5.3.2: more than a microsecond).
const BETWEEN_RESETS: u64 = 10 * MICROSECOND;
/// How long internal buffers take to be dropped (specification update, clarification 9).
const FLUSH: u64 = 20 * MICROSECOND;
/// How long the receive path may take to run empty.
const RECEIVE_PATH_TIMEOUT: u64 = 40 * MILLISECOND;
/// Between two looks at a bit.
const INTERVAL: u64 = 10 * MICROSECOND;

/// Masks every interrupt cause and forgets those pending (section 4.6.3.1). Bit 31 of EIMC is
/// reserved.
pub fn disable_interrupts(registers: &Registers) {
    registers.write(InterruptMask::Eimc, 0x7fff_ffff);
    for index in 0..2 {
        registers.write(InterruptMask::EimcQueues(index), u32::MAX);
    }
    let _pending = registers.read(GeneralStatus::Eicr);
}

/// Software and link reset, after the device was told to stop using the bus (sections 4.6.3.2 and
/// 5.2.5.3.2). Everything is as after power-up then, but for filter tables and EEPROM.
///
/// # Errors
/// [`Fault::TimedOut`] or [`Fault::DeviceGone`].
pub fn global_reset(registers: &Registers, clock: &dyn Clock) -> Result<(), Fault> {
    let quiet = disable_master(registers, clock)?;
    if !quiet {
        // Requests that never end (link down, paused): drop them, then reset twice.
        flush_transmit_path(registers, clock);
        reset_once(registers, clock)?;
        clock.sleep_ns(BETWEEN_RESETS);
    }
    reset_once(registers, clock)?;
    clock.sleep_ns(RESET_SETTLE);
    registers.alive()
}

/// Asks the device to issue no more PCIe requests; whether it has none left.
fn disable_master(registers: &Registers, clock: &dyn Clock) -> Result<bool, Fault> {
    registers.update(|ctrl: Ctrl| ctrl.with_master_disable(true));
    let quiet = clock.wait_until(100 * MICROSECOND, MASTER_TIMEOUT, || {
        !registers.get::<Status>().master_enabled()
    });
    registers.alive()?;
    Ok(quiet.is_ok())
}

/// Specification update, clarification 9: frames that cannot leave are looped back and dropped.
fn flush_transmit_path(registers: &Registers, clock: &dyn Clock) {
    registers.update(|hlreg0: Hlreg0| hlreg0.with_loopback(true));
    registers.update(|rxctrl: Rxctrl| rxctrl.with_enable(false));
    registers.update(|gcr: GcrExt| gcr.with_buffers_clear(true));
    clock.sleep_ns(FLUSH);
    registers.update(|gcr: GcrExt| gcr.with_buffers_clear(false));
    registers.update(|hlreg0: Hlreg0| hlreg0.with_loopback(false));
}

fn reset_once(registers: &Registers, clock: &dyn Clock) -> Result<(), Fault> {
    registers.update(|ctrl: Ctrl| ctrl.with_reset(true).with_link_reset(true));
    registers.wait(clock, Wait::Reset, INTERVAL, RESET_TIMEOUT, |registers| {
        let ctrl: Ctrl = registers.get();
        !ctrl.reset() && !ctrl.link_reset()
    })
}

/// Holds incoming frames back, waits until the receive path is empty, and turns receive off
/// (section 4.6.7): what filters and receive configuration need before they change.
///
/// # Errors
/// [`Fault::TimedOut`] or [`Fault::DeviceGone`]; receive goes on as before then.
pub fn halt_receive(registers: &Registers, clock: &dyn Clock) -> Result<(), Fault> {
    hold_receive_path(registers, clock)?;
    registers.update(|rxctrl: Rxctrl| rxctrl.with_enable(false));
    Ok(())
}

/// Turns receive on: the last step of all, with the path held while RXEN is set (section 4.6.7).
///
/// # Errors
/// [`Fault::TimedOut`] or [`Fault::DeviceGone`].
pub fn resume_receive(registers: &Registers, clock: &dyn Clock) -> Result<(), Fault> {
    hold_receive_path(registers, clock)?;
    registers.update(|rxctrl: Rxctrl| rxctrl.with_enable(true));
    registers.update(|security: Secrxctrl| security.with_receive_disable(false));
    Ok(())
}

/// Frames wait before the filters, and those behind have left.
fn hold_receive_path(registers: &Registers, clock: &dyn Clock) -> Result<(), Fault> {
    registers.update(|security: Secrxctrl| security.with_receive_disable(true));
    let held = registers.wait(
        clock,
        Wait::ReceivePathEmpty,
        INTERVAL,
        RECEIVE_PATH_TIMEOUT,
        |registers| registers.get::<Secrxstat>().ready(),
    );
    if held.is_err() {
        registers.update(|security: Secrxctrl| security.with_receive_disable(false));
    }
    held
}

/// Does `change` with receive halted, and resumes receive if it was on.
///
/// # Errors
/// [`Fault::TimedOut`] or [`Fault::DeviceGone`]; receive may be left halted then.
pub fn with_receive_halted(
    registers: &Registers,
    clock: &dyn Clock,
    change: impl FnOnce(&Registers),
) -> Result<(), Fault> {
    registers.alive()?;
    let was_on = registers.get::<Rxctrl>().enable();
    if was_on {
        halt_receive(registers, clock)?;
    }
    change(registers);
    if was_on {
        resume_receive(registers, clock)?;
    }
    registers.alive()
}

/// Stops interrupts, receive, transmit and bus access without waiting for more than it must: the
/// last thing a driver does to a device. Cannot fail, because nobody is left to act on it.
pub fn quiesce(registers: &Registers, clock: &dyn Clock) {
    if registers.alive_now().is_err() {
        return;
    }
    disable_interrupts(registers);
    registers.update(|rxctrl: Rxctrl| rxctrl.with_enable(false));
    registers.update(|dmatxctl: Dmatxctl| dmatxctl.with_enable(false));
    registers.update(|ctrl_ext: CtrlExt| ctrl_ext.with_driver_loaded(false));
    if !matches!(disable_master(registers, clock), Ok(true)) {
        // Requests are still on their way: only a reset ends them for certain.
        let _reset_or_gone = global_reset(registers, clock);
    }
}
