//! What domains add to a run: crashes on request, restarts, and what they cost.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use sumac_devices::ixgbe::{Counter, Totals};
use sumac_interface::domain::{Failure, Moment};
use sumac_linux::cores;
use sumac_linux::domains::{Losses, PortService, Restarts, Supervisor};

use crate::application::Hosted;
use crate::cli::{Crashes, Options};
use crate::domains::{Drivers, Supervisors};
use crate::report::{ApplicationReport, PortReport, Report, Times};

use super::RunError;
use super::absence::Absence;
use super::ports::{OpenPort, RunningWorker};

/// Bytes of frame check sequence, which devices count.
const FCS: u64 = 4;

/// Looks after the domains during a run: the drivers', if they are in any, and the application's.
pub struct Supervision<'a> {
    drivers: Option<&'a Drivers>,
    application: Option<Arc<dyn Hosted>>,
    options: &'a Options,
    injector: Option<Injector>,
}

impl<'a> Supervision<'a> {
    /// Of these drivers, if they are not part of this program.
    pub fn of(drivers: Option<&'a Drivers>, options: &'a Options) -> Self {
        Self {
            drivers,
            application: None,
            options,
            injector: None,
        }
    }

    /// Of this application, too.
    pub fn look_after(&mut self, application: Arc<dyn Hosted>) {
        self.application = Some(application);
    }

    /// What calls of drivers lost, by port, where somebody counts it.
    pub fn losses(&self, ports: usize) -> Vec<Option<Arc<Losses>>> {
        let losses = self.drivers.map(Drivers::losses);
        losses.unwrap_or_else(|| vec![None; ports])
    }

    /// Has these workers woken when a driver is started again.
    pub fn wake<Q>(&self, workers: &[RunningWorker<Q>]) {
        let bells: Vec<_> = workers.iter().filter_map(|w| w.bell.clone()).collect();
        let supervisors = self.drivers.map(Drivers::supervisors).unwrap_or_default();
        let supervisors = supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        for supervisor in supervisors.iter() {
            supervisor.ring_at_restarts(bells.clone());
        }
    }

