//! Software 82599s behind the plain BARs: cores and wires, stepped by whoever owns them.
//!
//! Not a thread: its owner decides on which core and how often. A driver gives a reset ten
//! microseconds, so [`SharedPorts::poll_control`] is to be called every few.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{BarMemory, DriverMemory, SharedBar};
use crate::ixgbe::registers::{
    self, CTRL, QUEUE_ENABLE, QUEUES, QueueRegister, receive_offset, transmit_offset,
};
use crate::ixgbe::{Access32, Core, Identity, Violations};
use crate::memory::GuestMemory;
use crate::wire::Wire;

/// Polls between two looks at the clock.
const POLLS_PER_CLOCK: u32 = 8;

/// SRRCTL of queue 0, in steps of 4 bytes.
const SRRCTL: usize = 0x2100;
/// The same register's other address, in steps of 64 bytes.
const SRRCTL_ALIAS: usize = 0x1014;

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
    /// Queues that were enabled when last looked at: receive, transmit.
    enabled: [u128; 2],
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
                enabled: [0; 2],
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
            if port.enables_more() {
                port.follow_alias();
                // Before a queue is seen enabled, its rings and buffers must be known.
                if let Some(driver) = &self.driver {
                    driver.look();
                }
            }
            port.core.poll_control();
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
                ctrl.fetch_or(registers::CTRL_RESET, Ordering::AcqRel);
            }
            port.core.poll_control();
            port.enabled = [0; 2];
        }
        if let Some(driver) = &self.driver {
            driver.detach();
        }
    }
}

impl<W> SharedPort<W> {
    /// Whether the driver has enabled a queue since the last time.
    fn enables_more(&mut self) -> bool {
        let offsets: [fn(usize, QueueRegister) -> u32; 2] = [receive_offset, transmit_offset];
        let mut more = false;
        for (enabled, offset) in self.enabled.iter_mut().zip(offsets) {
            let mut now = 0_u128;
            for queue in 0..QUEUES {
                let at = offset(queue, QueueRegister::Control) as usize / 4;
                let cell = self.bar.cells().get(at);
                let on = cell.is_some_and(|cell| cell.load(Ordering::Acquire) & QUEUE_ENABLE != 0);
                now |= u128::from(on) << queue;
            }
            more |= now & !*enabled != 0;
            *enabled = now;
        }
        more
    }

    /// SRRCTL of queues 0 to 15 has two addresses (section 8.2.3.8.7). The core reads the lower one; in
    /// plain memory what a driver wrote to the other must be carried over.
    fn follow_alias(&self) {
        let cells = self.bar.cells();
        for queue in 0..16 {
            let [core, other] = [SRRCTL + 4 * queue, SRRCTL_ALIAS + 0x40 * queue];
            let (Some(core), Some(other)) = (cells.get(core / 4), cells.get(other / 4)) else {
                continue;
            };
            match other.load(Ordering::Acquire) {
                0 => {}
                value => core.store(value, Ordering::Release),
            }
        }
    }
}
