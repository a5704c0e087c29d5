//! Software 82599s behind the plain BARs: cores and wires, stepped by whoever owns them.
//!
//! Not a thread: its owner decides on which core and how often. A driver gives a reset ten
//! microseconds, so [`SharedPorts::poll_control`] is to be called every few.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{BarMemory, DriverMemory, SharedBar};
use crate::ixgbe::registers::{CTRL, CTRL_RESET};
use crate::ixgbe::{Access32, Core, Identity, Violations};
use crate::memory::GuestMemory;
use crate::wire::Wire;

/// Polls between two looks at the clock.
const POLLS_PER_CLOCK: u32 = 8;

/// Ports that share memory and a driver.
pub struct SharedPorts<W> {
    ports: Vec<SharedPort<W>>,
    memory: Arc<GuestMemory>,
    /// Where the memory is another process's.
    driver: Option<Arc<DriverMemory>>,
    start: Instant,
    now_ns: u64,
    polls: u32,
}

struct SharedPort<W> {
    core: Core,
    wire: W,
    bar: Arc<BarMemory>,
}

impl<W: Wire> SharedPorts<W> {
    /// The ports of `bar`, for a driver in another process, with a wire each.
    pub fn new(bar: &SharedBar, wires: impl IntoIterator<Item = W>) -> Self {
        let devices = bar.identities().iter().map(|identity| identity.device);
        let memory = bar.memory();
        let ports = bar.registers().iter().cloned().zip(devices).zip(wires);
        let ports = ports.map(|((bar, device), wire)| (bar, device, wire));
        Self {
            driver: Some(memory.clone()),
            ..Self::in_process(ports, memory.window().clone())
        }
    }

    /// Ports for a driver in this process: BAR, device id and wire of each, and the memory the driver
    /// allocates from.
    pub fn in_process(
        ports: impl IntoIterator<Item = (Arc<BarMemory>, u16, W)>,
        memory: Arc<GuestMemory>,
    ) -> Self {
        let ports = (0..).zip(ports).map(|(index, (bar, device_id, wire))| {
            let mut identity = Identity {
                device_id,
                ..Identity::default()
            };
            identity.mac[5] = index;
            SharedPort {
                core: Core::new(bar.clone(), Access32::Shared, identity, Vec::new(), false),
                wire,
                bar,
            }
        });
        Self {
            ports: ports.collect(),
            memory,
            driver: None,
            start: Instant::now(),
            now_ns: 0,
            polls: 0,
        }
    }

    /// Acts on what the driver wrote into control registers; when the driver is gone, resets the ports
    /// and lets go of its memory.
    pub fn poll_control(&mut self) {
        if self
            .driver
            .as_ref()
            .is_some_and(|driver| driver.driver_is_gone())
        {
            self.reset();
            return;
        }
        for port in &mut self.ports {
            port.core.poll_control(|| {
                if let Some(driver) = &self.driver {
                    driver.look();
                }
            });
        }
    }

    /// Moves some frames of every port; how many, context descriptors included.
    pub fn poll(&mut self) -> usize {
        if self.polls.is_multiple_of(POLLS_PER_CLOCK) {
            self.now_ns = self.start.elapsed().as_nanos() as u64;
        }
        self.polls = self.polls.wrapping_add(1);
        let access = self.memory.access();
        let mut work = 0;
        for port in &mut self.ports {
            work += port.core.poll(&access, &mut port.wire, self.now_ns);
        }
        work
    }

    /// What the driver of port `port` did wrong so far.
    pub fn violations(&self, port: usize) -> Option<&Violations> {
        Some(self.ports.get(port)?.core.violations())
    }

    /// The wires, in the order of the ports.
    pub fn wires(&mut self) -> impl Iterator<Item = &mut W> {
        self.ports.iter_mut().map(|port| &mut port.wire)
    }

    /// Resets every port as a driver would, and forgets the driver that is gone.
    fn reset(&mut self) {
        for port in &mut self.ports {
            if let Some(ctrl) = port.bar.cells().get(CTRL as usize / 4) {
                ctrl.fetch_or(CTRL_RESET, Ordering::AcqRel);
            }
            port.core.poll_control(|| {});
        }
        if let Some(driver) = &self.driver {
            driver.detach();
        }
    }
}