    /// Lets the crashes begin.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn begin(&mut self) -> Result<(), cores::CoreError> {
        let Some(crashes) = self.options.crash_every else {
            return Ok(());
        };
        let drivers = self.drivers.filter(|_| self.options.drivers_crash());
        let drivers = drivers.map(Drivers::supervisors).unwrap_or_default();
        let application = self.application.clone();
        let application = application.filter(|_| self.options.application_crashes());
        self.injector = Some(Injector::start(drivers, application, crashes)?);
        Ok(())
    }

    /// Ends them.
    pub fn end(&mut self) {
        self.injector = None;
    }

    /// Ends the application's domain, if it is in one: then all queue pairs are at home.
    ///
    /// # Errors
    /// In words, where that cannot be.
    pub fn end_application(&self) -> Result<(), String> {
        self.application
            .as_ref()
            .map_or(Ok(()), |application| application.end())
    }

    fn restarts(&self, port: usize) -> Option<Restarts> {
        Some(self.drivers?.restarts(port)?.0)
    }

    /// What is to be shown besides the ports' figures.
    pub fn shown(&self, ports: usize) -> Option<String> {
        let drivers = (0..ports).filter_map(|port| self.restarts(port));
        let application = self.application.as_ref().map(|one| one.restarts());
        let all = drivers.chain(application);
        let mut sum = all.reduce(|mut sum, one| {
            sum += &one;
            sum
        })?;
        let median = times(&mut sum.latency).map_or(0.0, |times| times.p50 / 1e3);
        let death = sum
            .last_death
            .map_or(String::new(), |how| format!("; last: {how}"));
        Some(format!(
            "{} restarts, ready again after {median:.1} ms (median){death}",
            sum.count
        ))
    }

    /// An error of the run, with what drivers and the application died of.
    pub fn explain(&self, error: RunError) -> RunError {
        let mut deaths = self.drivers.map(Drivers::deaths).unwrap_or_default();
        deaths.extend(self.application.as_ref().and_then(|one| one.death()));
        match error {
            RunError::Device(what) if !deaths.is_empty() => {
                let deaths = deaths.join("; ").replace('\n', " ");
                RunError::Device(format!("{what}; {deaths}"))
            }
            error => error,
        }
    }

    /// What a device itself counted, seen from behind: drivers that die, and those of devices that go away, take
    /// with them what they had counted.
    pub fn totals<N>(&self, port: usize, open: &OpenPort<N>) -> Option<Totals> {
        let known = self.restarts(port).is_some() || open.absence.count > 0;
        let software = open.software.as_ref().filter(|_| known)?;
        Some(software.device().totals())
    }

    /// Frees the driver of a port whose device is gone.
    pub fn end_driver(&self, port: usize) {
        if let Some(drivers) = self.drivers {
            drivers.end(port);
        }
    }

    /// Adds what restarts of a port's driver cost, and absences of its device. A frame that came is then received,
    /// or dropped, or lost; one that was received is transmitted by the other port, or dropped, or lost.
    pub fn account(
        &self,
        index: usize,
        totals: Option<&Totals>,
        absence: &Absence,
        port: &mut PortReport,
    ) {
        let lost = self.application.as_ref().map(|one| one.lost());
        port.lost_application = lost.and_then(|lost| lost.get(index).copied()).unwrap_or(0);
        let supervised = self.drivers.and_then(|drivers| drivers.restarts(index));
        let (restarts, in_calls) = supervised.unwrap_or_default();
        port.restarts = restarts.count;
        port.removed = absence.why.is_some();
        port.returns = absence.returns;
        if restarts.count == 0 && absence.count == 0 {
            return;
        }
        let Some(totals) = totals else {
            // What was in the rings of a card whose driver died is not known.
            port.lost_received = absence.unread;
            port.lost_transmit = in_calls + absence.unsent;
            port.tx_packets -= absence.unsent.min(port.tx_packets);
            return;
        };
        let came = totals.get(Counter::DmaReceived);
        port.lost_received = came.saturating_sub(port.rx_packets + port.rx_refused_by_driver);
        let handed_over = port.tx_packets + in_calls;
        let left = totals.get(Counter::GoodTransmitted);
        port.lost_transmit = handed_over.saturating_sub(left);
        port.tx_packets = handed_over - port.lost_transmit;
        port.tx_bytes = totals.get(Counter::GoodBytesTransmitted) - FCS * left;
    }

    /// Sums up over all ports.
    pub fn sum_up(&self, report: &mut Report) {
        let mut all = Restarts::default();
        for port in 0..report.ports.len() {
            if let Some(one) = self.restarts(port) {
                all += &one;
            }
        }
        report.restarts = all.count;
        report.restart_latency_us = times(&mut all.latency);
        report.device_reset_us = times(&mut all.reset);
        report.restart_less_reset_us = times(&mut all.less_reset);
        report.last_death = all.last_death;
        report.application = self.application.as_ref().map(|application| {
            let mut restarts = application.restarts();
            ApplicationReport {
                restarts: restarts.count,
                restart_latency_us: times(&mut restarts.latency),
                lost: application.lost().iter().sum(),
                last_death: restarts.last_death,
            }
        });
        let lost = |port: &PortReport| port.lost_received + port.lost_transmit;
        report.lost_in_restart = report.ports.iter().map(lost).sum();
    }
}

fn times(of: &mut Histogram<u64>) -> Option<Times> {
    let us = |ns: u64| ns as f64 / 1e3;
    (!of.is_empty()).then(|| Times {
        p50: us(of.value_at_quantile(0.5)),
        p99: us(of.value_at_quantile(0.99)),
        max: us(of.max()),
    })
}

/// What is to fail on request.
enum Victim {
    Driver(Arc<Supervisor<PortService>>),
    Application(Arc<dyn Hosted>),
}

impl Victim {
    /// Has it fail, unless it served nobody yet: one that fails before that would be given up.
    fn fail_next(&self, how: Failure, when: Moment) {
        // One that is dead already need not fail.
        let _ = match self {
            Self::Driver(driver) if driver.has_served() => driver
                .with(|life| life.fail_next(how, when))
                .unwrap_or(Ok(())),
            Self::Application(one) if one.has_served() => one.fail_next(how, when),
            _ => Ok(()),
        };
    }
}

/// A thread that has them fail by turns, until this is dropped.
struct Injector {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Injector {
    fn start(
        drivers: Supervisors,
        application: Option<Arc<dyn Hosted>>,
        crashes: Crashes,
    ) -> Result<Self, cores::CoreError> {
        let (stop, stopped) = mpsc::channel();
        let thread = cores::spawn("l2fwd-crashes", None, move || {
            let ended = |pause: Duration| {
                !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout))
            };
            for turn in 0.. {
                if ended(crashes.every) {
                    return;
                }
                let drivers = drivers.lock().unwrap_or_else(PoisonError::into_inner);
                let mut victims: Vec<Victim> =
                    drivers.iter().cloned().map(Victim::Driver).collect();
                drop(drivers);
                victims.extend(application.clone().map(Victim::Application));
                let count = victims.len().max(1);
                let moment = Moment::ALL[turn / count % Moment::ALL.len()];
                // All devices may be gone.
                if let Some(victim) = victims.get(turn % count) {
                    victim.fail_next(crashes.how, moment);
                }
            }
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics.
            let _ = thread.join();
        }
    }
}
