//! The software device by itself: what it takes for a packet, on the wire of the comparison.
//!
//! Driver and device are one thread: the device is stepped while the driver waits for it to come up; then
//! our driver fills or empties the rings, untimed, and the device is stepped, timed, until nothing is
//! left to do. Where a driver costs less than this, a streaming row
//! shows the device and not the driver.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sumac_device::Clock;
use sumac_devices::memory::SimDma;
use sumac_devices::shared_bar::{BarMemory, SharedPorts};
use sumac_linux::cores::pin_current_thread;
use sumac_linux::time::ticks;

use crate::constant_wire::ConstantWire;
use crate::control::{Mode, Window};
use crate::device_thread::Ports;
use crate::ours::Ours;
use crate::processor::involuntary_switches;
use crate::report::Row;
use crate::session::{DEVICE_ID, SessionError};
use crate::statistics::{Class, Rules, Sample};
use crate::third_party::{UNSEEN, unexpected};
use crate::timing::Peer;

/// Packets between two timed sections: less than a ring of 512 holds, whatever is kept free in it.
const PACKETS: usize = 384;
const BATCH: usize = 32;
/// Timed sections of a window, and windows: a few milliseconds a row.
const SECTIONS: usize = 16;
const WINDOWS: usize = 256;

/// What is measured, and what the prototype's device took, as its notes have it.
const ROWS: [(&str, Mode, &str); 3] = [
    ("device/receive", Mode::Receive, "prototype 5.5-7.8"),
    ("device/transmit", Mode::Transmit, "prototype 10-13"),
    ("device/forward", Mode::Forward, "prototype 14.9"),
];

/// The device's rows.
///
/// # Errors
/// [`SessionError`] when our driver does not come up or breaks the device's rules.
pub fn measure(rules: &Rules, core: usize) -> Result<Vec<Row>, SessionError> {
    // A thread of its own, since it is bound to a core.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| measure_here(rules, core));
        let panicked = || SessionError::Ours("it panicked".to_owned());
        thread.join().unwrap_or_else(|_| Err(panicked()))
    })
}

fn measure_here(rules: &Rules, core: usize) -> Result<Vec<Row>, SessionError> {
    let (mut ports, mut ours) = bring_up()?;
    // A core that is not there: the kernel places the thread.
    let _ = pin_current_thread(core);
    let rows = ROWS.into_iter().filter_map(|(name, mode, prototype)| {
        ports.set_source(mode != Mode::Transmit);
        settle(&mut ports);
        let windows = (0..WINDOWS).map(|_| window(&mut ports, &mut ours, mode));
        let mut sample = Sample::default();
        sample.add(windows.collect());
        let figure = sample.figure(rules, Class::Same)?;
        Some(Row::device(name, figure, prototype))
    });
    let rows = rows.collect();
    for violations in Ports::violations(&ports) {
        if let Some(violations) = unexpected(&violations, UNSEEN) {
            let peer = "our driver";
            return Err(SessionError::Violations { peer, violations });
        }
    }
    Ok(rows)
}

/// The driver's clock while it comes up: as the driver waits, the device is stepped and time goes on.
struct SteppingClock {
    now_ns: AtomicU64,
    /// Taken away when the driver is up.
    ports: Mutex<Option<SharedPorts<ConstantWire>>>,
}

impl SteppingClock {
    fn ports(&self) -> MutexGuard<'_, Option<SharedPorts<ConstantWire>>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SteppingClock {
    fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    fn sleep_ns(&self, ns: u64) {
        if let Some(ports) = &mut *self.ports() {
            ports.poll_control();
            ports.poll();
        }
        self.now_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

/// Ports, and our driver up on them.
fn bring_up() -> Result<(SharedPorts<ConstantWire>, Ours), SessionError> {
    let dma = SimDma::new().map_err(|error| SessionError::Ours(error.to_string()))?;
    let bars = [BarMemory::new()?, BarMemory::new()?].map(Arc::new);
    let of_port = |bar: &Arc<BarMemory>| (bar.clone(), DEVICE_ID, ConstantWire::new());
    let ports = SharedPorts::in_process(bars.iter().map(of_port), dma.window().clone());
    let clock = Arc::new(SteppingClock {
        now_ns: AtomicU64::new(0),
        ports: Mutex::new(Some(ports)),
    });
    let ours = Ours::bring_up(bars.to_vec(), DEVICE_ID, Arc::new(dma), clock.clone());
    let ours = ours.map_err(SessionError::Ours)?;
    let ports = clock.ports().take();
    let mut ports = ports.ok_or_else(|| SessionError::Ours("its device is gone".to_owned()))?;
    // What the driver wrote last, after it waited.
    ports.poll_control();
    Ok((ports, ours))
}

/// Steps the device until there is nothing left to do; a device that turns every frame away never
/// comes to an end, so not for ever.
fn settle(ports: &mut SharedPorts<ConstantWire>) {
    for _ in 0..100 * PACKETS {
        if ports.poll() == 0 {
            return;
        }
    }
}

fn window(ports: &mut SharedPorts<ConstantWire>, ours: &mut Ours, mode: Mode) -> Window {
    let switches = involuntary_switches();
    let mut window = Window::default();
    for _ in 0..SECTIONS {
        for _ in 0..PACKETS / BATCH {
            window.packets += match mode {
                Mode::Receive => ours.receive(BATCH),
                Mode::Transmit => ours.transmit(BATCH),
                Mode::Forward | Mode::Macswap => ours.forward(BATCH),
            } as u64;
        }
        let start = ticks();
        settle(ports);
        let took = ticks() - start;
        window.ticks += took;
        window.longest = window.longest.max(took);
    }
    window.switches = involuntary_switches() - switches;
    window
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_of_the_driver_passes_the_device() {
        let (mut ports, mut ours) = bring_up().unwrap();
        for (_, mode, _) in ROWS {
            ports.set_source(mode != Mode::Transmit);
            settle(&mut ports);
            let window = window(&mut ports, &mut ours, mode);
            assert_eq!(window.packets, (SECTIONS * PACKETS) as u64, "{mode:?}");
            assert!(window.ticks > 0);
        }
        for violations in Ports::violations(&ports) {
            assert_eq!(unexpected(&violations, UNSEEN), None);
        }
    }
}
