//! QEMU's monitor: commands to the machine itself, such as pulling out a device.
//!
//! One JSON object a line each way over a Unix socket (QEMU's docs/interop/qmp-spec). Events are kept apart from
//! answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::LabError;
use crate::machine::{Slot, vfio_user};

const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a guest's monitor.
pub struct Monitor {
    reader: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Monitor {
    /// Connects and agrees on the protocol.
    ///
    /// # Errors
    /// [`LabError::Monitor`] when there is no monitor.
    pub fn connect(socket: &Path) -> Result<Self, LabError> {
        let stream = UnixStream::connect(socket).map_err(LabError::file(socket))?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(LabError::file(socket))?;
        let mut monitor = Self {
            reader: BufReader::new(stream),
            events: Vec::new(),
        };
        monitor.line()?; // the greeting
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Carries out a command and returns its answer.
    ///
    /// # Errors
    /// [`LabError::Monitor`] with what QEMU said.
    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, LabError> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.reader.get_mut(), "{request}").map_err(refused)?;
        loop {
            let mut line = self.line()?;
            if line.get("event").is_some() {
                self.events.push(line);
            } else if let Some(error) = line.get("error") {
                return Err(refused(format!("{command}: {error}")));
            } else if let Some(answer) = line.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    /// Plugs a device into a slot again, served by vfio-user at this socket.
    ///
    /// # Errors
    /// [`LabError::Monitor`] when the slot is not empty, or nobody serves.
    pub fn add_vfio_user(&mut self, slot: &Slot, socket: &Path) -> Result<(), LabError> {
        let mut properties = vfio_user(socket);
        properties["id"] = json!(slot.id);
        properties["bus"] = json!(slot.port);
        self.execute("device_add", &properties).map(drop)
    }

    /// Unplugs a device: the guest is asked for it, as by the button of its slot, and lets it go.
    ///
    /// # Errors
    /// [`LabError::Monitor`] when the slot is empty, or the guest keeps the device.
    pub fn remove(&mut self, slot: &Slot) -> Result<(), LabError> {
        self.execute("device_del", &json!({ "id": slot.id }))?;
        self.wait_for("DEVICE_DELETED").map(drop)
    }

    /// Waits for an event of this name; those before it are dropped.
    ///
    /// # Errors
    /// [`LabError::Monitor`] when it does not come.
    fn wait_for(&mut self, event: &str) -> Result<Value, LabError> {
        let is_it = |line: &Value| line["event"] == *event;
        if let Some(at) = self.events.iter().position(is_it) {
            let found = self.events.drain(..=at).next_back();
            return Ok(found.unwrap_or_default());
        }
        self.events.clear();
        loop {
            let line = self.line()?;
            if is_it(&line) {
                return Ok(line);
            }
        }
    }

    fn line(&mut self) -> Result<Value, LabError> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(refused("closed")),
            Ok(_) => serde_json::from_str(&line).map_err(refused),
            Err(error) => Err(refused(error)),
        }
    }
}

fn refused(why: impl ToString) -> LabError {
    LabError::Monitor(why.to_string())
}
