//! The rig of the comparison: software 82599s behind plain BARs, for both drivers.

use std::sync::Arc;

use sumac_devices::ixgbe::Violations;
use sumac_devices::memory::SimDma;
use sumac_devices::shared_bar::{BarMemory, SharedBar, SharedPorts};
use sumac_linux::time::LinuxClock;

use crate::constant_wire::ConstantWire;
use crate::control::Control;
use crate::device_thread::Ports;
use crate::ours::Ours;
use crate::session::{BringUp, DEVICE_ID, Rig, Serve, SessionError};
use crate::timing::serve;

/// Software 82599s with wires that cost next to nothing.
pub struct SoftwareRig;

impl Ports for SharedPorts<ConstantWire> {
    fn poll_control(&mut self) {
        SharedPorts::poll_control(self);
    }

    fn step(&mut self) -> usize {
        self.poll()
    }

    fn set_source(&mut self, on: bool) {
        // Only port 0 receives in any mode.
        if let Some(wire) = self.wires().next() {
            wire.source = on;
        }
    }

    fn violations(&self) -> Vec<Violations> {
        (0..)
            .map_while(|port| self.violations(port).cloned())
            .collect()
    }
}

impl Rig for SoftwareRig {
    fn shared_ports(&self, bar: &SharedBar) -> Result<Box<dyn Ports>, SessionError> {
        let wires = [ConstantWire::new(), ConstantWire::new()];
        Ok(Box::new(SharedPorts::new(bar, wires)))
    }

    fn own_ports(&self) -> Result<(Box<dyn Ports>, BringUp), SessionError> {
        let dma = SimDma::new().map_err(|error| SessionError::Ours(error.to_string()))?;
        let bars = [BarMemory::new()?, BarMemory::new()?].map(Arc::new);
        let of_port = |bar: &Arc<BarMemory>| (bar.clone(), DEVICE_ID, ConstantWire::new());
        let ports = bars.iter().map(of_port);
        let ports = SharedPorts::in_process(ports, dma.window().clone());
        let bring_up = move || {
            let mut ours = Ours::bring_up(
                bars.to_vec(),
                DEVICE_ID,
                Arc::new(dma),
                Arc::new(LinuxClock),
            )?;
            let turns = move |control: &Control| serve(control, &mut ours);
            Ok(Box::new(turns) as Serve)
        };
        Ok((Box::new(ports), Box::new(bring_up)))
    }
}
