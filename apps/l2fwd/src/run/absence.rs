//! Devices that go away in mid-run, and come back if they are waited for.
//!
//! One that is gone loses its port, driver and all, so that nothing of this process is left of it and its
//! host can have it. Workers give up its queue pairs and go on with the others; frames that were to leave
//! by it are dropped, and counted.

use std::mem::forget;
use std::sync::mpsc;
use std::time::Duration;

use sumac_interface::net::{Net, NetError, NetQueue};
use sumac_linux::open;

use crate::cli::Options;
use crate::forward::Change;

use super::ports::{OpenPort, Ports, RunningWorker, partner, rewrite, wanted_back};
use super::supervision::Supervision;
use super::watch::Hardware;
use super::{RunError, device};

/// The longest a worker may take to give queue pairs up: it looks some thousand times a second, unless a driver
/// keeps it, such as one that waits for a device whose server is stopped.
const ANSWER: Duration = Duration::from_secs(100);
/// The most frames a receive ring holds.
const RING: u32 = 4096;

/// Why a port's device is gone.
#[derive(Debug, thiserror::Error)]
pub enum Gone {
    /// It does not answer, or did not for a while and has forgotten what it was told.
    #[error(transparent)]
    Vanished(NetError),
    /// Its host wanted it back, and has it.
    #[error(
        "{device}: taken back by the kernel, which unplugs or unbinds it; put it back and run `sumac bind {device}`, then start again, or use --wait-for-device"
    )]
    TakenBack {
        /// The device.
        device: String,
    },
}

/// A port's absence from a run.
#[derive(Debug, Default)]
pub struct Absence {
    /// Why the device is gone, while it is.
    pub why: Option<Gone>,
    /// Why it is not back yet, as it was looked for last.
    pub not_back: Option<String>,
    /// How often it went.
    pub count: u64,
    /// How often it came back.
    pub returns: u64,
    /// What its devices had counted by then.
    pub past: Hardware,
    /// Frames that had been received and were in the rings of a device that went.
    pub unread: u64,
    /// Frames in the rings of a device that went which it had not reported sent.
    pub unsent: u64,
}

impl Absence {
    /// The device is gone.
    pub fn begin(&mut self, why: Gone) {
        self.count += 1;
        self.why = Some(why);
    }

    /// What the run ended with, if the device is gone.
    pub fn error(&self) -> Option<String> {
        let why = self.why.as_ref()?;
        Some(match &self.not_back {
            Some(reason) => format!("{why} (not back: {reason})"),
            None => why.to_string(),
        })
    }
}

