//! What domains add to a run: crashes on request, restarts, and what they cost.

use std::sync::PoisonError;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use sumac_devices::ixgbe::{Counter, Totals};
use sumac_interface::domain::Moment;
use sumac_linux::cores;
use sumac_linux::domains::Restarts;

use crate::cli::Crashes;
use crate::domains::{Drivers, Supervisors};
use crate::report::{PortReport, Report, Times};

use super::RunError;
use super::absence::Absence;
use super::ports::{OpenPort, RunningWorker};

/// Bytes of frame check sequence, which devices count.
const FCS: u64 = 4;

/// Looks after the drivers' domains during a run, if they are in any.
pub struct Supervision<'a> {
    drivers: Option<&'a Drivers>,
    crashes: Option<Crashes>,
    injector: Option<Injector>,
}

impl<'a> Supervision<'a> {
    /// Of drivers that are part of this program.
    pub fn none() -> Self {
        Self {
            drivers: None,
            crashes: None,
            injector: None,
        }
    }

    /// Of these drivers, which are to crash if `crashes` says so.
    pub fn of(drivers: &'a Drivers, crashes: Option<Crashes>) -> Self {
        Self {
            drivers: Some(drivers),
            crashes,
            injector: None,
        }
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
        if let (Some(drivers), Some(crashes)) = (self.drivers, self.crashes) {
            self.injector = Some(Injector::start(drivers.supervisors(), crashes)?);
        }
        Ok(())
    }

    /// Ends them.
    pub fn end(&mut self) {
        self.injector = None;
    }

    fn restarts(&self, port: usize) -> Option<Restarts> {
        Some(self.drivers?.restarts(port)?.0)
    }

    /// What is to be shown besides the ports' figures.
    pub fn shown(&self, ports: usize) -> Option<String> {
        let all = (0..ports).filter_map(|port| self.restarts(port));
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

    /// An error of the run, with what drivers died of.
    pub fn explain(&self, error: RunError) -> RunError {
        let deaths = self.drivers.map(Drivers::deaths).unwrap_or_default();
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
        let came = totals.get(Counter::GoodReceived);
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

/// A thread that has drivers fail by turns, until this is dropped.
struct Injector {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Injector {
    fn start(supervisors: Supervisors, crashes: Crashes) -> Result<Self, cores::CoreError> {
        let (stop, stopped) = mpsc::channel();
        let thread = cores::spawn("l2fwd-crashes", None, move || {
            let ended = |pause: Duration| {
                !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout))
            };
            for turn in 0.. {
                if ended(crashes.every) {
                    return;
                }
                let all = supervisors.lock().unwrap_or_else(PoisonError::into_inner);
                let ports = all.len().max(1);
                let driver = all.get(turn % ports).cloned();
                drop(all);
                let moment = Moment::ALL[turn / ports % Moment::ALL.len()];
                // All devices may be gone.
                let Some(driver) = driver else { continue };
                if !driver.has_served() {
                    // One that fails before it served anybody would be given up.
                    continue;
                }
                // One that is dead already need not fail.
                let _ = driver.with(|life| life.fail_next(crashes.how, moment));
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
