//! Stops a run, sums it up, and gives everything back.

use std::thread::JoinHandle;

use sumac_interface::net::{Net, NetError};
use sumac_linux::open::SoftwareDevice;
use sumac_linux::vfio::Access;

use crate::forward::{Order, Shared};
use crate::report::{PortReport, Report, WireReport};

use super::absence::Gone;
use super::links::Links;
use super::ports::{OpenPort, Ports, RunningWorker, partner};
use super::supervision::Supervision;
use super::watch::{Hardware, Live};
use super::{RunError, device};

/// The violation that is DMA to where a driver has no memory.
const STRAY: &str = "dma-fault";

/// Stops receiving, lets workers send what they have, and takes their queues home.
pub fn stop_all<N: Net>(
    ports: &mut Ports<'_, N>,
    workers: &mut [RunningWorker<N::Queue>],
    shared: &Shared,
    supervision: &Supervision<'_>,
) -> Result<(), RunError> {
    ports.take_out_lost(workers, supervision);
    let ports = &mut ports.list;
    let mut result = Ok(());
    for open in ports.iter_mut() {
        result = result.and(stop(open, N::stop_receiving));
    }
    shared.order(Order::Drain);
    for bell in workers.iter().filter_map(|worker| worker.bell.as_ref()) {
        bell.ring();
    }
    for worker in workers.iter_mut() {
        match worker.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => {
                if let Some((port, error)) = &outcome.error
                    && ports[*port].absence.why.is_none()
                {
                    result = result.and(Err(device(error)));
                }
                if let Some(error) = &outcome.application {
                    result = result.and(Err(device(format!("the application's domain: {error}"))));
                }
                worker.outcome = Some(outcome);
            }
            Some(Err(_)) | None => {
                result = result.and(Err(device(
                    "a worker ended badly; this is a defect, report it",
                )));
            }
        }
    }
    result
}

/// Has a port stop, or a part of it. That its device is gone is no failure here.
fn stop<N: Net>(
    open: &mut OpenPort<N>,
    stop: impl FnOnce(&mut N) -> Result<(), NetError>,
) -> Result<(), RunError> {
    let Some(port) = &mut open.port else {
        return Ok(());
    };
    let gone = NetError::Gone {
        device: port.name().to_owned(),
    };
    let Err(error) = stop(port) else {
        return Ok(());
    };
    // A driver in a domain may have died of it.
    if error != gone && open.is_there() {
        return Err(device(error));
    }
    if open.absence.why.is_none() {
        open.absence.begin(Gone::Vanished(gone));
    }
    Ok(())
}

pub fn sum_up<N: Net>(
    ports: &[OpenPort<N>],
    workers: &[RunningWorker<N::Queue>],
    links: &Links,
    seconds: f64,
) -> (Report, u64) {
    let mut report = Report {
        seconds,
        ..Report::default()
    };
    let mut busy_ticks = 0;
    for (index, open) in ports.iter().enumerate() {
        let live = Live::of(index, workers);
        let stats = live.stats;
        let seen = links.of(index);
        busy_ticks += live.busy_ticks;
        report.ports.push(PortReport {
            device: open.name.clone(),
            mac: open.mac.to_string(),
            link_mbps: if seen.link.up { seen.link.mbps } else { 0 },
            link_changes: seen.changes,
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            tx_dropped: stats.tx_errors + live.gone,
            tx_dropped_removed: live.gone,
            rx_dropped: stats.rx_starved,
            rx_errors: stats.rx_errors,
            rx_refused_by_driver: stats.rx_errors + stats.rx_starved,
            rx_no_buffer: stats.rx_no_buffer,
            tx_full: stats.tx_full,
            ..PortReport::default()
        });
    }
    for worker in workers {
        let Some(outcome) = &worker.outcome else {
            continue;
        };
        report.sleeps += &outcome.sleeps;
        for ((from, _), undelivered) in worker.lanes.iter().zip(&outcome.undelivered) {
            let to = partner(*from, ports.len());
            if let Some(port) = report.ports.get_mut(to) {
                port.tx_dropped += undelivered;
            }
        }
    }
    (report, busy_ticks)
}

/// Stops the devices, gives every buffer back, and adds what devices and wires counted.
pub fn close<N: Net>(
    ports: &mut Ports<'_, N>,
    workers: Vec<RunningWorker<N::Queue>>,
    supervision: &Supervision<'_>,
    report: &mut Report,
) -> Result<(), RunError> {
    let mut result = Ok(());
    for (index, (open, report)) in ports.list.iter_mut().zip(&mut report.ports).enumerate() {
        let totals = supervision.totals(index, open);
        let hardware = Hardware::read(open, totals.as_ref());
        report.rx_dropped += hardware.dropped;
        report.rx_errors += hardware.errors;
        report.rx_filtered = hardware.filtered;
        result = result.and(stop(open, N::stop));
    }
    for worker in workers {
        let Some(outcome) = worker.outcome else {
            continue;
        };
        for ((from, _), queue) in worker.lanes.iter().zip(outcome.queues) {
            let open = ports
                .list
                .get_mut(*from)
                .and_then(|open| open.port.as_mut());
            if let (Some(port), Some(queue)) = (open, queue) {
                port.return_queues(vec![queue]);
            }
        }
    }
    ports.opened.finish();
    for (index, (open, report)) in ports.list.iter().zip(&mut report.ports).enumerate() {
        let totals = supervision.totals(index, open);
        supervision.account(index, totals.as_ref(), &open.absence, report);
        if let Some(software) = &open.software {
            judge(software, report);
        }
    }
    let software = ports.list.iter().filter_map(|open| open.software.as_ref());
    report.stray_dma = software.map(stray_dma).sum();
    report.vfio = ports.opened.access().map(Access::name);
    supervision.sum_up(report);
    result
}

/// Adds what a software device saw of its driver, and its wire of the frames.
fn judge(software: &SoftwareDevice, report: &mut PortReport) {
    let wire = software.wire();
    report.wire = Some(WireReport {
        sent: wire.to_device_frames,
        received: wire.from_device_frames,
        missing: wire.errors.gaps,
        errors: wire.errors.total() - wire.errors.gaps - wire.errors.refused,
        refused: wire.errors.refused,
        passed_by: wire.passed_by,
        failure: wire.failure,
    });
    let violations = software.violations();
    report.violations = violations.iter().map(|(_, count)| count).sum();
    report.violated = violations
        .iter()
        .map(|(rule, n)| format!("{rule}: {n}"))
        .collect();
}

/// How often a software device was to reach memory that its driver does not have.
fn stray_dma(software: &SoftwareDevice) -> u64 {
    let violations = software.violations();
    let stray = violations.iter().filter(|(rule, _)| *rule == STRAY);
    stray.map(|(_, count)| count).sum()
}
