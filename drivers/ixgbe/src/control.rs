//! A port's control path: what a caller opens, starts, asks and stops.
//!
//! [`Control`] owns everything global of one device; each queue pair owns only its own registers.
//! The order among them is kept here: transmit before receive, receive last of all when
//! starting, first when stopping. When dropped, a `Control` leaves a device that touches no
//! memory, so queues must be dropped after it.

mod settings;

use alloc::string::String;
use alloc::sync::Arc;

use sumac_device::{Bar, Clock, DeviceBacking, DmaSpace};

use crate::bring_up;
use crate::config::PortConfig;
use crate::error::{Error, Fault};
use crate::filters::Filters;
use crate::ids::{Identity, Media, identify};
use crate::link::{self, LinkState};
use crate::phy::{Mdio, Phy};
use crate::queue_registers::{RxQueueRegisters, TxQueueRegisters, queue_registers};
use crate::registers::{Dmatxctl, Eicr, Registers};
use crate::reset;
use crate::sfp::{self, Module};
use crate::stats::Statistics;

/// What starting and stopping a port asks of each queue pair.
pub trait QueueControl {
    /// Programs and enables the transmit queue.
    ///
    /// # Errors
    /// As [`TxQueueRegisters::program`] and [`TxQueueRegisters::enable`].
    fn start_transmit(&mut self, clock: &dyn Clock) -> Result<(), Fault>;

    /// Programs and enables the receive queue, posts its buffers and moves the tail.
    ///
    /// # Errors
    /// As [`RxQueueRegisters::program`] and [`RxQueueRegisters::enable`].
    fn start_receive(&mut self, clock: &dyn Clock) -> Result<(), Fault>;

    /// Disables the receive queue.
    ///
    /// # Errors
    /// As [`RxQueueRegisters::disable`].
    fn stop_receive(&mut self, clock: &dyn Clock) -> Result<(), Fault>;

    /// Disables the transmit queue, when what was posted is sent.
    ///
    /// # Errors
    /// As [`TxQueueRegisters::disable`].
    fn stop_transmit(&mut self, clock: &dyn Clock) -> Result<(), Fault>;

    /// Takes every buffer back: the device, stopped or reset, uses none any more.
    fn stopped(&mut self);
}

/// One port of an 82599, X540 or X550.
pub struct Control {
    name: String,
    registers: Registers,
    clock: Arc<dyn Clock>,
    dma: Arc<dyn DmaSpace>,
    identity: Identity,
    config: PortConfig,
    filters: Filters,
    statistics: Statistics,
    last_link: LinkState,
    running: bool,
    /// A queue did not stop, so the device was reset and knows nothing of its configuration.
    lost: bool,
    /// The device uses no ring and no buffer: it was stopped or reset, or it is gone.
    quiet: bool,
}

impl Control {
    /// Resets and configures the device, everything but the queues. Receive is off and the link
    /// on its way up afterwards.
    ///
    /// # Errors
    /// An [`Error`] naming the device, the step that failed and what to do about it.
    pub fn open(backing: DeviceBacking, config: &PortConfig) -> Result<Self, Error> {
        let DeviceBacking {
            name,
            id,
            bar,
            dma,
            clock,
        } = backing;
        let at = |fault: Fault| Error::new(&name, fault);
        let identity = identify(id).ok_or_else(|| at(Fault::NotSupported(id)))?;
        config
            .check(identity.generation)
            .map_err(|error| at(error.into()))?;
        let registers = Registers::new(&bar);
        let filters = set_up(&registers, &*clock, identity, config).map_err(|fault| {
            reset::quiesce(&registers, &*clock);
            at(fault)
        })?;
        Ok(Self {
            name,
            registers,
            clock,
            dma,
            identity,
            config: config.clone(),
            filters,
            statistics: Statistics::new(config.queues),
            last_link: LinkState::Down,
            running: false,
            lost: false,
            quiet: true,
        })
    }

    /// How people name the device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Controller and cable.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The configuration as it is now.
    pub fn config(&self) -> &PortConfig {
        &self.config
    }

    /// Where memory for rings comes from.
    pub fn dma(&self) -> &Arc<dyn DmaSpace> {
        &self.dma
    }

    /// The host's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The device's BAR.
    pub fn bar(&self) -> &Bar {
        self.registers.bar()
    }

