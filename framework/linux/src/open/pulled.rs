//! Software devices that are pulled out, and put back, at times that their specs say.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use sumac_devices::ixgbe::{Fault, FaultKind, Sim82599};

use super::software::Sim;
use super::{OpenError, SoftwareDevice};
use crate::cores;
use crate::spec::{DeviceSpec, Pulled, SimSpec};

/// How often a device is looked at that its driver has not started yet.
const LOOK: Duration = Duration::from_millis(1);

/// A thread that pulls one device out, until this is dropped.
pub(super) struct Pulling {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts to count the times of those among `sims` that have any.
pub(super) fn start(
    sims: &[Sim<'_>],
    software: &[SoftwareDevice],
) -> Result<Vec<Pulling>, OpenError> {
    let pulled = sims.iter().zip(software);
    let pulled = pulled.filter_map(|(sim, software)| Some((sim.spec.pulled?, software)));
    pulled
        .map(|(pulled, software)| Ok(Pulling::start(pulled, software.device().clone())?))
        .collect()
}

/// Refuses specs with such times, for devices that others make.
pub(super) fn refuse(specs: &[DeviceSpec]) -> Result<(), OpenError> {
    let pulled = |spec: &&DeviceSpec| {
        matches!(
            spec,
            DeviceSpec::Sim(SimSpec {
                pulled: Some(_),
                ..
            })
        )
    };
    match specs.iter().find(pulled) {
        Some(spec) => Err(OpenError::GoneElsewhere {
            spec: spec.to_string(),
        }),
        None => Ok(()),
    }
}

impl Pulling {
    fn start(pulled: Pulled, device: Sim82599) -> Result<Self, cores::CoreError> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = cores::spawn("sumac-pulling", None, move || {
            let passes = |time: Duration| {
                matches!(stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
            };
            while !device.is_receiving() {
                if !passes(LOOK) {
                    return;
                }
            }
            if passes(pulled.after) {
                device.inject(Fault::always(FaultKind::SurpriseRemoval));
                let back = pulled.back.map(|back| back.saturating_sub(pulled.after));
                if back.is_some_and(passes) {
                    device.heal();
                }
            }
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics.
            let _ = thread.join();
        }
    }
}
