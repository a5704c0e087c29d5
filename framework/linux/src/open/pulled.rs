//! Software devices that are pulled out, and put back, at times that their specs say.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use sumac_devices::ixgbe::{Fault, FaultKind, Sim82599};
use sumac_devices::vfio_user::Served82599;

use super::software::Sim;
use super::{OpenError, SoftwareDevice, software};
use crate::cores;
use crate::spec::{DeviceSpec, Pulled, SimSpec};

/// How often a device is looked at that its driver has not started yet.
const LOOK: Duration = Duration::from_millis(1);

/// A thread that pulls one device out, and puts it back, until this is dropped.
pub struct Pulling {
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

/// Starts to count the times of those that are served to other processes, made by [`sockets`](super::sockets) of the
/// same specs, in their order. Until what this returns is dropped.
///
/// # Errors
/// [`OpenError`], when there can be no thread.
pub fn pull(specs: &[DeviceSpec], served: &[Served82599]) -> Result<Vec<Pulling>, OpenError> {
    let sims = software::only(specs)?;
    let pulled = sims.iter().zip(served);
    let pulled = pulled.filter_map(|(sim, served)| Some((sim.spec.pulled?, served)));
    pulled
        .map(|(pulled, served)| Ok(Pulling::start(pulled, served.clone())?))
        .collect()
}

/// A device that can be pulled out.
trait Removable: Send + 'static {
    fn is_receiving(&self) -> bool;
    fn pull_out(&self);
    fn put_back(&self);
}

/// What a device is that was pulled out.
const REMOVED: Fault = Fault::always(FaultKind::SurpriseRemoval);

impl Removable for Sim82599 {
    fn is_receiving(&self) -> bool {
        self.is_receiving()
    }

    fn pull_out(&self) {
        self.inject(REMOVED);
    }

    fn put_back(&self) {
        self.heal();
    }
}

impl Removable for Served82599 {
    fn is_receiving(&self) -> bool {
        self.is_receiving()
    }

    fn pull_out(&self) {
        self.inject(REMOVED);
    }

    fn put_back(&self) {
        self.heal();
    }
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
    fn start(pulled: Pulled, device: impl Removable) -> Result<Self, cores::CoreError> {
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
                device.pull_out();
                let back = pulled.back.map(|back| back.saturating_sub(pulled.after));
                if back.is_some_and(passes) {
                    device.put_back();
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