    /// Whether the port was started.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Whether the device is known to use no ring and no buffer. False while the port runs, and
    /// after a stop that neither the queues nor a reset obeyed.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Puts the device's name to a fault.
    pub fn error(&self, fault: impl Into<Fault>) -> Error {
        Error::new(&self.name, fault)
    }

    /// The registers of queue pair `queue`.
    ///
    /// # Errors
    /// [`Fault::NoSuchQueue`].
    pub fn queue_registers(
        &self,
        queue: u16,
    ) -> Result<(RxQueueRegisters, TxQueueRegisters), Error> {
        match self.config.queues {
            queues if queue >= queues => Err(self.error(Fault::NoSuchQueue { queue, queues })),
            _ => Ok(queue_registers(self.bar(), queue)),
        }
    }

    /// Starts the port: transmit queues, receive queues, and receive last of all (sections 4.6.7
    /// and 4.6.8).
    ///
    /// # Errors
    /// [`Fault::Already`], or why a queue did not start; the queues are stopped again then.
    pub fn start<Q: QueueControl>(&mut self, queues: &mut [Q]) -> Result<(), Error> {
        if self.running {
            return Err(self.error(Fault::Already("started")));
        }
        if self.lost {
            self.reset(queues)?;
        }
        self.quiet = false;
        let started = self.start_queues(queues);
        self.running = true;
        started.map_err(|fault| {
            // The first fault says more than whatever stopping half-started queues adds to it.
            let _second = self.stop(queues);
            self.error(fault)
        })
    }

    fn start_queues<Q: QueueControl>(&self, queues: &mut [Q]) -> Result<(), Fault> {
        let clock = &*self.clock;
        bring_up::enable_transmit(&self.registers);
        self.registers.alive()?;
        for queue in &mut *queues {
            queue.start_transmit(clock)?;
        }
        for queue in queues {
            queue.start_receive(clock)?;
        }
        reset::resume_receive(&self.registers, clock)
    }

    /// Makes sure that the device still is as [`start`](Self::start) left it: any reset clears what that set
    /// last of the transmit side.
    ///
    /// # Errors
    /// [`Fault::Reset`].
    pub fn check_started(&self) -> Result<(), Error> {
        match self.registers.get::<Dmatxctl>().enable() {
            true => Ok(()),
            false => Err(self.error(Fault::Reset)),
        }
    }

    /// Lets no more frames in (section 4.6.7.1.2); those that came stay in their rings to be taken.
    ///
    /// # Errors
    /// [`Fault::Already`] on a port that stands still, or the device's fault.
    pub fn stop_receiving(&mut self) -> Result<(), Error> {
        if !self.running {
            return Err(self.error(Fault::Already("stopped")));
        }
        reset::halt_receive(&self.registers, &*self.clock).map_err(|fault| self.error(fault))
    }

    /// Stops the port: receive, receive queues, transmit queues. Filters, link and statistics stay.
    ///
    /// # Errors
    /// [`Fault::Already`], or the first fault of a queue. All are tried; if one failed, the device
    /// is reset so that no queue's memory is in use afterwards whatever happened, and configured
    /// anew when the port is started again.
    pub fn stop<Q: QueueControl>(&mut self, queues: &mut [Q]) -> Result<(), Error> {
        if !self.running {
            return Err(self.error(Fault::Already("stopped")));
        }
        self.running = false;
        let clock = &*self.clock;
        let mut result = reset::halt_receive(&self.registers, clock);
        for queue in &mut *queues {
            result = result.and(queue.stop_receive(clock));
        }
        for queue in &mut *queues {
            result = result.and(queue.stop_transmit(clock));
        }
        bring_up::disable_transmit(&self.registers);
        if result.is_err() {
            self.lost = true;
            // A queue that does not stop is stopped by reset. If that fails too, the device either
            // is gone or may still write: then the buffers stay withdrawn for good.
            match reset::global_reset(&self.registers, clock) {
                Ok(()) | Err(Fault::DeviceGone) => {}
                Err(fault) => return Err(self.error(fault)),
            }
        }
        self.stand_still(queues);
        result.map_err(|fault| self.error(fault))
    }

    /// The device uses no buffer any more: they all come back.
    fn stand_still<Q: QueueControl>(&mut self, queues: &mut [Q]) {
        self.quiet = true;
        queues.iter_mut().for_each(QueueControl::stopped);
    }

