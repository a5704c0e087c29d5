//! How a worker sleeps while nothing comes: [`Rest`], by whatever runs the application ([`Sleeper`]).

use std::sync::Arc;
use std::time::Duration;

use sumac_linux::Bell;

use super::Shared;
use crate::report::Sleeps;

/// The longest sleep: whoever stops a worker wakes it, so that this is for what nobody foresaw.
const NAP: Duration = Duration::from_secs(1);
/// So much later than its frame an interrupt has been lost.
const LATE: Duration = Duration::from_secs(1);
/// Times a worker does not sleep because of frames it could not send, or that were not sent: a link that is down
/// keeps them.
const UNSENT_LOOKS: u32 = 64;
/// How long it sleeps then: nothing rings when frames leave.
const UNSENT_NAP: Duration = Duration::from_millis(10);

/// What a worker is asked that may sleep.
pub(crate) trait Sleeper {
    /// Why it cannot say.
    type Error;

    /// Whether no frame waits to be sent, here or with a device.
    fn all_is_sent(&mut self) -> Result<bool, Self::Error>;

    /// Arms all queues, then says whether none has anything to receive and each will wake.
    fn arm(&mut self) -> Result<bool, Self::Error>;

    /// Whether a frame waits to be received.
    fn is_waiting(&mut self) -> Result<bool, Self::Error>;
}

/// What a worker sleeps on, and how it slept.
#[derive(Default)]
pub(crate) struct Rest {
    /// What the vectors of its queues ring; none polls all the time.
    bell: Option<Arc<Bell>>,
    pub sleeps: Sleeps,
    /// Times in a row it would have slept but for frames not sent.
    unsent: u32,
}

impl Rest {
    pub fn on(bell: Option<Arc<Bell>>) -> Self {
        Self {
            bell,
            ..Self::default()
        }
    }

    /// Whether there is anything to sleep on.
    pub fn may_sleep(&self) -> bool {
        self.bell.is_some()
    }

    /// Sleeps until a frame comes, if there is a bell and nothing to be done.
    pub fn sleep<S: Sleeper>(&mut self, worker: &mut S, shared: &Shared) -> Result<(), S::Error> {
        let Some(bell) = &self.bell else {
            return Ok(());
        };
        if shared.exhausted() {
            return Ok(());
        }
        let nap = match worker.all_is_sent()? {
            true => {
                self.unsent = 0;
                NAP
            }
            false if self.unsent < UNSENT_LOOKS => {
                self.unsent += 1;
                return Ok(());
            }
            false => UNSENT_NAP,
        };
        if !worker.arm()? || shared.draining() {
            return Ok(());
        }
        self.sleeps.slept += 1;
        if bell.wait(nap) {
            self.sleeps.woken += 1;
        } else if worker.is_waiting()? && !bell.wait(LATE) {
            self.sleeps.overslept += 1;
        }
        Ok(())
    }
}
