//! What was found: one line, and the command that mends it.

use serde::Serialize;

/// How good or bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could, or not as safely.
    Warning,
    /// A device cannot be used.
    Fault,
}

impl State {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The device it is about; none for the machine.
    pub device: Option<String>,
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub what: String,
    /// What mends it, to be pasted into a shell; none where only hands can.
    pub command: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            device: None,
            check,
            state: State::Ok,
            what: what.into(),
            command: None,
        }
    }

    /// Not as it could be.
    pub fn warning(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            state: State::Warning,
            ..Self::ok(check, what)
        }
    }

    /// In the way of using a device.
    pub fn fault(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            state: State::Fault,
            ..Self::ok(check, what)
        }
    }

    /// What mends it.
    pub fn mended_by(self, command: impl Into<String>) -> Self {
        Self {
            command: Some(command.into()),
            ..self
        }
    }
}