    /// Resets the device and configures it anew as it was: filters, MTU, RSS, flow control. Stops
    /// the port first if it runs; the statistics' sums stay.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn reset<Q: QueueControl>(&mut self, queues: &mut [Q]) -> Result<(), Error> {
        if self.running {
            // A port that does not stop is what a reset is for.
            let _or_reset = self.stop(queues);
        }
        self.lost = true;
        // What cannot be read now is not counted; the reset says whether the device is gone.
        let _counted_or_gone = self.statistics.add_from(&self.registers);
        let brought_up =
            bring_up::bring_up(&self.registers, &*self.clock, self.identity, &self.config);
        if matches!(brought_up, Ok(_) | Err(Fault::DeviceGone)) {
            self.stand_still(queues);
        }
        brought_up.map_err(|fault| self.error(fault))?;
        self.filters.write_all(&self.registers);
        self.registers.alive().map_err(|fault| self.error(fault))?;
        self.last_link = LinkState::Down;
        self.lost = false;
        Ok(())
    }

    /// The link now.
    ///
    /// # Errors
    /// [`Fault::DeviceGone`].
    pub fn link(&self) -> Result<LinkState, Error> {
        link::state(&self.registers, self.identity.generation).map_err(|fault| self.error(fault))
    }

    /// The link now if it changed since this was asked last, even if it changed back: to be asked
    /// now and then, or after the link's vector ([`link_vector`](crate::interrupts::link_vector)) was sent, which
    /// can be sent again then.
    ///
    /// # Errors
    /// [`Fault::DeviceGone`].
    pub fn link_change(&mut self) -> Result<Option<LinkState>, Error> {
        let flapped = self.registers.get::<Eicr>().link_changed();
        let link = self.link()?;
        let changed = flapped || link != self.last_link;
        self.last_link = link;
        Ok(changed.then_some(link))
    }

    /// The link when it came up, or after `timeout_ns`. Staying down is a finding, not an error.
    ///
    /// # Errors
    /// [`Fault::DeviceGone`].
    pub fn wait_for_link(&self, timeout_ns: u64) -> Result<LinkState, Error> {
        link::wait(
            &self.registers,
            &*self.clock,
            self.identity.generation,
            timeout_ns,
        )
        .map_err(|fault| self.error(fault))
    }

    /// The module in the SFP+ cage, if there is a cage and a module in it. Asking takes milliseconds and a
    /// thousand register accesses, which a port comes up without.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] or [`Fault::DeviceGone`].
    pub fn module(&self) -> Result<Option<Module>, Error> {
        let generation = self.identity.generation;
        match self.identity.media {
            Media::Sfp => sfp::identify(&self.registers, &*self.clock, generation)
                .map_err(|fault| self.error(fault)),
            Media::Backplane | Media::Cx4 | Media::Xaui | Media::Copper => Ok(None),
        }
    }

    /// The PHY behind MDIO, if one answers.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] or [`Fault::DeviceGone`].
    pub fn phy(&self) -> Result<Option<Phy>, Error> {
        Mdio::new(&self.registers, &*self.clock, self.identity.generation)
            .find()
            .map_err(|fault| self.error(fault))
    }

    /// The statistics up to now.
    ///
    /// # Errors
    /// [`Fault::DeviceGone`].
    pub fn stats(&mut self) -> Result<&Statistics, Error> {
        let added = self.statistics.add_from(&self.registers);
        added.map_err(|fault| Error::new(&self.name, fault))?;
        Ok(&self.statistics)
    }

    /// The statistics as they were read last.
    pub fn last_stats(&self) -> &Statistics {
        &self.statistics
    }

    /// Starts counting anew.
    ///
    /// # Errors
    /// [`Fault::DeviceGone`].
    pub fn clear_stats(&mut self) -> Result<(), Error> {
        self.stats()?;
        self.statistics.clear();
        Ok(())
    }
}

/// Brings the device up and writes its filters.
fn set_up(
    registers: &Registers,
    clock: &dyn Clock,
    identity: Identity,
    config: &PortConfig,
) -> Result<Filters, Fault> {
    let mac = bring_up::bring_up(registers, clock, identity, config)?;
    let filters = bring_up::initial_filters(mac, config);
    filters.write_all(registers);
    registers.alive()?;
    Ok(filters)
}

impl Drop for Control {
    fn drop(&mut self) {
        reset::quiesce(&self.registers, &*self.clock);
    }
}