impl<N: Net> Ports<'_, N> {
    /// Gives up a port whose device is gone, or about to go.
    ///
    /// # Errors
    /// A worker does not give its queue pairs up.
    pub fn take_out(
        &mut self,
        index: usize,
        why: Gone,
        workers: &[RunningWorker<N::Queue>],
        supervision: &Supervision<'_>,
    ) -> Result<(), RunError> {
        let mut queues = take_queues(index, workers)?;
        let Some(open) = self.list.get_mut(index) else {
            return Ok(());
        };
        // One that only its driver cannot reach may still reach memory, until its host ends that.
        let quiet = match (&why, &open.control) {
            (Gone::Vanished(_), Some(control)) => control.stop(),
            _ => true,
        };
        if let Some(mut port) = open.port.take() {
            // Read amid traffic, counters do not tell what was filtered from what is on its way in.
            open.absence.past += Hardware {
                filtered: 0,
                ..Hardware::of(&mut port)
            };
            if quiet {
                // One that is gone cannot be stopped, and need not be.
                let _ = port.stop();
            }
            for queue in &mut queues {
                open.absence.unread += u64::from(queue.waiting(RING));
                open.absence.unsent += u64::from(queue.reclaim());
            }
            if quiet {
                port.return_queues(queues);
            } else {
                // What it may yet write to is nobody's any more.
                forget((port, queues));
            }
        }
        open.let_go();
        open.absence.begin(why);
        self.links.lose(index);
        supervision.end_driver(index);
        self.opened.let_go(index);
        Ok(())
    }

    /// Gives up every port whose device is gone: what is in its rings would be waited for in vain.
    pub fn take_out_lost(
        &mut self,
        workers: &[RunningWorker<N::Queue>],
        supervision: &Supervision<'_>,
    ) {
        for index in 0..self.list.len() {
            if let Ok(Some(why)) = self.list[index].lost() {
                // A worker that has ended has its queue pairs in its outcome.
                let _ = self.take_out(index, why, workers, supervision);
            }
        }
    }

    /// Opens a port again whose device is back. If it is not, or does not come up, says why not.
    pub fn bring_back(
        &mut self,
        index: usize,
        options: &Options,
        workers: &[RunningWorker<N::Queue>],
        supervision: &Supervision<'_>,
    ) -> bool {
        let back = self.reopen(index);
        let Some(open) = self.list.get_mut(index) else {
            return false;
        };
        let failed = match back {
            Ok((opened, port)) => {
                open.wanted_back = wanted_back(opened.interrupts.as_deref());
                open.control = Some(opened.control);
                open.interrupts = opened.interrupts;
                open.mac = port.mac();
                open.port = Some(port);
                self.bells.connect(open).err()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            open.absence.not_back = Some(error.to_string());
            open.let_go();
            supervision.end_driver(index);
            self.opened.let_go(index);
            return false;
        }
        if let Some(port) = &mut open.port {
            // What its link's vector said before the bells were connected, nobody heard.
            let _ = self.links.look(index, port);
        }
        open.absence.why = None;
        open.absence.not_back = None;
        open.absence.returns += 1;
        supervision.wake(workers);
        bring_queues(index, open, options, workers);
        true
    }

    fn reopen(&mut self, index: usize) -> Result<(open::OpenPort, N), RunError> {
        let opened = self.opened.reopen(index).map_err(device)?;
        let mut port = (self.make)(index, &opened)?;
        port.start().map_err(device)?;
        Ok((opened, port))
    }

    /// Looks at the links of the ports that are there. One that does not answer is found by who looks after devices.
    pub fn look_at_links(&mut self) {
        for (index, open) in self.list.iter_mut().enumerate() {
            if let Some(port) = &mut open.port {
                let _ = self.links.look(index, port);
            }
        }
    }

    /// Whether frames still pass between two ports, or from one to itself.
    pub fn any_goes_on(&self) -> bool {
        let count = self.list.len();
        let here = |index: usize| self.list.get(index).is_some_and(|open| open.port.is_some());
        (0..count).any(|index| here(index) && here(partner(index, count)))
    }
}

/// A port's queue pairs, from all workers.
fn take_queues<Q>(port: usize, workers: &[RunningWorker<Q>]) -> Result<Vec<Q>, RunError> {
    let mut queues = Vec::new();
    for worker in workers {
        let (to, from) = mpsc::channel();
        // One that has ended answers nothing either.
        let _ = worker.changes.send(Change::Take { port, to });
        if let Some(bell) = &worker.bell {
            bell.ring();
        }
        let taken = from.recv_timeout(ANSWER);
        queues.extend(taken.map_err(|_| {
            device("a worker does not give a port up that is gone; this is a defect, report it")
        })?);
    }
    Ok(queues)
}

/// Deals a port's queue pairs out to the workers, as at the start.
fn bring_queues<N: Net>(
    index: usize,
    open: &mut OpenPort<N>,
    options: &Options,
    workers: &[RunningWorker<N::Queue>],
) {
    let mut shares: Vec<Vec<N::Queue>> = workers.iter().map(|_| Vec::new()).collect();
    let queues = open.port.as_mut().map(Net::take_queues);
    for (pair, queue) in queues.into_iter().flatten().enumerate() {
        shares[pair % workers.len()].push(queue);
    }
    for (worker, queues) in workers.iter().zip(shares) {
        // A worker that has ended has no use for them; the run ends.
        let _ = worker.changes.send(Change::Bring {
            port: index,
            queues,
            rewrite: rewrite(options, index, open.mac),
        });
        if let Some(bell) = &worker.bell {
            bell.ring();
        }
    }
}
